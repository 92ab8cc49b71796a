"""Parts of requests that several rows of `request_cases` share."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.wires.base import ModelRequest, ToolDefinition

Body = dict[str, Any]

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
PDF = base64.b64encode(b"%PDF-1.7").decode()
SIGNATURE = base64.b64encode(b"\xfb\xff\xfe").decode()
"""Bytes whose base64 has both of its special characters."""
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = {**SCHEMA, "additionalProperties": False}
FUNCTION = {"name": "get_weather", "description": "The weather somewhere", "parameters": SCHEMA}
OPENAI_TOOL = {"type": "function", "function": FUNCTION}
ANTHROPIC_TOOL = {"name": "get_weather", "description": "The weather somewhere", "input_schema": SCHEMA}
TOOL = ToolDefinition("get_weather", "The weather somewhere", SCHEMA)
MARK = {"type": "ephemeral"}


class Case(NamedTuple):
    """`calls`: keyword arguments by client, without what all calls of a client share. `newer`: it is made of
    the client's
    newer model."""

    name: str
    request: ModelRequest
    calls: dict[str, Body] = {}
    newer: bool = False

    @property
    def limit(self) -> int:
        return self.request.params.get("max_tokens", 512)

    def ours(self, model: str) -> ModelRequest:
        given = self.request
        params = {"max_tokens": self.limit, **given.params}
        return ModelRequest(model, given.messages, given.system, given.tools, params, given.stream)


def block(block_type: BlockType, text: str | None = None, /, **content: Any) -> Block:
    return Block(0, block_type, text, content or None)


def user(*blocks: Block | str) -> Message:
    return Message("user", tuple(block("text", b) if isinstance(b, str) else b for b in blocks))


def said(*blocks: Block | str) -> Message:
    return Message("assistant", tuple(block("text", b) if isinstance(b, str) else b for b in blocks))


def asked(*messages: Message, system: str | None = None, stream: bool = False, **params: Any) -> ModelRequest:
    tools = params.pop("tools", ())
    return ModelRequest("", messages or (user("Hi."),), system, tools, params, stream)


def everywhere(anthropic: Body, openai: Body, ollama: Body | None = None) -> dict[str, Body]:
    """Calls that say "Hi." unless a row gives other text."""
    hi = {"messages": [{"role": "user", "content": "Hi."}]}
    given = {"anthropic": anthropic, "openai": openai, "ollama": ollama}
    return {client: {**hi, **call} for client, call in given.items() if call is not None}


CALL: Content = {
    "tool_use_id": "c1",
    "tool_name": "get_weather",
    "input": {"city": "Ulm"},
    "input_json": '{"city":"Ulm"}',
}
RESULT: Content = {"tool_use_id": "c1", "content": "rain", "is_error": False}
ASKED_TOOL = {"role": "user", "content": "Is it raining in Ulm?"}
OPENAI_CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Ulm"}'},
}
OLLAMA_CALL = {"id": "c1", "function": {"name": "get_weather", "arguments": {"city": "Ulm"}}}
ANTHROPIC_CALL = {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Ulm"}}
REASONING = {"type": "reasoning", "id": "rs_1", "encrypted_content": "c2ln"}
ITEM = {"type": "message", "id": "msg_1"}
FORMAT = {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}
OPENAI_FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
