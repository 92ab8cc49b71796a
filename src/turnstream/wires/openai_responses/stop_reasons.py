"""Maps the ends of a response to turnstream's stop reasons, and back."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, StopReason
from turnstream.wires.shared.endings import Ending, ending_of

_ENDINGS: dict[str, Ending] = {
    "max_output_tokens": "max_tokens",
    "max_tokens": "max_tokens",
    "content_filter": "content_filtered",
}
"""Reasons of an incomplete response. `endings.ending_of` judges other words by their parts."""
_RAW_REASONS: dict[StopReason | None, str] = {
    "max_tokens": "max_output_tokens",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
COMPLETED = "completed"


def parse_ending(status: str, reason: str | None, *, refused: bool, called: bool) -> tuple[Ending, str]:
    """Return the ending of a response, and the provider's word for it.

    Args:
        status: Status of the response.
        reason: Reason of an incomplete response, or None.
        refused: True if the answer is a refusal. "completed" does not show it.
        called: True if the answer has tool calls. "completed" does not show it.
    """
    if status == COMPLETED:
        return "refusal" if refused else "tool_use" if called else "end_turn", COMPLETED
    raw = reason or status
    return ending_of(raw, _ENDINGS), raw


def dump_stop_reason(stop: MessageStop) -> str | None:
    """Return the reason of an incomplete response, or None for a complete response."""
    raw = stop.raw_stop_reason
    if raw in _ENDINGS:
        return raw
    if stop.stop_reason == "unknown" and raw and raw != COMPLETED:
        return raw
    return _RAW_REASONS.get(stop.stop_reason)
