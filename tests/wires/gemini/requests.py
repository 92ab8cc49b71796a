"""Requests to Gemini for the tests of both directions."""

from __future__ import annotations

import json
from typing import Any

from turnstream.core.blocks import Block, Message
from turnstream.wires.base import ModelRequest, ToolDefinition
from turnstream.wires.gemini.wire import WIRE

SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}}
TOOL = ToolDefinition("f", "does f", SCHEMA)


def said(role: Any, *blocks: Block) -> Message:
    return Message(
        role,
        tuple(Block(n, b.block_type, b.text_content, b.content, b.partial) for n, b in enumerate(blocks)),
    )


def text(words: str, content: Any = None) -> Block:
    return Block(0, "text", words, content)


def ask(*messages: Message, model: str = "gemini-3.8-flash", **fields: Any) -> ModelRequest:
    return ModelRequest(model, messages or (said("user", text("hi")),), **fields)


def body_of(request: ModelRequest) -> dict[str, Any]:
    return json.loads(WIRE.encode_request(request).body)
