"""Whether a provider of Responses keeps a response, and what it gives of its reasoning."""

from __future__ import annotations

KEEPING = ("background", "previous_response_id", "conversation")
"""Params with which the provider has to keep the response."""
ENCRYPTED = "reasoning.encrypted_content"
"""Part of a response that holds reasoning which the provider does not keep."""
SUMMARY = "auto"
"""Summary of the reasoning that is asked for unless the caller says otherwise."""
