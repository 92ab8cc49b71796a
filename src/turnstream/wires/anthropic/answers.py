"""Answers of Anthropic Messages that are no streams: one JSON object."""

from __future__ import annotations

from turnstream.core.answers import Answer
from turnstream.core.blocks import Block
from turnstream.core.sse import encode_event
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import MalformedEvent
from turnstream.wires.anthropic.blocks import RawBlock, dump_block
from turnstream.wires.anthropic.decoder import AnthropicDecoder
from turnstream.wires.anthropic.stop_reasons import dump_stop_reason
from turnstream.wires.anthropic.usage import dump_usage
from turnstream.wires.anthropic.whole_messages import stream_of
from turnstream.wires.shared.failure_shapes import failure_in
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_json

_LONGEST_DETAIL = 500


def encode_answer(answer: Answer) -> bytes:
    """The message object. Unlike in a history, everything that was said is in it."""
    stop = answer.stop
    return encode_json(
        {
            "id": answer.id,
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": [_dump(block) for block in answer.blocks],
            "stop_reason": dump_stop_reason(stop) if stop else None,
            "stop_sequence": stop.stop_sequence if stop else None,
            "usage": dump_usage(answer.usage, answer.raw_usage),
        }
    )


def decode_answer(body: bytes) -> list[StreamEvent]:
    """The events of the stream that would have brought the message; see `Wire.decode_answer`."""
    try:
        value = decode_json(body)
    except ValueError as error:
        raise _no_answer(body) from error
    message = value if is_object(value) else {}
    if message.get("type") == "error" or "error" in message:
        frames = [_frame({**message, "type": "error"})]
    elif (events := stream_of(message)) is not None:
        frames = [_frame(event) for event in events]
    elif (reported := failure_in(message)) is not None:
        frames = [_frame({**reported, "type": "error"})]
    else:
        raise _no_answer(body)
    decoder = AnthropicDecoder(event_limit=2 * len(body) + 1024, on_malformed="fail")
    events = decoder.feed(b"".join(frames))
    return events + decoder.close()


def _dump(block: Block) -> RawBlock:
    content = block.content or {}
    raw = dump_block(block.block_type, content, block.text_content or "")
    if block.block_type == "tool_use" and content.get("input") is None:
        raw["input"] = content.get("input_json", "")
    return raw


def _frame(event: JsonObject) -> bytes:
    return encode_event(encode_json(event))


def _no_answer(body: bytes) -> MalformedEvent:
    detail = body[:_LONGEST_DETAIL].decode(errors="replace")
    return MalformedEvent("the answer is no message of this API", detail=detail)
