"""Whole answers of Ollama's `/api/chat` as StreamEvents: one JSON object, which is a stream of one line."""

from __future__ import annotations

from turnstream.core.stream_events import StreamEvent
from turnstream.errors import MalformedEvent, StreamIncomplete
from turnstream.wires.ollama.decoder import OllamaDecoder
from turnstream.wires.ollama.lines import read_line
from turnstream.wires.shared.lenient_json import encode_json


def decode_answer(body: bytes) -> list[StreamEvent]:
    """Return the events of the stream that would have brought the answer; see `Wire.decode_answer`."""
    line = encode_json(read_line(body))
    decoder = OllamaDecoder(event_limit=2 * len(body) + 1024, on_malformed="fail")
    try:
        events = decoder.feed(line + b"\n")
        return events + decoder.close()
    except StreamIncomplete as error:
        raise MalformedEvent("the answer does not say that it is done") from error
