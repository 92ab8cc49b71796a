"""Events of Anthropic Messages as the API writes them."""

from __future__ import annotations

import json
from typing import Any, Literal

from turnstream.core.stream_events import (
    StreamEvent,
)
from turnstream.wires.anthropic.wire import WIRE

STOP = {"type": "message_stop"}


def frame(event: Any, name: str | None = None) -> bytes:
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + data + b"\n\n"


def start(usage: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    message = {"id": "m", "model": "c", "role": "assistant", "content": [], **fields}
    return {"type": "message_start", "message": message | ({"usage": usage} if usage is not None else {})}


def block_start(block: Any, index: Any = 0) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(fields: Any, index: Any = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def text(value: str, index: int = 0) -> dict[str, Any]:
    return delta({"type": "text_delta", "text": value}, index)


def decode(*events: Any, on_malformed: Literal["fail", "skip"] = "fail") -> list[StreamEvent]:
    return WIRE.decoder(on_malformed=on_malformed).feed(
        b"".join(e if isinstance(e, bytes) else frame(e) for e in events)
    )
