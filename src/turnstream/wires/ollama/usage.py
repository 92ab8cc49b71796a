"""Conversions of Ollama's counts, durations and stop reasons."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, Metadata, StopReason
from turnstream.core.usage import Usage
from turnstream.wires.shared.endings import Ending, ending_of, table_of
from turnstream.wires.shared.json_values import JsonObject, first_count

_NANOSECONDS_PER_MILLISECOND = 1_000_000

_ENDINGS = table_of(
    ("end_turn", "stop"),
    ("failed", "load", "unload"),
    ("max_tokens", "length", "limit"),
    ("tool_use", "tool_calls"),
    ("content_filtered", "content_filter"),
    ("refusal", "refusal"),
)
_RAW_REASONS: dict[StopReason, str] = {
    "max_tokens": "length",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "refusal": "refusal",
}


def read_counts(raw: JsonObject) -> Metadata:
    """Return the counts of a final line: tokens as usage, the total duration as latency, all values raw."""
    total = first_count(raw.get("total_duration"))
    return Metadata(
        Usage(
            input_tokens=first_count(raw.get("prompt_eval_count")),
            output_tokens=first_count(raw.get("eval_count")),
        ),
        raw,
        latency_ms=None if total is None else total / _NANOSECONDS_PER_MILLISECOND,
    )


def write_counts(usage: Usage | None, raw: JsonObject | None, latency_ms: float | None) -> JsonObject:
    """Return the counts of a final line.

    Args:
        usage: Token counts, or None.
        raw: The provider's own counts, or None. They are returned unchanged if they are of this wire.
        latency_ms: Duration of the call (milliseconds), or None.
    """
    if raw is not None and any(key.endswith(("_count", "_duration")) for key in raw):
        return raw
    found: JsonObject = {}
    if latency_ms is not None:
        found["total_duration"] = round(latency_ms * _NANOSECONDS_PER_MILLISECOND)
    if usage is not None:
        cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
        separate = raw is not None and "input_tokens" in raw
        found["prompt_eval_count"] = (usage.input_tokens or 0) + (cached if separate else 0)
        found["eval_count"] = usage.output_tokens or 0
    return found


def durations(total: int, first_output: int) -> JsonObject:
    """Return the durations of a final line (nanoseconds).

    Args:
        total: Time from the request to the end.
        first_output: Time from the request to the first output, or 0 if it is not known.
    """
    return {
        "total_duration": total,
        "load_duration": 0,
        "prompt_eval_duration": first_output,
        "eval_duration": total - first_output,
    }


def parse_ending(raw: str | None, *, called: bool) -> Ending | None:
    """Return the meaning of a stop reason, or None if there is none.

    Ollama also sends "stop" when the model calls tools, and "load" when it loaded the model without a prompt.
    """
    ending = ending_of(raw, _ENDINGS) if raw else None
    return "tool_use" if called and ending in (None, "end_turn") else ending


def dump_stop_reason(stop: MessageStop) -> str:
    """Return Ollama's stop reason. Keep the raw word if it is Ollama's, or if its meaning is unknown."""
    raw = stop.raw_stop_reason
    if raw and (raw in _ENDINGS or stop.stop_reason == "unknown"):
        return raw
    return "stop" if stop.stop_reason is None else _RAW_REASONS.get(stop.stop_reason, "stop")
