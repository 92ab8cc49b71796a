"""Requests that read a stored answer again."""

from __future__ import annotations

from turnstream.wires.base import Position
from turnstream.wires.openai_responses.wire import WIRE


def test_a_stored_answer_is_read_from_its_beginning_without_a_position():
    assert WIRE.encode_resume is not None
    request = WIRE.encode_resume(Position("resp 1", -1))
    assert (request.method, request.path) == ("GET", "/responses/resp%201?stream=true")
