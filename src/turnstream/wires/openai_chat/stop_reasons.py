"""Maps the stop reasons of chat.completions and its vendors to turnstream's, and back."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, StopReason
from turnstream.wires.shared.endings import Ending, ending_of, table_of

_ENDINGS = table_of(
    ("end_turn", "stop", "eos", "eos_token", "end_turn", "complete", "completed"),
    (
        "max_tokens",
        "length",
        "model_length",
        "max_tokens",
        "max_output_tokens",
        "model_context_window_exceeded",
    ),
    ("stop_sequence", "stop_sequence"),
    ("tool_use", "tool_calls", "tool_call", "tool_use", "function_call"),
    ("content_filtered", "content_filter", "content_filtered", "safety", "sensitive", "recitation"),
    ("refusal", "refusal"),
    (
        "failed",
        "error",
        "network_error",
        "abort",
        "aborted",
        "cancelled",
        "repetition_truncation",
        "malformed_function_call",
        "function_call_filter",
    ),
    ("overloaded", "insufficient_system_resource"),
)
"""All known words. `endings.ending_of` judges other words by their parts."""
_RAW_REASONS: dict[StopReason, str] = {
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


def failed_finish(raw: str | None) -> str | None:
    """Return the word if it means a failed answer, else None."""
    return raw if raw and ending_of(raw, _ENDINGS) in ("failed", "overloaded") else None


def is_known(raw: str) -> bool:
    return raw.lower() in _ENDINGS


def parse_ending(raw: str | None, *, refused: bool, called: bool, stop_sequence: str | None) -> Ending | None:
    """Return the ending for the provider's word, or None without a word.

    "stop" is ambiguous, so the other arguments decide its meaning.

    Args:
        raw: The provider's word, or None.
        refused: True if the answer is a refusal.
        called: True if the answer has tool calls. A forced call ends with "stop".
        stop_sequence: The stop sequence that ended the answer, or None.
    """
    if raw is None:
        return None
    ending = ending_of(raw, _ENDINGS)
    if ending != "end_turn":
        return ending
    if refused:
        return "refusal"
    if called:
        return "tool_use"
    return "stop_sequence" if stop_sequence is not None else ending


def dump_stop_reason(stop: MessageStop, *, refused: bool, called: bool) -> str:
    """Return the finish_reason.

    It is the raw word if that belongs to this API or its meaning is unknown. Otherwise it is turnstream's
    stop reason, converted.

    Args:
        stop: End of the answer.
        refused: True if the refusal was written in its own field.
        called: True if the answer has tool calls.
    """
    raw = stop.raw_stop_reason
    if raw in _OWN or (raw and stop.stop_reason == "unknown"):
        return raw
    if stop.stop_reason is None or stop.stop_reason == "unknown":
        return "tool_calls" if called else "stop"
    return "stop" if refused and stop.stop_reason == "refusal" else _RAW_REASONS[stop.stop_reason]
