"""Bedrock's words for why a model stopped, and ours (requirement E3)."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, StopReason

_OURS: dict[str, StopReason] = {
    "end_turn": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "stop_sequence": "stop_sequence",
    "guardrail_intervened": "guardrail_intervened",
    "content_filtered": "content_filtered",
    "refusal": "refusal",
    "pause_turn": "pause_turn",
}
_THEIRS: dict[StopReason, str] = {
    "refusal": "content_filtered",
    "pause_turn": "end_turn",
    "unknown": "end_turn",
}


def parse_stop_reason(raw: str | None) -> StopReason | None:
    """Our word; `unknown` for one that has none, such as `malformed_tool_use`, None where none was given."""
    return None if raw is None else _OURS.get(raw, "unknown")


def dump_stop_reason(stop: MessageStop) -> str:
    """Bedrock's word. The raw one, if it means the same here; another provider's raw word never."""
    reason, raw = stop.stop_reason, stop.raw_stop_reason
    if raw is not None and (parse_stop_reason(raw) == reason or raw.startswith("malformed_")):
        return raw
    return _THEIRS.get(reason, reason) if reason is not None else "end_turn"
