"""Decodes complete (non-streamed) answers of Anthropic Messages into StreamEvents."""

from __future__ import annotations

from turnstream.core.sse import encode_event
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import MalformedEvent
from turnstream.wires.anthropic.decoder import AnthropicDecoder
from turnstream.wires.anthropic.errors import ERRORS
from turnstream.wires.anthropic.whole_messages import stream_of
from turnstream.wires.shared.json_values import detail_of, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_json

_NO_ANSWER = "the answer is not a message of this API"


def decode_answer(body: bytes) -> list[StreamEvent]:
    """Return the events that a stream of the same message would have had. See `Wire.decode_answer`.

    Raises MalformedEvent if the body is neither a message nor an error.
    """
    try:
        value = decode_json(body)
    except ValueError as error:
        raise MalformedEvent(_NO_ANSWER, detail=detail_of(body)) from error
    message = value if is_object(value) else {}
    if message.get("type") == "error" or "error" in message:
        events = iter(({**message, "type": "error"},))
    elif (found := stream_of(message)) is not None:
        events = found
    elif (reported := ERRORS.read(message)) is not None:
        return [ERRORS.stream_error(reported)]
    else:
        raise MalformedEvent(_NO_ANSWER, detail=detail_of(body))
    decoder = AnthropicDecoder(event_limit=2 * len(body) + 1024, on_malformed="fail")
    said = decoder.feed(b"".join(encode_event(encode_json(event)) for event in events))
    return said + decoder.close()
