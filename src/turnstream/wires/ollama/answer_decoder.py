"""Decodes complete (non-streamed) answers of Ollama's `/api/chat` into StreamEvents.

Such an answer is one JSON object, like a stream of one line.
"""

from __future__ import annotations

from turnstream.core.stream_events import StreamEvent
from turnstream.errors import MalformedEvent, StreamIncomplete
from turnstream.wires.ollama.decoder import OllamaDecoder
from turnstream.wires.ollama.lines import read_line
from turnstream.wires.shared.lenient_json import encode_json


def decode_answer(body: bytes) -> list[StreamEvent]:
    """Return the events that a stream of the same answer would have had. See `Wire.decode_answer`.

    Raises MalformedEvent if the body is not an answer, or the answer is not done.
    """
    line = encode_json(read_line(body))
    decoder = OllamaDecoder(event_limit=2 * len(body) + 1024, on_malformed="fail")
    try:
        events = decoder.feed(line + b"\n")
        return events + decoder.close()
    except StreamIncomplete as error:
        raise MalformedEvent('the answer has no "done": true') from error
