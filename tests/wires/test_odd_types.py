"""A field of any JSON type, at any place where a wire expects a word, ends in an answer or in an error of
ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from turnstream.core.blocks import Block, Message
from turnstream.errors import TurnstreamError
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest
from turnstream.wires.recording import decode_pieces, frame_line

pytestmark = pytest.mark.fault(11)

FIELDS = (
    "type", "status", "role", "event", "object", "code", "error", "message", "kind", "id", "item_id", "name", "phase",
    "reason", "finish_reason", "stop_reason", "done_reason", "finishReason", "stopReason", "response", "delta", "item",
)  # fmt: skip
ASKED = ModelRequest("m", (Message("user", (Block(0, "text", "x"),)),))
ODD: tuple[Any, ...] = ([], {}, [1], True, 1.5)


def bodies() -> Iterator[dict[str, Any]]:
    for field in FIELDS:
        for value in ODD:
            odd = {field: value}
            yield odd
            yield {"message": "boom", **odd}
            yield {"error": odd}
            yield {"type": "response.completed", "response": odd}
            yield {"type": "response.output_item.added", "item": {"type": "message", **odd}}
            yield {"type": "content_block_start", "index": 0, "content_block": odd}
            yield {
                "choices": [{"delta": {"content": [odd], "tool_calls": [odd], "reasoning_details": [odd]}}]
            }
            yield {"choices": [{"index": 0, "delta": {"content": "x"}, **odd}]}
            yield {"candidates": [{"content": {"parts": [odd]}, **odd}]}
            yield {"message": odd, "done": True}
            yield {"contentBlockStart": odd}
            yield {"messageStop": odd}


def requests() -> Iterator[dict[str, Any]]:
    for field in FIELDS:
        for value in ODD:
            odd = {field: value}
            for inner in (
                odd,
                {"role": "user", "content": [odd]},
                {"role": "assistant", "tool_calls": [odd]},
            ):
                said = [{"role": "user", "content": "x"}, inner]
                yield {
                    "model": "m",
                    "max_tokens": 9,
                    "messages": said,
                    "input": said,
                    "contents": said,
                    "tools": [odd],
                }


@pytest.mark.parametrize("wire", WIRES.values(), ids=lambda wire: wire.name)
def test_no_type_of_a_field_breaks_a_decoder(wire: Any) -> None:
    for body in bodies():
        line = json.dumps(body).encode()
        frame = frame_line(wire, line)
        decode_pieces(wire, [frame, frame])  # errors of the stream are part of what it returns
        assert isinstance(wire.decode_error(400, {}, line), TurnstreamError)
        try:
            wire.decode_answer(line)
        except TurnstreamError:
            continue


@pytest.mark.parametrize("wire", WIRES.values(), ids=lambda wire: wire.name)
def test_no_type_of_a_field_breaks_the_reading_of_requests(wire: Any) -> None:
    path = wire.encode_request(ASKED).path
    for body in requests():
        try:
            wire.decode_request(path, json.dumps(body).encode())
        except TurnstreamError:
            continue
