"""The one fold: the same blocks for every grouping of the events."""

from __future__ import annotations

import pytest

from tests.core.folding import Reader, assert_shown_is_stored
from turnstream.core.accumulator import Accumulator
from turnstream.core.admission import NESTING_LIMIT
from turnstream.core.blocks import Block, Content
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
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockStart,
    BlockStop,
)


def blocks_of(*events: StreamEvent) -> list[Block]:
    reader = Reader()
    reader.fold(*events)
    reader.end()
    assert_shown_is_stored(reader)
    return reader.stored


# --- one case each ------------------------------------------------------------------------------------------


@pytest.mark.requirement("B1", "B3")
def test_a_message_of_all_kinds() -> None:
    found = blocks_of(
        MessageStart("m", "model"),
        ContentBlockStart(0, "thinking"),
        ThinkingDelta(0, "h"),
        ThinkingDelta(0, "m"),
        SignatureDelta(0, "si"),
        SignatureDelta(0, "g"),
        ContentBlockStop(0),
        ContentBlockStart(1, "text"),
        TextDelta(1, "a"),
        ContentDelta(1, {"citations": [1]}),
        TextDelta(1, "b"),
        ContentDelta(1, {"citations": [2], "other": 3}),
        ContentBlockStop(1),
        ContentBlockStart(2, "tool_use", {"tool_use_id": "i", "tool_name": "f"}),
        ToolInputDelta(2, '{"x"'),
        ToolInputDelta(2, ": 1}"),
        ContentBlockStop(2),
        ContentBlockStart(
            3,
            "tool_result",
            {"tool_use_id": "i", "content": "r", "is_error": False, "provider_executed": True},
        ),
        ContentBlockStop(3),
        ContentBlockStart(4, "provider", {"type": "x"}),
        ContentBlockStop(4),
        ContentBlockStart(5, "thinking", {"redacted": "z"}),
        ContentBlockStop(5),
        MessageStop("end_turn", "stop"),
    )
    assert found == [
        Block(0, "thinking", "hm", {"signature": "sig"}),
        Block(1, "text", "ab", {"citations": [1, 2], "other": 3}),
        Block(
            2,
            "tool_use",
            None,
            {"tool_use_id": "i", "tool_name": "f", "input": {"x": 1}, "input_json": '{"x": 1}'},
        ),
        Block(
            3,
            "tool_result",
            None,
            {"tool_use_id": "i", "content": "r", "is_error": False, "provider_executed": True},
        ),
        Block(4, "provider", None, {"type": "x"}),
        Block(5, "thinking", "", {"redacted": "z"}),
    ]


@pytest.mark.requirement("B1")
def test_two_blocks_of_one_type_in_a_row_stay_two() -> None:
    found = blocks_of(
        ContentBlockStart(0, "text"), TextDelta(0, "a"), ContentBlockStart(1, "text"), TextDelta(1, "b")
    )
    assert [block.text_content for block in found] == ["a", "b"]
    found = blocks_of(
        ContentBlockStart(0, "text"), TextDelta(0, "a"), ContentBlockStart(0, "text"), TextDelta(0, "b")
    )
    assert [block.text_content for block in found] == ["a", "b"], (
        "a start at an open index stops what is there"
    )


@pytest.mark.requirement("B1")
def test_without_starts_a_block_ends_where_type_or_index_changes() -> None:
    found = blocks_of(
        ThinkingDelta(0, "a"),
        TextDelta(0, "b"),
        TextDelta(1, "c"),
        TextDelta(1, "d"),
        ToolInputDelta(1, "{}"),
    )
    assert [(block.block_type, block.text_content) for block in found] == [
        ("thinking", "a"),
        ("text", "b"),
        ("text", "cd"),
        ("tool_use", None),
    ]
    assert found[3].content == {"tool_use_id": "", "tool_name": "", "input": {}, "input_json": "{}"}


def test_deltas_that_a_block_cannot_take_open_another() -> None:
    found = blocks_of(
        ContentBlockStart(0, "text"),
        TextDelta(0, "a"),
        ThinkingDelta(0, "b"),
        SignatureDelta(0, "s"),
        SignatureDelta(7, "t"),
        ContentDelta(8, {"x": 1}),
    )
    assert [(block.block_type, block.text_content, block.content) for block in found] == [
        ("text", "a", None),
        ("thinking", "b", {"signature": "s"}),
        ("thinking", "", {"signature": "t"}),
        ("provider", None, {"x": 1}),
    ]


@pytest.mark.requirement("B2", "B5")
def test_interleaved_blocks_fold_apart_and_are_shown_one_at_a_time() -> None:
    reader = Reader()
    reader.fold(
        ContentBlockStart(0, "tool_use", {"tool_use_id": "a", "tool_name": "f"}),
        ContentBlockStart(1, "tool_use", {"tool_use_id": "b", "tool_name": "g"}),
        ToolInputDelta(1, '{"y":'),
        ToolInputDelta(0, '{"x":'),
        ToolInputDelta(1, "2}"),
        ContentBlockStop(1),
    )
    assert [event for event in reader.shown if event.block_index == 1] == [], "block 1 waits"
    assert reader.stored == []
    reader.fold(ToolInputDelta(0, "1}"), ContentBlockStop(0))
    assert [(block.content or {})["input"] for block in reader.stored] == [{"x": 1}, {"y": 2}]
    assert reader.shown[-3:] == [
        BlockStart(1, "tool_use", {"tool_use_id": "b", "tool_name": "g"}),
        BlockDelta(1, "tool_use", "partial_json", '{"y":2}'),
        BlockStop(1, "tool_use"),
    ]
    assert_shown_is_stored(reader)


@pytest.mark.requirement("B2", "C1")
def test_a_block_stays_until_it_is_released() -> None:
    accumulator = Accumulator(5)
    events = [
        ContentBlockStart(0, "text"),
        TextDelta(0, "a"),
        ContentBlockStop(0),
        ContentBlockStart(1, "text"),
        TextDelta(1, "b"),
    ]
    position = accumulator.fold(events)
    assert position == 3, "nothing is folded past the end of the shown block"
    assert accumulator.take_changes() == [BlockStart(5, "text"), BlockDelta(5, "text", "text", "a")]
    assert accumulator.finished == Block(5, "text", "a")
    assert accumulator.shown is not None
    assert accumulator.shown.catchup() == BlockCatchup(5, "text", complete=False, accumulated_text="a")
    assert accumulator.fold(events, position) == position, "not before the release"
    assert accumulator.release() == BlockStop(5, "text")
    assert accumulator.shown is None
    with pytest.raises(RuntimeError):
        accumulator.release()
    assert accumulator.fold(events, position) == 5
    assert accumulator.next_sequence == 7


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["a\ud83d", "\ude00b"], "a😀b"),
        (["\ud83d", "", "\ude00"], "😀"),
        (["\ud83d", "\ud83d", "\ude00"], "\ufffd😀"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["\ude00", "b"], "\ufffdb"),
        (["a\ud83d"], "a\ufffd"),
        (["é\ud83d\ude00\ud83d", "\ude00"], "é😀😀"),
    ],
)
def test_halved_surrogates(pieces: list[str], whole: str) -> None:
    (together,) = blocks_of(*(TextDelta(0, piece) for piece in pieces))
    assert together.text_content == whole
    reader = Reader()
    for piece in pieces:
        reader.fold(TextDelta(0, piece))
    reader.end()
    assert reader.stored == [together]
    assert_shown_is_stored(reader)
    reader = Reader()
    reader.fold(ContentBlockStart(0, "text"), ContentBlockStart(1, "thinking"))
    for piece in pieces:
        reader.fold(ThinkingDelta(1, piece), TextDelta(0, "."))
    reader.cut()
    assert reader.stored[1].text_content == whole
    assert_shown_is_stored(reader)


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"a":1',
        "[1]",
        "1",
        "null",
        '"x"',
        "{}{}",
        '{"a":1e999}',
        '{"a":"\\ud83d"}',
        '{"a":' * 5000,
        "[" * 100_000,
        "{oops}",
    ],
)
def test_invalid_tool_input_is_reported(text: str) -> None:
    (block,) = blocks_of(
        ContentBlockStart(0, "tool_use", {"tool_use_id": "i", "tool_name": "f"}), ToolInputDelta(0, text)
    )
    assert block.content is not None
    assert block.content["input"] is None
    assert block.content["input_error"]
    assert block.content["input_json"] == text


@pytest.mark.requirement("B4")
def test_input_that_could_not_be_written_down_again_is_reported() -> None:
    def nested(levels: int) -> Content:
        (block,) = blocks_of(
            ContentBlockStart(0, "tool_use"), ToolInputDelta(0, '{"a":' * levels + "1" + "}" * levels)
        )
        assert block.content is not None
        return block.content

    assert "input_error" not in nested(NESTING_LIMIT)
    assert "nested" in nested(NESTING_LIMIT + 1)["input_error"]
    (wide,) = blocks_of(
        ContentBlockStart(0, "tool_use"), ToolInputDelta(0, '{"a":[' + ",".join(["[]"] * 1000) + "]}")
    )
    assert "input_error" not in (wide.content or {})


@pytest.mark.requirement("B3")
def test_input_that_was_known_from_the_start() -> None:
    start = ContentBlockStart(0, "tool_use", {"tool_use_id": "i", "tool_name": "f", "input": {"x": 1}})
    (block,) = blocks_of(start, ContentBlockStop(0))
    assert (block.content or {})["input"] == {"x": 1}
    (block,) = blocks_of(start, ToolInputDelta(0, '{"y":2}'), ContentBlockStop(0))
    assert (block.content or {})["input"] == {"y": 2}
    (block,) = blocks_of(
        ContentBlockStart(0, "tool_use", {"input": "odd"}), ToolInputDelta(0, " "), ContentBlockStop(0)
    )
    assert (block.content or {})["input"] == {}
