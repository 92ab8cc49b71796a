"""chat.completions' words for why a model stopped, its vendors' own among them, and ours (requirement E3)."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, StopReason

_OURS: dict[str, StopReason] = {
    "stop": "end_turn",
    "eos": "end_turn",
    "eos_token": "end_turn",
    "end_turn": "end_turn",
    "length": "max_tokens",
    "model_length": "max_tokens",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
    "tool_call": "tool_use",
    "tool_use": "tool_use",
    "function_call": "tool_use",
    "content_filter": "content_filtered",
    "content_filtered": "content_filtered",
    "safety": "content_filtered",
    "sensitive": "content_filtered",
    "recitation": "content_filtered",
    "refusal": "refusal",
}
_THEIRS: dict[StopReason, str] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "refusal": "content_filter",
    "pause_turn": "stop",
}
_OWN = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_FAILED = frozenset(
    {"error", "network_error", "insufficient_system_resource", "abort", "aborted", "cancelled"}
)


def is_failure(raw: str | None) -> bool:
    """Whether the word says that the answer is not whole."""
    return raw is not None and raw.lower() in _FAILED


def is_known(raw: str) -> bool:
    return raw.lower() in _OURS


def parse_stop_reason(
    raw: str | None, *, refused: bool, called: bool, stop_sequence: str | None
) -> StopReason | None:
    """Our word; `unknown` for one that nobody told us of, None where none was given.

    "stop" alone does not say enough: it is also how an answer ends that refuses, that was cut by a stop sequence, or
    that was forced to call a tool.
    """
    if raw is None:
        return None
    reason = _OURS.get(raw.lower(), "unknown")
    if reason != "end_turn":
        return reason
    if refused:
        return "refusal"
    if called:
        return "tool_use"
    return "stop_sequence" if stop_sequence is not None else reason


def dump_stop_reason(stop: MessageStop, *, refused: bool, called: bool) -> str:
    """chat.completions' word: the raw one where it is one of its own, or one for which we had no word."""
    raw = stop.raw_stop_reason
    if raw in _OWN or (raw and stop.stop_reason == "unknown"):
        return raw
    if stop.stop_reason is None or stop.stop_reason == "unknown":
        return "tool_calls" if called else "stop"
    return "stop" if refused and stop.stop_reason == "refusal" else _THEIRS[stop.stop_reason]
