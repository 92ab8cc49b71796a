"""Anthropic's words for why a model stopped, and ours (requirement E3)."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, StopReason

_OURS: dict[str, StopReason] = {
    "end_turn": "end_turn",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "pause_turn": "pause_turn",
    "refusal": "refusal",
}
_THEIRS: dict[StopReason, str] = {
    "content_filtered": "refusal",
    "guardrail_intervened": "refusal",
    "unknown": "end_turn",
}


def parse_stop_reason(raw: str | None) -> StopReason | None:
    """Our word; `unknown` for one that this wire does not know, None where none was given."""
    return None if raw is None else _OURS.get(raw, "unknown")


def dump_stop_reason(stop: MessageStop) -> str | None:
    """Anthropic's word. The raw one, if it is Anthropic's for the same reason; another provider's raw word never."""
    reason, raw = stop.stop_reason, stop.raw_stop_reason
    if reason is None:
        return None
    if raw is not None and parse_stop_reason(raw) == reason:
        return raw
    return _THEIRS.get(reason, reason)
