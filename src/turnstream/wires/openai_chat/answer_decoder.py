"""Decodes whole answers of chat.completions into StreamEvents."""

from __future__ import annotations

from turnstream.core.stream_events import StreamEvent
from turnstream.errors import MalformedEvent, StreamIncomplete
from turnstream.wires.openai_chat.decoder import OpenAIChatDecoder
from turnstream.wires.shared.json_values import detail_of, is_object, read_json
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.openai_errors import ERRORS


def decode_answer(body: bytes) -> list[StreamEvent]:
    """Return the events of a whole chat.completion. See `Wire.decode_answer`.

    The stream's decoder reads it: it accepts a chunk whose choices hold whole messages.
    """
    value = read_json(body)
    if not is_object(value) or not (value.get("choices") or ERRORS.read(value) is not None):
        raise MalformedEvent("the answer is not a chat.completion", detail=detail_of(body))
    decoder = OpenAIChatDecoder(event_limit=2 * len(body) + 1024, on_malformed="fail")
    chunk = encode_json({**value, "object": "chat.completion.chunk"})
    try:
        events = decoder.feed(b"data: %b\n\ndata: [DONE]\n\n" % chunk)
        return events + decoder.close()
    except StreamIncomplete as error:
        raise MalformedEvent("the answer has neither content nor a finish_reason") from error
