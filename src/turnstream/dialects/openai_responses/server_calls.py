"""Calls of tools that run on this server, as clients of Responses see them: `mcp_call` items.

A `function_call` would ask the client to run the tool. An `mcp_call` says that the server ran it, and holds
the result.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.wires.openai_responses.items import KEY, own_metadata
from turnstream.wires.shared.lenient_json import encode_json

SERVER_LABEL = "turnstream"
"""Name of this server in its calls, and in the tool of a request that names tools of this server."""
_MARK: Content = {
    "provider_executed": True,
    "provider_metadata": {KEY: {"type": "mcp_call", "server_label": SERVER_LABEL}},
}


def marked_content(
    block_type: BlockType, content: Content | None, client_tools: Collection[str]
) -> Content | None:
    """Return the content of a block, with the mark of this server on calls that it runs, and their results.

    Args:
        client_tools: Names of the tools that the client runs.
    """
    given = content or {}
    if given.get("provider_executed"):
        return content
    if block_type == "tool_use" and given.get("tool_name") not in client_tools:
        return {**given, **_MARK}
    if block_type == "tool_result":
        return {**with_result_text(given), **_MARK}
    return content


def with_result_text(content: Content) -> Content:
    """Return the content of a result with its value as text, as an item has it.

    No value: the content itself.
    """
    return {**content, "content": _result_text(content["content"])} if "content" in content else content


def without_marks(message: Message) -> Message:
    """Return a client's message with the calls of this server as plain calls with their results."""
    if not any(is_call_of_server(block.content) for block in message.blocks):
        return message
    called = {
        (block.content or {}).get("tool_use_id")
        for block in message.blocks
        if block.block_type == "tool_use" and is_call_of_server(block.content)
    }
    blocks = [_plain(block) if _identity(block) in called else block for block in message.blocks]
    return Message(message.role, tuple(blocks))


def is_call_of_server(content: Content | None) -> bool:
    """Return True for a call that ran on this server."""
    return own_metadata(content).get("server_label") == SERVER_LABEL


def _identity(block: Block) -> object:
    return (block.content or {}).get("tool_use_id")


def _plain(block: Block) -> Block:
    content = {
        name: value
        for name, value in (block.content or {}).items()
        if name not in ("provider_executed", "provider_metadata")
    }
    return Block(block.sequence, block.block_type, block.text_content, content, block.partial)


def _result_text(value: Any) -> str:
    """Return the result of a tool as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        if parts and all(isinstance(part, dict) and "text" in part for part in parts):
            return "\n".join(str(part["text"]) for part in parts)
    return "" if value is None else encode_json(value).decode()
