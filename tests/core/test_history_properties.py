"""Turns of any kind make a history that every provider accepts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.history_checks import check_anthropic, check_blocks, check_chat, text
from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.core.history import (
    CONTINUE,
    PastTurn,
    build_history,
)
from turnstream.core.lifecycle import TurnStatus
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest

# --- any turns ----------------------------------------------------------------------------------------------

STATUSES: tuple[TurnStatus, ...] = ("pending", "streaming", "waiting", "complete", "error", "cancelled")
ids = st.sampled_from(["a", "b", "c", ""])
words = st.sampled_from(["x", "yes", " ", "", "\n", "word "])


@st.composite
def any_block(draw: st.DrawFn) -> Block:
    block_type: BlockType = draw(st.sampled_from(get_args(BlockType)))
    partial = draw(st.booleans())
    content: Content = {}
    match block_type:
        case "tool_use":
            given = draw(st.sampled_from([{}, {"q": 1}, None]))
            content = {
                "tool_use_id": draw(ids),
                "tool_name": draw(st.sampled_from(["f", ""])),
                "input": given,
                "input_json": json.dumps(given) if given is not None else "{oops",
            }
        case "tool_result":
            content = {
                "tool_use_id": draw(ids),
                "content": draw(st.sampled_from(["ok", "", [{"type": "text", "text": "t"}], None])),
                "is_error": draw(st.booleans()),
            }
        case "thinking":
            content = draw(
                st.sampled_from(
                    [
                        {},
                        {"signature": "s"},
                        {"redacted": "r"},
                        {
                            "provider_metadata": {
                                "reasoning_details": [{"type": "reasoning.text", "text": "t"}]
                            }
                        },
                    ]
                )
            )
        case "image":
            content = draw(
                st.sampled_from(
                    [
                        {},
                        {"url": "https://e.org/i"},
                        {"media_type": "image/png", "data": "QQ=="},
                        {"data": "QQ=="},
                    ]
                )
            )
        case "provider":
            content = draw(st.sampled_from([{}, {"type": "compaction", "content": "c"}, {"audio": [1]}]))
        case _:
            content = draw(st.sampled_from([{}, {"citations": [{"url": "u"}]}]))
    if block_type in ("tool_use", "tool_result") and draw(st.booleans()):
        kind = "server_tool_use" if block_type == "tool_use" else "web_search_tool_result"
        content |= {"provider_executed": True, "provider_metadata": {"type": kind}}
    spoken = draw(words) if block_type not in ("tool_use", "tool_result", "image", "provider") else None
    return Block(draw(st.integers(0, 9)), block_type, spoken, content or None, partial)


any_turns = st.lists(
    st.builds(
        PastTurn,
        st.sampled_from(["user", "assistant"]),
        st.sampled_from(STATUSES),
        st.lists(any_block(), max_size=7).map(tuple),
    ),
    max_size=6,
)


@settings(max_examples=600, deadline=None)
@given(any_turns)
@pytest.mark.requirement("P4", "G5")
def test_any_turns_make_a_history_that_providers_accept(turns: list[PastTurn]) -> None:
    turns = labelled(turns)
    messages = build_history(turns)
    check_blocks(messages)
    check_said(turns, messages)
    if messages:
        check_anthropic(request_of("anthropic", messages))
        check_chat(request_of("openai-chat", messages))
    assert build_history([PastTurn(m.role, "complete", m.blocks) for m in messages]) == messages, (
        "it is its own history"
    )
    shorter = build_history(turns, for_next_call=False)
    assert messages in (shorter, (*shorter, Message("user", (text(CONTINUE),))))


def request_of(wire: str, messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    return json.loads(WIRES[wire].encode_request(ModelRequest("m", messages)).body)["messages"]


def labelled(turns: list[PastTurn]) -> list[PastTurn]:
    """The same turns with distinct words: the word of block 3 of turn 2 is `2.3`."""
    return [
        PastTurn(
            turn.role,
            turn.status,
            tuple(
                Block(
                    b.sequence,
                    b.block_type,
                    f"{n}.{k}" if (b.text_content or "").strip() else b.text_content,
                    b.content,
                    b.partial,
                )
                for k, b in enumerate(turn.blocks)
            ),
        )
        for n, turn in enumerate(turns)
    ]


def check_said(turns: list[PastTurn], messages: Sequence[Message]) -> None:
    """The history has every word in order, on its side, once. Only leading words of the assistant are left
    out."""
    kinds = ("text", "reference", "partial_reference")
    spoken = [
        (turn.role, b.text_content)
        for turn in turns
        for b in turn.blocks
        if b.block_type in kinds and (b.text_content or "").strip()
    ]
    heard = [
        (m.role, b.text_content)
        for m in messages
        for b in m.blocks
        if b.block_type == "text" and "." in str(b.text_content)[1:2]
    ]
    missing = len(spoken) - len(heard)
    assert heard == spoken[missing:]
    assert all(role == "assistant" for role, _ in spoken[:missing])
