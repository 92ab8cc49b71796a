"""Events of Converse after the model has stopped, in its streams and in its whole answers: why, and what was used."""

from __future__ import annotations

from typing import Any

from turnstream.core.stream_events import Metadata, StreamEvent
from turnstream.wires.bedrock.stop_reasons import parse_ending
from turnstream.wires.bedrock.usage import parse_usage
from turnstream.wires.shared.endings import stop_event
from turnstream.wires.shared.json_values import JsonObject, is_object, text_in, without

PADDING = "p"
"""A field of every event that says nothing: it hides how long the text is."""


def stop_events(event: JsonObject, *, said: bool) -> list[StreamEvent]:
    """Return what `messageStop` says: the model's end marker, or its failure, then what was told with it. `said`: the answer
    has content besides thinking. Raises ValueError."""
    raw = text_in(event, "stopReason") or None
    sequence = _stop_sequence(event.get("additionalModelResponseFields"))
    events: list[StreamEvent] = [stop_event(parse_ending(raw), raw, sequence, said=said)]
    if beside := without(event, "stopReason", PADDING):
        events.append(Metadata(provider_metadata=beside))
    return events


def usage_event(event: JsonObject) -> Metadata:
    """Return the events of `metadata`: usage, latency, trace, and what else is told of the message as a whole."""
    raw, metrics = event.get("usage"), event.get("metrics")
    usage = raw if is_object(raw) else None
    measured = metrics if is_object(metrics) else {}
    latency = measured.get("latencyMs")
    told = without(event, "usage", "trace", "metrics", PADDING)
    if more := without(measured, "latencyMs"):
        told["metrics"] = more
    return Metadata(
        parse_usage(usage) if usage is not None else None,
        usage,
        latency if type(latency) in (int, float) else None,
        event.get("trace"),
        told or None,
    )


def _stop_sequence(additional: Any) -> str | None:
    """Return fields that `additionalModelResponseFieldPaths` asked for: as Claude's whole answers have it, or its streams."""
    match additional:
        case {"stop_sequence": str(text)} | {"delta": {"stop_sequence": str(text)}}:
            return text
        case _:
            return None
