"""Ends of the one fold: cuts, statistics, bounds, and catching up with open blocks."""

from __future__ import annotations

import pytest

from tests.core.folding import Reader, assert_shown_is_stored
from turnstream.core.accumulator import Accumulator, Statistics
from turnstream.core.blocks import Block, Content
from turnstream.core.open_block import catchup_of
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
)
from turnstream.core.usage import Usage
from turnstream.errors import MalformedEvent, StreamBroken


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
