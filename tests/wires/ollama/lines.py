"""Lines of Ollama's protocol as servers write them."""

from __future__ import annotations

import json
from typing import Any

from turnstream.core.stream_events import (
    MessageStart,
    StreamEvent,
)
from turnstream.wires.ollama.wire import WIRE
from turnstream.wires.recording import decode_pieces

START = MessageStart(None, "m")
PNG = "iVBORw0KGgoAAAANSUhEUg=="


def line(message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    said = {} if message is None else {"message": {"role": "assistant", "content": "", **message}}
    value = {"model": "m", "created_at": "2026-01-01T00:00:00Z", **said, "done": False, **fields}
    return json.dumps(value).encode() + b"\n"


def done(message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    return line(message or {}, **{"done": True, "done_reason": "stop", **fields})


def text(*pieces: str) -> bytes:
    return b"".join(line({"content": piece}) for piece in pieces)


def call(name: str, arguments: Any, **fields: Any) -> dict[str, Any]:
    return {**fields, "function": {"name": name, "arguments": arguments}}


def decode(data: bytes) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return [*decoder.feed(data), *decoder.close()]


def message_of(data: bytes) -> dict[str, Any]:
    """Return the decoded message. It is the same for every cut."""
    whole = decode_pieces(WIRE, [data])
    for place in range(1, len(data)):
        assert decode_pieces(WIRE, [data[:place], data[place:]]) == whole
    return whole
