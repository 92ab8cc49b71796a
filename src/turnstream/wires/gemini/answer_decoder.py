"""Decodes complete (non-streamed) answers of Gemini into StreamEvents."""

from __future__ import annotations

from turnstream.core.stream_events import StreamEvent
from turnstream.errors import MalformedEvent
from turnstream.wires.base import DEFAULT_EVENT_LIMIT
from turnstream.wires.gemini.decoder import GeminiDecoder


def decode_answer(body: bytes) -> list[StreamEvent]:
    """Return the events that a stream of the same answer would have had.

    Raises MalformedEvent if the body is not an answer.
    """
    decoder = GeminiDecoder(event_limit=max(DEFAULT_EVENT_LIMIT, len(body)), on_malformed="fail")
    events = decoder.feed(body.strip())
    if not decoder.found_answer and not events:
        raise MalformedEvent("the answer is not a GenerateContentResponse")
    return events + decoder.end_answer()
