"""Conversions between Bedrock's stop reasons and turnstream's."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, StopReason
from turnstream.wires.shared.endings import Ending, ending_of, means_reason, table_of

_ENDINGS = table_of(
    ("end_turn", "end_turn"),
    ("tool_use", "tool_use"),
    ("max_tokens", "max_tokens", "model_context_window_exceeded"),
    ("stop_sequence", "stop_sequence"),
    ("guardrail_intervened", "guardrail_intervened"),
    ("content_filtered", "content_filtered"),
    ("refusal", "refusal"),
    ("pause_turn", "pause_turn"),
    ("failed", "malformed_model_output", "malformed_tool_use"),
)
_RAW_REASONS: dict[StopReason, str] = {
    "refusal": "content_filtered",
    "pause_turn": "end_turn",
    "unknown": "end_turn",
}


def parse_ending(raw: str | None) -> Ending | None:
    """Return the meaning of a stop reason, or None if there is none."""
    return None if raw is None else ending_of(raw, _ENDINGS)


def dump_stop_reason(stop: MessageStop) -> str:
    """Return Bedrock's stop reason.

    Keep the raw word if it is Bedrock's for the same reason. Never use another provider's raw word.
    """
    reason, raw = stop.stop_reason, stop.raw_stop_reason
    if raw is not None and means_reason(raw, reason, _ENDINGS):
        return raw
    return _RAW_REASONS.get(reason, reason) if reason is not None else "end_turn"
