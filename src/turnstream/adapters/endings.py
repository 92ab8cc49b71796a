"""End markers for frameworks that pass on their provider's finish reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnstream.core.stream_events import MessageStop, StopReason

_FIELDS = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_NOT_CLEAN: dict[str, StopReason] = {
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "model_length": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "content_filter": "content_filtered",
    "content_filtered": "content_filtered",
    "safety": "content_filtered",
    "guardrail_intervened": "guardrail_intervened",
    "refusal": "refusal",
    "error": "unknown",
}


def end_of(raw: object) -> MessageStop:
    """Return the end marker for a framework's finish reason.

    A run without a reason, or with an unknown one, counts as complete, as the framework has ended it
    normally.
    """
    word = raw if isinstance(raw, str) else None
    return MessageStop(_NOT_CLEAN.get((word or "").lower(), "end_turn"), word)


def reason_in(metadata: Mapping[str, Any]) -> str | None:
    """Return the finish reason in a message's metadata, under any of the names that providers use."""
    return next((found for field in _FIELDS if isinstance(found := metadata.get(field), str)), None)
