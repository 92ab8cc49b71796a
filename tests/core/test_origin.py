"""Blocks that carry their origin. They are sealed when they end, and verified before a provider gets them
again (requirement K2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block, Content
from turnstream.core.origin import Origin, needs_seal, returnable_blocks, seal_of
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)

HERE = Origin("anthropic", "here", "m")
EVENTS: list[StreamEvent] = [
    MessageStart("i", "m", origin=HERE),
    ContentBlockStart(0, "thinking"),
    ThinkingDelta(0, "hm\0 é"),
    SignatureDelta(0, "sig"),
    ContentBlockStop(0),
    ContentBlockStart(1, "thinking", {"redacted": "xyz"}),
    ContentBlockStop(1),
    ContentBlockStart(2, "text"),
    TextDelta(2, "Look."),
    ContentBlockStop(2),
    ContentBlockStart(3, "provider", {"type": "compaction"}),
    ContentDelta(3, {"content": "so far"}),
    ContentBlockStop(3),
    ContentBlockStart(4, "tool_use", {"tool_use_id": "s", "tool_name": "search", "provider_executed": True}),
    ContentBlockStop(4),
    ContentBlockStart(5, "tool_result", {"tool_use_id": "s", "content": [], "provider_executed": True}),
    ContentBlockStop(5),
    ContentBlockStart(6, "tool_use", {"tool_use_id": "c", "tool_name": "f"}),
    ToolInputDelta(6, '{"x": 1.50}'),
    ContentDelta(6, {"provider_metadata": {"thought_signature": "t"}}),
    ContentBlockStop(6),
    MessageStop("tool_use", "tool_use"),
]


def stored(events: list[StreamEvent] = EVENTS) -> list[Block]:
    """Return the blocks after a round trip through the stored JSON."""
    blocks = fold_answer(events).blocks
    return [msgspec.json.decode(msgspec.json.encode(block), type=Block) for block in blocks]


def returned(blocks: list[Block], caller: Origin = HERE) -> list[Block]:
    return list(returnable_blocks(blocks, lambda origin: origin == caller))


def changed(block: Block, **content: Any) -> Block:
    return msgspec.structs.replace(block, content={**(block.content or {}), **content})


@pytest.mark.requirement("K2")
def test_what_is_sealed_goes_back_as_it_came():
    without = [
        msgspec.structs.replace(event, origin=None) if isinstance(event, MessageStart) else event
        for event in EVENTS
    ]
    assert ["origin" in (block.content or {}) for block in stored()] == [
        True,
        True,
        False,
        True,
        True,
        True,
        True,
    ]
    assert not any("origin" in (block.content or {}) for block in stored(without))
    assert returned(stored()) == stored(without)


@pytest.mark.requirement("K2")
@pytest.mark.parametrize("other", [Origin("anthropic", "there", "m"), Origin("openai-chat", "here", "m")])
def test_another_provider_gets_what_anybody_may_have(other):
    text, call = returned(stored(), other)
    assert text == Block(2, "text", "Look.")
    assert (call.block_type, (call.content or {})["input"]) == ("tool_use", {"x": 1.5})
    assert not {"origin", "provider_metadata"} & (call.content or {}).keys()


@pytest.mark.requirement("K2")
@pytest.mark.parametrize(
    ("place", "change"),
    [
        (0, lambda block: msgspec.structs.replace(block, text_content="hm, no")),
        (0, lambda block: changed(block, signature="gis")),
        (0, lambda block: changed(block, signature="")),
        (0, lambda block: changed(block, more=1)),
        (1, lambda block: changed(block, redacted="zyx")),
        (3, lambda block: changed(block, content="other")),
        (0, lambda block: changed(block, origin={**block.content["origin"], "digest": "0" * 32})),
        (0, lambda block: changed(block, origin={**block.content["origin"], "provider": "there"})),
        (0, lambda block: changed(block, origin={})),
        (0, lambda block: changed(block, origin="mine")),
    ],
)
def test_what_was_changed_stays_here_and_the_rest_goes(place, change):
    blocks = stored()
    whole = returned(blocks)
    blocks[place] = change(blocks[place])
    expected = whole[:place] + whole[place + 1 :]
    assert returned(blocks) == expected


@pytest.mark.requirement("K2")
@pytest.mark.parametrize("place", [4, 5])
def test_a_servers_tool_goes_with_its_answer_or_not_at_all(place):
    blocks = stored()
    blocks[place] = changed(blocks[place], tool_name="changed")
    assert [block.sequence for block in returned(blocks)] == [0, 1, 2, 3, 6]


@pytest.mark.requirement("K2")
def test_a_changed_call_loses_what_was_signed_and_a_renamed_one_nothing():
    blocks = stored()
    blocks[6] = changed(blocks[6], tool_use_id="c_2")
    renamed = returned(blocks)[6].content or {}
    assert renamed["provider_metadata"] == {"thought_signature": "t"}
    blocks[6] = changed(blocks[6], input={"x": 2})
    edited = returned(blocks)[6].content or {}
    assert (edited["input"], "provider_metadata" in edited) == ({"x": 2}, False)


def test_blocks_that_nobody_sealed_stay_as_they_are():
    blocks = [Block(0, "thinking", "mine", {"signature": "s"}), Block(1, "text", "t")]
    assert returned(blocks) == blocks


@pytest.mark.requirement("K2")
def test_a_block_that_was_cut_off_has_no_seal():
    (block,) = fold_answer(EVENTS[:4]).blocks
    assert (block.partial, "origin" in (block.content or {})) == (True, False)


contents: st.SearchStrategy[Content] = st.dictionaries(
    st.sampled_from(["signature", "redacted", "provider_metadata", "x"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)  # fmt: skip


@pytest.mark.requirement("K2")
@given(st.text(st.characters(exclude_categories=("Cs",))), contents)
def test_any_content_survives_storage_with_its_seal(text: str, content: Content) -> None:
    block = Block(3, "thinking", text, content)
    assert needs_seal(block.block_type, content)
    sealed = msgspec.json.decode(msgspec.json.encode(changed(block, **seal_of(block, HERE))), type=Block)
    assert returned([sealed]) == [msgspec.structs.replace(block, content=content or None)]
