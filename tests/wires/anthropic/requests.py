"""Requests of the anthropic wire for the tests of both directions."""

from __future__ import annotations

import json
from typing import Any

from turnstream.core.blocks import Block, Message
from turnstream.wires.anthropic.wire import WIRE
from turnstream.wires.base import ModelRequest


def body_of(request: ModelRequest) -> dict[str, Any]:
    return json.loads(WIRE.encode_request(request).body)


def message(role: Any, *blocks: Block) -> Message:
    return Message(role, blocks)


def text(value: str, **content: Any) -> Block:
    return Block(0, "text", value, content or None)
