"""Ollama's counts and durations, and its words for why a model stopped."""

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
_THEIRS: dict[StopReason, str] = {
    "max_tokens": "length",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "refusal": "refusal",
}


def read_counts(raw: JsonObject) -> Metadata:
    """The counts of a final line: tokens as usage, all as they were sent, and the total duration as latency."""
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
    """The counts of a final line: the server's own where they were of this wire."""
    if raw is not None and any(key.endswith(("_count", "_duration")) for key in raw):
        return raw
    found: JsonObject = {}
    if latency_ms is not None:
        found["total_duration"] = round(latency_ms * _NANOSECONDS_PER_MILLISECOND)
    if usage is not None:
        beside = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
        separate = raw is not None and "input_tokens" in raw
        found["prompt_eval_count"] = (usage.input_tokens or 0) + (beside if separate else 0)
        found["eval_count"] = usage.output_tokens or 0
    return found


def parse_ending(raw: str | None, *, called: bool) -> Ending | None:
    """Return what the word means; None if none was given. Ollama says "stop" also where the model calls tools, and "load"
    where it loaded the model and asked it nothing."""
    ending = ending_of(raw, _ENDINGS) if raw else None
    return "tool_use" if called and ending in (None, "end_turn") else ending


def dump_stop_reason(stop: MessageStop) -> str:
    """Ollama's word: the raw one where it is its own, or one for which we had no word."""
    raw = stop.raw_stop_reason
    if raw and (raw in _ENDINGS or stop.stop_reason == "unknown"):
        return raw
    return "stop" if stop.stop_reason is None else _THEIRS.get(stop.stop_reason, "stop")
