"""A crash must leave a history that every provider accepts (requirements G5, P4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.core.history_checks import check_anthropic, check_blocks, check_chat
from tests.faults.watching import Api, stored_blocks
from turnstream.core.blocks import Block, Message
from turnstream.core.history import PastTurn, build_history
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest


async def path_to(api: Api, turn_id: str | None) -> list[dict[str, Any]]:
    """Return the turns from the first to this one, with their blocks."""
    path: list[dict[str, Any]] = []
    while turn_id is not None:
        path.append(await api.turn(turn_id))
        turn_id = path[-1]["prev_turn_id"]
    return path[::-1]


def check_history(path: Sequence[dict[str, Any]]) -> int:
    """Encode a request after the turns of `path` on every wire. Return the number of tool calls in it."""
    turns = [PastTurn(row["role"], row["status"], stored_blocks(row)) for row in path]
    said = PastTurn("user", "complete", (Block(0, "text", "and?"),))
    messages = build_history([*turns, said])
    check_blocks(messages)
    called = check_answers(messages)
    for wire in WIRES.values():
        body = json.loads(wire.encode_request(ModelRequest("m", messages)).body)
        assert any(body.get(name) for name in ("messages", "input", "contents"))
        if wire.name == "anthropic":
            check_anthropic(body["messages"])
        if wire.name == "openai-chat":
            check_chat(body["messages"])
        if wire.name == "openai-responses":
            check_items(body["input"])
    return called


def check_items(items: Sequence[dict[str, Any]]) -> None:
    """Check that each call has one output, which comes after it and before the next message."""
    open_calls: list[str] = []
    for item in items:
        if item.get("type") == "function_call":
            open_calls.append(item["call_id"])
        elif item.get("type") == "function_call_output":
            open_calls.remove(item["call_id"])
        elif item.get("role") == "user":
            assert not open_calls
    assert not open_calls


def check_answers(messages: Sequence[Message]) -> int:
    """Check that the next message answers each call once, and nothing else. Return the number of calls."""
    called: list[str] = []
    everything: list[str] = []
    for message in messages:
        answered = _ids(message, "tool_result")
        assert answered == called, messages
        called = _ids(message, "tool_use")
        everything += called
    assert not called, "the last call has no answer"
    assert len({*everything}) == len(everything)
    return len(everything)


def _ids(message: Message, block_type: str) -> list[str]:
    return [
        (block.content or {})["tool_use_id"] for block in message.blocks if block.block_type == block_type
    ]
