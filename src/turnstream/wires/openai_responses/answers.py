"""Encodes answers as one Responses object. The inverse is `answer_decoder`."""

from __future__ import annotations

from collections.abc import Iterator

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
from turnstream.wires.openai_responses.encoder import OpenAIResponsesEncoder
from turnstream.wires.openai_responses.items import arguments_of
from turnstream.wires.shared.lenient_json import encode_json


def encode_answer(answer: Answer, *, background: bool = False) -> bytes:
    """Return the response object, as at the end of a stream of the same answer."""
    encoder = OpenAIResponsesEncoder(
        model=answer.model or "", message_id=answer.id or "", background=background
    )
    encoder.feed(_events_of(answer))
    return encode_json(encoder.finish())


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
