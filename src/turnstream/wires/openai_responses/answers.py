"""Answers of Responses that are no streams: one JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from turnstream.core.answers import Answer
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    Metadata,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.errors import MalformedEvent
from turnstream.wires.base import DEFAULT_EVENT_LIMIT
from turnstream.wires.openai_responses.decoder import OpenAIResponsesDecoder
from turnstream.wires.openai_responses.encoder import OpenAIResponsesEncoder
from turnstream.wires.openai_responses.items import arguments_of
from turnstream.wires.shared.json_values import is_list, is_object, read_json
from turnstream.wires.shared.lenient_json import encode_json, mend_surrogates
from turnstream.wires.shared.openai_errors import read_error, stream_error


def encode_answer(answer: Answer, *, background: bool = False) -> bytes:
    """The response object: the one with which the stream of the same answer ends."""
    encoder = OpenAIResponsesEncoder(
        model=answer.model or "", message_id=answer.id or "", background=background
    )
    encoder.feed(_events_of(answer))
    return encode_json(encoder.finish())


def decode_answer(body: bytes) -> list[StreamEvent]:
    """The events that the stream of the answer would have had. Raises MalformedEvent for what is no response."""
    value: Any = mend_surrogates(read_json(body))
    if not is_object(value) or not is_list(value.get("output")):
        if (reported := read_error(value)) is None:
            raise MalformedEvent("the answer is not a response object")
        return [stream_error(reported)]
    decoder = OpenAIResponsesDecoder(event_limit=max(DEFAULT_EVENT_LIMIT, len(body)), on_malformed="fail")
    return decoder.take_whole(value)


def _events_of(answer: Answer) -> Iterator[StreamEvent]:
    yield MessageStart(answer.id, answer.model)
    for block in answer.blocks:
        yield ContentBlockStart(block.sequence, block.block_type, block.content)
        if (delta := _delta_of(block)) is not None:
            yield delta
        yield ContentBlockStop(block.sequence)
    yield Metadata(answer.usage, answer.raw_usage)
    if answer.stop is not None:
        yield answer.stop


def _delta_of(block: Block) -> StreamEvent | None:
    if block.block_type == "tool_use":
        text = arguments_of(block)
        return ToolInputDelta(block.sequence, text) if text else None
    if not block.text_content:
        return None
    if block.block_type == "thinking":
        return ThinkingDelta(block.sequence, block.text_content)
    return TextDelta(block.sequence, block.text_content)
