"""Builders of past turns, and checks that a provider accepts a history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from turnstream.core.blocks import Block, Message
from turnstream.core.history import (
    CONTINUE,
)


def text(value: str, *, partial: bool = False) -> Block:
    return Block(0, "text", value, None, partial)


def check_blocks(messages: Sequence[Message]) -> None:
    """Check our own blocks by the rules of `core/history`."""
    assert all(message.blocks for message in messages)
    for place, message in enumerate(messages):
        assert message.role == ("user", "assistant")[place % 2]
        assert [block.sequence for block in message.blocks] == list(
            range(len(message.blocks))
        ) or message.blocks[0].text_content == CONTINUE
        assert not any(block.partial for block in message.blocks)
    assert len(messages) % 2 == 1 or not messages


def check_anthropic(messages: list[dict[str, Any]]) -> None:
    assert messages[0]["role"] == messages[-1]["role"] == "user"
    seen: set[str] = set()
    open_server_tools: set[str] = set()
    pending: list[str] = []
    for place, message in enumerate(messages):
        content = message["content"]
        assert content, "content is never empty"
        assert message["role"] == ("user", "assistant")[place % 2], "roles alternate"
        if message["role"] == "user":
            results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
            assert results == pending, "each call is answered in the next message"
            assert all(block["type"] == "tool_result" for block in content[: len(pending)]), (
                "results come first"
            )
            assert {block["type"] for block in content} <= {"text", "image", "tool_result"}
        else:
            pending = [block["id"] for block in content if block["type"] == "tool_use"]
            assert len(set(pending)) == len(pending)
            assert not seen & set(pending), "ids are unique"
            seen |= set(pending)
            assert content[-1]["type"] not in ("thinking", "redacted_thinking"), "thinking is not the last"
            assert not any(block["type"] in ("image", "tool_result") for block in content)
        for block in content:
            if block["type"] == "text":
                assert block["text"].strip(), "text is not blank"
            elif block["type"] == "thinking":
                assert block["signature"]
            elif block["type"] == "tool_use":
                assert block["id"]
                assert block["name"]
                assert isinstance(block["input"], dict)
            elif block["type"] == "server_tool_use":
                open_server_tools.add(block["id"])
            elif block["type"] == "web_search_tool_result":
                assert block["tool_use_id"] in open_server_tools
            elif block["type"] == "image":
                assert block["source"].get("url") or block["source"]["data"]


def check_chat(messages: list[dict[str, Any]]) -> None:
    assert messages[0]["role"] == "user"
    assert messages[-1]["role"] in ("user", "tool")
    seen: set[str] = set()
    pending: list[str] = []
    for message in messages:
        role = message["role"]
        if role == "tool":
            assert pending, "a result follows its call"
            assert message["tool_call_id"] == pending.pop(0)
            assert isinstance(message["content"], str)
            continue
        assert not pending, "results follow before anything else"
        if role == "user":
            assert message["content"]
            continue
        assert role == "assistant"
        assert message["content"] or message["tool_calls"]
        for one in message.get("tool_calls", []):
            assert one["id"] not in seen
            assert one["function"]["name"]
            assert isinstance(json.loads(one["function"]["arguments"]), dict)
            seen.add(one["id"])
            pending.append(one["id"])
    assert not pending
