"""End markers of frameworks that pass on their provider's own word for why a model stopped."""

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
    """Return the end marker for a framework's reason. A run that ended without a reason, or with one that is not known to
    break an answer off, is whole: the framework says so by its own end."""
    word = raw if isinstance(raw, str) else None
    return MessageStop(_NOT_CLEAN.get((word or "").lower(), "end_turn"), word)


def reason_in(metadata: Mapping[str, Any]) -> str | None:
    """Return the reason in a message's metadata, under any of the names that providers have for it."""
    return next((found for field in _FIELDS if isinstance(found := metadata.get(field), str)), None)
