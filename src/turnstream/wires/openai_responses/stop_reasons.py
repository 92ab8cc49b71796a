"""Ends of a response, in its words and in ours."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, StopReason
from turnstream.wires.shared.endings import Ending, ending_of

_ENDINGS: dict[str, Ending] = {
    "max_output_tokens": "max_tokens",
    "max_tokens": "max_tokens",
    "content_filter": "content_filtered",
}
"""Reasons of an incomplete response. `endings.ending_of` judges others by their parts."""
_THEIRS: dict[StopReason | None, str] = {
    "max_tokens": "max_output_tokens",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
COMPLETED = "completed"


def parse_ending(status: str, reason: str | None, *, refused: bool, called: bool) -> tuple[Ending, str]:
    """Return what the `status` of the response means, with the `reason` of an incomplete one; and the word for it.

    "completed" alone does not say enough: a response that refuses and one that calls tools end so too.
    """
    if status == COMPLETED:
        return "refusal" if refused else "tool_use" if called else "end_turn", COMPLETED
    raw = reason or status
    return ending_of(raw, _ENDINGS), raw


def dump_stop_reason(stop: MessageStop) -> str | None:
    """The reason for which a response is incomplete; None for one that is complete."""
    raw = stop.raw_stop_reason
    if raw in _ENDINGS:
        return raw
    if stop.stop_reason == "unknown" and raw and raw != COMPLETED:
        return raw
    return _THEIRS.get(stop.stop_reason)
