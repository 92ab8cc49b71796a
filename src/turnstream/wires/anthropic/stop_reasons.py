"""Conversions between Anthropic's stop reasons and turnstream's."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, StopReason
from turnstream.wires.shared.endings import Ending, ending_of, means_reason, table_of

_ENDINGS = table_of(
    ("end_turn", "end_turn"),
    ("max_tokens", "max_tokens", "model_context_window_exceeded"),
    ("stop_sequence", "stop_sequence"),
    ("tool_use", "tool_use"),
    ("pause_turn", "pause_turn"),
    ("refusal", "refusal"),
)
_RAW_REASONS: dict[StopReason, str] = {
    "content_filtered": "refusal",
    "guardrail_intervened": "refusal",
    "unknown": "end_turn",
}


def parse_ending(raw: str | None) -> Ending | None:
    """Return the meaning of a stop reason, or None if there is none."""
    return None if raw is None else ending_of(raw, _ENDINGS)


def dump_stop(stop: MessageStop | None, sequence: str | None = None) -> dict[str, str | None]:
    """Return the fields of a message that describe its end.

    `sequence`: the stop sequence to report if the answer ended at one that `stop` does not name, or None.
    """
    reason = None if stop is None else dump_stop_reason(stop)
    named = None if stop is None else stop.stop_sequence
    return {
        "stop_reason": reason,
        "stop_sequence": named or (sequence if reason == "stop_sequence" else None),
    }


def dump_stop_reason(stop: MessageStop) -> str | None:
    """Return Anthropic's stop reason.

    Keep the raw word if it is Anthropic's for the same reason. Never use another provider's raw word.
    """
    reason, raw = stop.stop_reason, stop.raw_stop_reason
    if reason is None:
        return None
    if raw is not None and means_reason(raw, reason, _ENDINGS):
        return raw
    return _RAW_REASONS.get(reason, reason)
