"""Whole answers of Gemini as StreamEvents."""

from __future__ import annotations

from turnstream.core.stream_events import StreamEvent
from turnstream.errors import MalformedEvent
from turnstream.wires.base import DEFAULT_EVENT_LIMIT
from turnstream.wires.gemini.decoder import GeminiDecoder


def decode_answer(body: bytes) -> list[StreamEvent]:
    """Return the events that the answer's stream would have had. Raises MalformedEvent for what is no answer."""
    decoder = GeminiDecoder(event_limit=max(DEFAULT_EVENT_LIMIT, len(body)), on_malformed="fail")
    events = decoder.feed(body.strip())
    if not decoder.found_answer and not events:
        raise MalformedEvent("the answer is no GenerateContentResponse")
    return events + decoder.end_answer()
