"""Events at the end of Converse's streams and complete answers: stop reason and usage."""

from __future__ import annotations

from typing import Any

from turnstream.core.stream_events import Metadata, StreamEvent
from turnstream.wires.bedrock.stop_reasons import parse_ending
from turnstream.wires.bedrock.usage import parse_usage
from turnstream.wires.shared.endings import stop_event
from turnstream.wires.shared.json_values import JsonObject, is_object, text_in, without

PADDING = "p"
"""Field of every event that hides the length of the text. Its value has no meaning."""


def stop_events(event: JsonObject, *, has_output: bool) -> list[StreamEvent]:
    """Return the events of `messageStop`: the model's stop or failure, then the other fields as metadata.

    Raises ValueError if `stopReason` is not text.

    Args:
        has_output: True if the answer has content other than thinking.
    """
    raw = text_in(event, "stopReason") or None
    sequence = _stop_sequence(event.get("additionalModelResponseFields"))
    events: list[StreamEvent] = [stop_event(parse_ending(raw), raw, sequence, has_output=has_output)]
    if extra := without(event, "stopReason", PADDING):
        events.append(Metadata(provider_metadata=extra))
    return events


def usage_event(event: JsonObject) -> Metadata:
    """Return the content of `metadata`: usage, latency, trace, and the fields without an equivalent."""
    raw, metrics = event.get("usage"), event.get("metrics")
    usage = raw if is_object(raw) else None
    measured = metrics if is_object(metrics) else {}
    latency = measured.get("latencyMs")
    extra = without(event, "usage", "trace", "metrics", PADDING)
    if more := without(measured, "latencyMs"):
        extra["metrics"] = more
    return Metadata(
        parse_usage(usage) if usage is not None else None,
        usage,
        latency if type(latency) in (int, float) else None,
        event.get("trace"),
        extra or None,
    )


def _stop_sequence(additional: Any) -> str | None:
    """Return Claude's stop sequence from the fields that `additionalModelResponseFieldPaths` requested.

    Complete answers and streams have it in different places.
    """
    match additional:
        case {"stop_sequence": str(text)} | {"delta": {"stop_sequence": str(text)}}:
            return text
        case _:
            return None
