"""Streams of Gemini as the API writes them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from turnstream.core.stream_events import (
    MessageStart,
    StreamEvent,
)
from turnstream.wires.gemini.wire import WIRE
from turnstream.wires.recording import decode_pieces

START = MessageStart("r1", "m")

PNG = "iVBORw0KGgoAAAANSUhEUg=="


def chunk(*parts: dict[str, Any], reason: str | None = None, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "r1", **fields}


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in chunks)


def end(*parts: dict[str, Any], reason: str = "STOP", **fields: Any) -> dict[str, Any]:
    return chunk(*parts, reason=reason, **fields)


def decode(data: bytes, **options: Any) -> list[StreamEvent]:
    decoder = WIRE.decoder(**options)
    return [*decoder.feed(data), *decoder.close()]


def message_of(*chunks: Any) -> dict[str, Any]:
    """Return the decoded message. It is the same in every framing and for every cut."""
    data = sse(*chunks)
    whole = decode_pieces(WIRE, [data])
    for framed in (
        data,
        json.dumps(chunks, indent=2).encode(),
        json.dumps(chunks).encode(),
        b"[" + b"\n,\r\n".join(json.dumps(value).encode() for value in chunks) + b"\n]\n",
    ):
        for place in range(1, len(framed), 1 + len(framed) // 40):
            assert decode_pieces(WIRE, [framed[:place], framed[place:]]) == whole
    return whole


def blocks_of(*chunks: Any) -> list[tuple[str, str | None, Any]]:
    blocks = message_of(*chunks)["blocks"]
    return [(block["block_type"], block["text_content"], block["content"]) for block in blocks]


def call(name: str, args: Any = None, **fields: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, **({} if args is None else {"args": args}), **fields}}


def pieces(*arguments: dict[str, Any], more: bool = True, **fields: Any) -> dict[str, Any]:
    told = {**({"partialArgs": list(arguments)} if arguments else {}), **fields}
    return {"functionCall": {**told, "willContinue": True} if more else told}


def arg(path: str, value: Any = None, *, more: bool = False) -> dict[str, Any]:
    kind = {str: "stringValue", bool: "boolValue", int: "numberValue", float: "numberValue"}.get(type(value))
    said = {"nullValue": "NULL_VALUE"} if kind is None else {kind: value}
    return {"jsonPath": path, **said, **({"willContinue": True} if more else {})}


json_leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12)
