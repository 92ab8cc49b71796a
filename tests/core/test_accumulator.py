"""The one fold: however events come, the same blocks; and what is shown is what is stored."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.accumulator import Accumulator, Statistics
from turnstream.core.admission import NESTING_LIMIT
from turnstream.core.blocks import Block, BlockType, Content
from turnstream.core.open_block import catchup_of, merge_content
from turnstream.core.shared_accumulator import SharedAccumulator
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    RedactContent,
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockStart,
    BlockStop,
    TurnEvent,
)
from turnstream.core.usage import Usage
from turnstream.errors import MalformedEvent, StreamBroken


class Reader:
    """The accumulator's loop, as its owner runs it: what was shown, and what was stored."""

    def __init__(self, accumulator: Accumulator | None = None) -> None:
        self.accumulator = accumulator or Accumulator()
        self.shown: list[TurnEvent] = []
        self.stored: list[Block] = []

    def fold(self, *events: StreamEvent) -> None:
        position = 0
        while True:
            position = self.accumulator.fold(events, position)
            self.shown += self.accumulator.take_changes()
            if self.accumulator.finished is None:
                break
            self.stored.append(self.accumulator.finished)
            self.shown.append(self.accumulator.release())
        assert position == len(events)

    def end(self) -> None:
        self.accumulator.end()
        self.fold()

    def cut(self) -> None:
        events, cuts = self.accumulator.cut()
        for cut in cuts:
            assert isinstance(events[cut.stop], BlockStop)
            if cut.start is not None:
                assert isinstance(events[cut.start], BlockStart)
        self.shown += events
        self.stored += [cut.block for cut in cuts]


class Client:
    """What a client makes of TurnEvents, by the protocol's rules alone."""

    def __init__(self) -> None:
        self.blocks: dict[int, dict[str, Any]] = {}
        self.open: int | None = None

    def see(self, events: Sequence[TurnEvent]) -> None:
        for event in events:
            match event:
                case BlockStart():
                    assert self.open is None, "one block is open at a time"
                    assert event.block_index == len(self.blocks), "in order, without gaps"
                    self.open = event.block_index
                    content: Content = {}
                    merge_content(content, event.content or {})
                    self.blocks[event.block_index] = {
                        "type": event.block_type,
                        "text": "",
                        "content": content,
                        "partial": None,
                    }
                case BlockDelta():
                    assert event.block_index == self.open
                    block = self.blocks[event.block_index]
                    assert event.block_type == block["type"]
                    if event.field == "content":
                        merge_content(block["content"], event.value)
                    elif event.field == "signature":
                        block["content"]["signature"] = block["content"].get("signature", "") + event.value
                    else:
                        assert (event.field == "partial_json") is (block["type"] == "tool_use")
                        block["text"] += event.value
                case BlockStop():
                    assert event.block_index == self.open
                    self.open = None
                    self.blocks[event.block_index]["partial"] = event.partial
                case _:
                    pass


def seen(events: Sequence[TurnEvent]) -> Client:
    client = Client()
    client.see(events)
    return client


def assert_shown_is_stored(reader: Reader) -> None:
    client = seen(reader.shown)
    assert client.open is None
    assert [block.sequence for block in reader.stored] == list(client.blocks)
    for block in reader.stored:
        view = client.blocks[block.sequence]
        content = dict(block.content or {})
        assert view["type"] == block.block_type
        assert view["partial"] is block.partial
        if block.block_type == "tool_use":
            assert view["text"] == content.pop("input_json")
            content.pop("input_error", None)
            if view["text"].strip() or not isinstance(view["content"].get("input"), dict):
                content.pop("input")
                view["content"].pop("input", None)
            for name in ("tool_use_id", "tool_name"):
                view["content"].setdefault(name, "")
        else:
            assert view["text"] == (block.text_content or "")
        assert view["content"] == content
        msgspec.json.encode(block)


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


@pytest.mark.requirement("D1", "J4")
def test_cut_shows_the_rest_of_every_block() -> None:
    reader = Reader()
    reader.fold(
        ContentBlockStart(0, "text"), TextDelta(0, "a\ud83d"), ContentBlockStart(1, "thinking"), ThinkingDelta(1, "b"), SignatureDelta(1, "s"),
        ContentBlockStart(2, "tool_use", {"tool_use_id": "i", "tool_name": "f"}), ToolInputDelta(2, '{"x'), ContentBlockStart(3, "text"),
        TextDelta(3, "done"), ContentBlockStop(3),
    )  # fmt: skip
    reader.cut()
    assert [(block.text_content, block.partial) for block in reader.stored] == [
        ("a\ufffd", True),
        ("b", True),
        (None, True),
        ("done", False),
    ]
    assert (reader.stored[2].content or {})["input"] is None
    assert_shown_is_stored(reader)
    assert reader.accumulator.cut() == ([], [])
    assert reader.accumulator.shown is None


def test_cut_of_a_block_that_was_finished_and_not_yet_stored() -> None:
    accumulator = Accumulator()
    accumulator.fold([ContentBlockStart(0, "text"), TextDelta(0, "a"), ContentBlockStop(0)])
    events, (only,) = accumulator.cut()
    assert (only.block, only.start, only.stop) == (Block(0, "text", "a"), None, 2)
    assert events == [BlockStart(0, "text"), BlockDelta(0, "text", "text", "a"), BlockStop(0, "text")]
    assert accumulator.finished is None


def test_what_is_not_content() -> None:
    reader = Reader()
    reader.fold(
        MessageStart("m", "one"),
        MessageStart(None, "two"),
        Metadata(Usage(input_tokens=5), {"a": 1, "b": 1}),
        Metadata(
            Usage(output_tokens=2), {"b": 2}, latency_ms=3.0, trace={"t": 1}, provider_metadata={"p": 1}
        ),
        StreamNotice("code", "words"),
        RedactContent("user", "***"),
        ContentBlockStop(9),
        MessageStop("end_turn", "stop"),
        Metadata(Usage(output_tokens=3), provider_metadata={"q": 2}),
        StreamError("throttling", "rate_limit_error", "first"),
        StreamError("validation", "x", "second"),
    )
    accumulator = reader.accumulator
    assert (accumulator.message_id, accumulator.model) == ("m", "two")
    assert accumulator.usage == Usage(5, 3)
    assert accumulator.raw_usage == {"a": 1, "b": 2}
    accumulator.fold([Metadata(raw={"a": None, "c": None})])
    assert accumulator.raw_usage == {"b": 2, "c": None}, "None takes away what was said before"
    assert (accumulator.latency_ms, accumulator.trace) == (3.0, {"t": 1})
    assert accumulator.provider_metadata == {"p": 1, "q": 2}
    assert accumulator.stop == MessageStop("end_turn", "stop")
    assert accumulator.error is not None
    assert accumulator.error.message == "first"
    assert [notice.code for notice in accumulator.notices] == ["code", "content_redacted"]
    assert reader.stored == []


@pytest.mark.requirement("B6")
def test_statistics() -> None:
    accumulator = Accumulator()
    assert accumulator.statistics == Statistics(0, 0, None, None, complete=False)
    assert accumulator.statistics.duration == 0.0
    accumulator.fold(
        [MessageStart("m"), TextDelta(0, "ab"), TextDelta(0, ""), ThinkingDelta(1, "c")], now=10.0
    )
    position = 3
    while accumulator.finished is not None:
        accumulator.release()
        position = accumulator.fold(
            [MessageStart("m"), TextDelta(0, "ab"), TextDelta(0, ""), ThinkingDelta(1, "c")], 4, now=10.5
        )
    assert position == 4
    accumulator.fold([ToolInputDelta(1, "{}")])
    accumulator.release()
    accumulator.fold([MessageStop("end_turn")], now=12.5)
    assert accumulator.statistics == Statistics(4, 5, 10.0, 12.5, complete=True)
    assert accumulator.statistics.duration == 2.5


def test_statistics_do_not_depend_on_batches() -> None:
    events = [TextDelta(0, "a\ud83d"), TextDelta(0, "\ude00"), TextDelta(0, ""), TextDelta(0, "b\ud83d")]
    together, apart = Reader(), Reader()
    together.fold(*events)
    for event in events:
        apart.fold(event)
    assert together.accumulator.statistics == apart.accumulator.statistics
    assert together.accumulator.statistics.chunks == 4


@pytest.mark.requirement("B6", "O2")
def test_memory_is_let_go() -> None:
    reader = Reader()
    for index in range(50):
        reader.fold(ContentBlockStart(index, "text"), TextDelta(index, "x" * 1000), ContentBlockStop(index))
    accumulator = reader.accumulator
    assert accumulator.shown is None
    assert not accumulator._open
    assert not accumulator._waiting
    assert not accumulator._changes


@pytest.mark.requirement("O2", "K4")
@pytest.mark.parametrize(
    "events",
    [
        [TextDelta(0, "x" * 60), TextDelta(0, "x" * 60)],
        [ThinkingDelta(0, "x"), SignatureDelta(0, "s" * 101)],
        [ContentDelta(0, {"data": "x" * 101})],
        [ContentBlockStart(0, "provider", {"data": "x" * 101})],
    ],
)
def test_an_answer_has_a_bound(events: list[StreamEvent]) -> None:
    reader = Reader(Accumulator(max_length=100))
    with pytest.raises(StreamBroken) as caught:
        reader.fold(*events)
    assert caught.value.code == "answer_too_large"
    assert caught.value.retryable is False
    reader.cut()
    assert len(reader.stored) == 1, "what came is kept"


@pytest.mark.parametrize("content", [{"x": "\ud83d"}, {"x": object()}])
def test_content_that_cannot_be_written_is_malformed(content: Content) -> None:
    with pytest.raises(MalformedEvent):
        Accumulator().fold([ContentDelta(0, content)])
    with pytest.raises(MalformedEvent):
        Accumulator().fold([ContentBlockStart(0, "provider", content)])


def test_the_events_own_content_is_never_changed() -> None:
    start = ContentBlockStart(0, "text", {"citations": [1]})
    delta = ContentDelta(0, {"citations": [2]})
    reader = Reader()
    reader.fold(start, delta, ContentDelta(0, {"citations": [3]}))
    shown = list(reader.shown)
    reader.end()
    assert start.content == {"citations": [1]}
    assert delta.content == {"citations": [2]}
    assert shown[0] == BlockStart(0, "text", {"citations": [1]})
    assert reader.stored[0].content == {"citations": [1, 2, 3]}


def test_catch_up_of_blocks() -> None:
    tool = Block(1, "tool_use", None, {"tool_use_id": "i", "tool_name": "f", "input": {}, "input_json": "{}"})
    assert catchup_of(tool) == BlockCatchup(
        1, "tool_use", complete=True, input_partial="{}", content=tool.content
    )
    assert catchup_of(Block(0, "text", "a", None, True)) == BlockCatchup(
        0, "text", complete=True, accumulated_text="a", partial=True
    )


@pytest.mark.requirement("C2")
def test_catch_up_of_an_open_call() -> None:
    accumulator = Accumulator()
    accumulator.fold(
        [
            ContentBlockStart(0, "tool_use", {"tool_use_id": "i", "tool_name": "f"}),
            ToolInputDelta(0, '{"x'),
            ToolInputDelta(0, '"'),
        ]
    )
    assert accumulator.shown is not None
    assert accumulator.shown.catchup() == BlockCatchup(
        0, "tool_use", complete=False, input_partial='{"x"', content={"tool_use_id": "i", "tool_name": "f"}
    )
    assert accumulator.shown.text_since(2) == 'x"'


# --- any events ---------------------------------------------------------------------------------------------

indexes = st.integers(0, 2)
pieces = st.text(max_size=3) | st.sampled_from(
    ["\ud83d", "\ude00", "a\ud83d", "\ude00b", '{"x":', "1}", "{}"]
)
contents = st.sampled_from(
    [{"citations": [1]}, {"citations": [2, 3]}, {"citations": "x"}, {"n": {"m": 1}}, {"tool_name": "f"}, {}]
)
any_event: st.SearchStrategy[StreamEvent] = st.one_of(
    st.builds(TextDelta, indexes, pieces),
    st.builds(ThinkingDelta, indexes, pieces),
    st.builds(ToolInputDelta, indexes, pieces),
    st.builds(SignatureDelta, indexes, st.sampled_from(["s", "t", ""])),
    st.builds(ContentDelta, indexes, contents),
    st.builds(ContentBlockStart, indexes, st.sampled_from(get_args(BlockType)), st.none() | contents),
    st.builds(ContentBlockStop, indexes),
    st.just(MessageStart("m", "model")),
    st.just(MessageStop("end_turn")),
    st.just(StreamNotice("n", "m")),
    st.builds(Metadata, st.builds(Usage, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9))),
)
any_events = st.lists(any_event, max_size=30)


def batches(events: list[StreamEvent], cuts: list[int]) -> list[list[StreamEvent]]:
    bounds = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    return [events[start:end] for start, end in itertools.pairwise(bounds)]


@settings(max_examples=500, deadline=None)
@given(any_events, st.lists(st.integers(0, 30), max_size=8), st.booleans())
@pytest.mark.requirement("B1", "B2", "B4", "B5")
def test_any_batches_fold_to_the_same_blocks(events: list[StreamEvent], cuts: list[int], ends: bool) -> None:
    readers = [Reader(), Reader(), Reader()]
    readers[0].fold(*events)
    for batch in batches(events, cuts):
        readers[1].fold(*batch)
    for event in events:
        readers[2].fold(event)
    for reader in readers:
        if ends:
            reader.end()
        else:
            reader.cut()
        assert_shown_is_stored(reader)
        assert reader.stored == readers[0].stored
        assert reader.accumulator.statistics[:2] == readers[0].accumulator.statistics[:2]
        assert reader.accumulator.usage == readers[0].accumulator.usage
    assert [block.sequence for block in readers[0].stored] == list(range(len(readers[0].stored)))


@settings(max_examples=400, deadline=None)
@given(any_events, st.lists(st.integers(0, 30), max_size=12))
@pytest.mark.requirement("B1", "B2", "B4")
def test_what_is_taken_at_once_is_what_would_have_been_folded(
    events: list[StreamEvent], cuts: list[int]
) -> None:
    folding, taking = Reader(Accumulator(max_length=40)), Reader(Accumulator(max_length=40))
    for batch in batches(events, cuts):
        try:
            folding.fold(*batch)
        except StreamBroken:
            assert not batch or taking.accumulator.extend_shown(batch) is None
            return
        changes = taking.accumulator.extend_shown(batch) if batch else None
        if changes is None:
            taking.fold(*batch)
        else:
            taking.shown += changes
        assert taking.shown == folding.shown
        assert taking.stored == folding.stored
        assert taking.accumulator.statistics == folding.accumulator.statistics


@pytest.mark.requirement("B2")
@pytest.mark.parametrize("delta", [TextDelta, ThinkingDelta, ToolInputDelta])
@pytest.mark.parametrize("block_type", get_args(BlockType))
def test_only_more_of_the_shown_block_is_taken_at_once(block_type: BlockType, delta: type[Any]) -> None:
    reader = Reader()
    reader.fold(ContentBlockStart(0, block_type))
    growing = {"thinking": ThinkingDelta, "tool_use": ToolInputDelta, "image": None, "document": None}
    fits = delta is growing.get(block_type, TextDelta)
    assert (reader.accumulator.extend_shown([delta(0, "a")]) is not None) is fits
    assert reader.accumulator.extend_shown([delta(1, "a")]) is None
    assert reader.accumulator.extend_shown([delta(0, "a"), ContentBlockStop(0)]) is None
    reader.accumulator.fold([ContentBlockStop(0)])
    assert reader.accumulator.extend_shown([delta(0, "a")]) is None


@settings(max_examples=300, deadline=None)
@given(any_events, st.lists(st.integers(0, 30), max_size=6))
@pytest.mark.requirement("C2")
def test_the_catch_up_of_the_open_block_is_what_was_shown_of_it(
    events: list[StreamEvent], cuts: list[int]
) -> None:
    reader = Reader()
    for batch in batches(events, cuts):
        reader.fold(*batch)
        client = seen(reader.shown)
        shown = reader.accumulator.shown
        assert (shown.sequence if shown else None) == client.open
        if shown is None:
            continue
        view = client.blocks[shown.sequence]
        catchup = shown.catchup()
        assert (catchup.block_index, catchup.block_type, catchup.complete) == (
            shown.sequence,
            view["type"],
            False,
        )
        text = catchup.input_partial if view["type"] == "tool_use" else catchup.accumulated_text
        assert (text or "") == view["text"]
        assert shown.length == len(view["text"])
        assert (catchup.content or {}) == view["content"]


@settings(max_examples=300, deadline=None)
@given(any_events, st.integers(0, 30))
@pytest.mark.requirement("B2", "J4")
def test_a_cut_at_any_event_keeps_what_came(events: list[StreamEvent], place: int) -> None:
    reader = Reader()
    reader.fold(*events[:place])
    reader.cut()
    assert_shown_is_stored(reader)
    whole = Reader()
    whole.fold(*events)
    whole.cut()
    for kept, full in zip(reader.stored, whole.stored, strict=False):
        assert kept.block_type == full.block_type
        begun = (kept.text_content or "").removesuffix("\ufffd")
        assert (full.text_content or "").startswith(begun)


# --- threads ------------------------------------------------------------------------------------------------


@pytest.fixture
def often_switching() -> Iterator[None]:
    """Let threads take turns every few microseconds, so that they meet."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.requirement("B6")
def test_several_threads_may_feed(often_switching: None) -> None:
    threads, each = 6, 400
    accumulator = SharedAccumulator()
    barrier = threading.Barrier(threads)
    shown: list[list[TurnEvent]] = [[] for _ in range(threads)]
    stored: list[list[Block]] = [[] for _ in range(threads)]
    failures: list[BaseException] = []

    def feed(number: int) -> None:
        try:
            barrier.wait(timeout=10)
            for round_ in range(each):
                text = f"<{number}:{round_}>"
                index = number * each + round_
                events = [
                    ContentBlockStart(index, "text"),
                    *(TextDelta(index, part) for part in text),
                    ContentBlockStop(index),
                ]
                changes, blocks = accumulator.feed(events[:4])
                shown[number] += changes
                stored[number] += blocks
                meets, is_shown = round_ == 0, False
                if meets:  # all have begun a block; whose is shown stops last, and lets go of the others'
                    barrier.wait(timeout=10)
                    is_shown = accumulator.shown is not None and accumulator.shown.index == index
                if is_shown:
                    barrier.wait(timeout=10)
                changes, blocks = accumulator.feed(events[4:])
                shown[number] += changes
                stored[number] += blocks
                if meets and not is_shown:
                    barrier.wait(timeout=10)
                assert accumulator.statistics.chunks > 0
        except BaseException as failure:  # noqa: BLE001 - it is asserted on in the main thread
            failures.append(failure)

    workers = [threading.Thread(target=feed, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert not failures
    assert not any(worker.is_alive() for worker in workers)
    blocks = sorted((block for found in stored for block in found), key=lambda block: block.sequence)
    assert [block.sequence for block in blocks] == list(range(threads * each))
    assert sorted(block.text_content or "" for block in blocks) == sorted(
        f"<{n}:{r}>" for n in range(threads) for r in range(each)
    )
    assert accumulator.statistics.length == sum(len(block.text_content or "") for block in blocks)
    foreign = [
        block
        for n, found in enumerate(stored)
        for block in found
        if not (block.text_content or "").startswith(f"<{n}:")
    ]
    assert foreign, "blocks of one thread were let go by another: they did interleave"
    assert accumulator.cut() == ([], [])


@pytest.mark.requirement("B6")
def test_a_reader_beside_feeding_threads_sees_whole_states() -> None:
    accumulator = SharedAccumulator()
    done = threading.Event()
    counts: list[int] = []

    def watch() -> None:
        while not done.is_set():
            counts.append(accumulator.statistics.length)
        counts.append(accumulator.statistics.length)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(300):
        accumulator.feed([TextDelta(0, "ab"), TextDelta(0, "cd")])
    done.set()
    watcher.join(timeout=10)
    assert not watcher.is_alive()
    assert counts == sorted(counts)
    assert all(count % 4 == 0 for count in counts), "a batch is folded as one"
    events, (cut,) = accumulator.cut()
    assert cut.block.text_content == "abcd" * 300
    assert isinstance(events[-1], BlockStop)
    accumulator.end()
