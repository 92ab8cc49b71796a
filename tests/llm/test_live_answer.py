"""Readers of an answer: the text log, the queues, restarts. Each also has a property test over any split."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnstream as ts
from tests.llm.scripted import Scripted, streaming
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import TurnEvent
from turnstream.errors import StreamBroken
from turnstream.llm.event_queue import PROGRESS_KEPT, EventQueue
from turnstream.llm.text_log import MOST_PARTS, TextLog
from turnstream.model_loop.sources import Stream, TurnSource

pytestmark = pytest.mark.requirement("F1")
DEADLINE = 10.0


def text(index: int, *pieces: str) -> list[Any]:
    return [
        ContentBlockStart(index, "text"),
        *(TextDelta(index, piece) for piece in pieces),
        ContentBlockStop(index),
    ]


ANSWER = [
    MessageStart("msg_1", "m"),
    ContentBlockStart(0, "thinking"),
    *(ThinkingDelta(0, piece) for piece in ("Well, ", "well.")),
    ContentBlockStop(0),
    *text(1, "Why ", "is the ", "sky ", "blue? ", "🤔"),
    ContentBlockStart(2, "tool_use", {"tool_use_id": "t", "tool_name": "look"}),
    *(ToolInputDelta(2, piece) for piece in ('{"wh', 'at":', '"sky"}')),
    ContentBlockStop(2),
    *text(3, "So."),
    Metadata(ts.Usage(3, 9)),
    MessageStop("end_turn"),
]


@given(st.lists(st.integers(0, len(ANSWER)), max_size=8), st.integers(1, 12))
def test_any_split_of_the_events_gives_the_same_message_and_events(cuts: list[int], buffer: int) -> None:
    places = [0, *sorted(cuts), len(ANSWER)]
    batches = [ANSWER[start:end] for start, end in itertools.pairwise(places) if start < end]

    async def read() -> None:
        async with streaming(Scripted(batches), buffer=buffer) as stream:
            late: Any = None

            async def events() -> dict[int, str]:
                return folded([event async for event in stream])

            async def pieces() -> list[str]:
                return [piece async for piece in stream.text]

            seen, said, message = await asyncio.gather(events(), pieces(), stream.final_message())
            late = folded([event async for event in stream])
        assert "".join(said) == message.text == "Why is the sky blue? 🤔So."
        assert seen == late == {0: "Well, well.", 1: "Why is the sky blue? 🤔", 2: '{"what":"sky"}', 3: "So."}
        assert message.usage == ts.Usage(3, 9)
        assert message.thinking == "Well, well."
        assert [block.block_type for block in message.blocks] == ["thinking", "text", "tool_use", "text"]

    asyncio.run(read())


def folded(events: list[TurnEvent]) -> dict[int, str]:
    found: dict[int, str] = {}
    for event in events:
        match event:
            case ts.BlockDelta(block_index=index, field="text" | "partial_json", value=value):
                found[index] = found.get(index, "") + value
            case ts.BlockCatchup(block_index=index) as catchup:
                found[index] = catchup.accumulated_text or catchup.input_partial or ""
            case ts.BlockReset(block_index=index):
                found = {block: said for block, said in found.items() if block < index}
            case _:
                pass
    return found


# -- restarts
# --------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("J4")
async def test_a_restart_that_repeats_what_was_read_is_not_noticed_in_the_text() -> None:
    source = Scripted(
        [
            [MessageStart("a"), *text(0, "Hello. "), ContentBlockStart(1, "text"), TextDelta(1, "The sk")],
            [ts.BlockReset(1), ContentBlockStart(0, "text"), TextDelta(0, "The")],
            [TextDelta(0, " sky is"), TextDelta(0, " blue."), ContentBlockStop(0), MessageStop("end_turn")],
        ],
        stepwise=True,
    )
    assert source.go is not None
    async with asyncio.timeout(DEADLINE), streaming(source) as stream:
        reader = stream.text
        source.go.release()
        assert await anext(reader) == "Hello. The sk"
        source.go.release()
        source.go.release()
        assert [piece async for piece in reader] == ["y is blue."]
        message = await stream.final_message()
        assert folded([event async for event in stream]) == {0: "Hello. ", 1: "The sky is blue."}
    assert message.text == "Hello. The sky is blue."
    assert [block.sequence for block in message.blocks] == [0, 1]
    assert source.closed


async def test_a_restart_that_says_something_else_is_an_error_and_never_spliced() -> None:
    batches = [
        [MessageStart("a"), ContentBlockStart(0, "text"), TextDelta(0, "The sky is bl")],
        [ts.BlockReset(0), ContentBlockStart(0, "text"), TextDelta(0, "The sea"), MessageStop("end_turn")],
    ]
    source = Scripted(batches, stepwise=True)
    assert source.go is not None
    async with asyncio.timeout(DEADLINE), streaming(source) as stream:
        reader = stream.text
        source.go.release()
        assert await anext(reader) == "The sky is bl"
        source.go.release()
        with pytest.raises(StreamBroken) as raised:
            await anext(reader)
    assert raised.value.code == "cannot_continue"
    assert raised.value.partial is not None
    assert raised.value.partial.text == "The sky is bl", "what was read, not what came in its place"


async def test_a_restart_before_anybody_has_read_is_free() -> None:
    batches = [
        [MessageStart("a"), ContentBlockStart(0, "text"), TextDelta(0, "The sky is bl")],
        [ts.BlockReset(0), *text(0, "The sea"), MessageStop("end_turn")],
    ]
    async with streaming(Scripted(batches)) as stream:
        assert await stream.final_text() == "The sea"
        assert [piece async for piece in stream.text] == ["The sea"]


async def test_a_restart_that_ends_before_what_was_read_is_an_error() -> None:
    batches = [
        [MessageStart("a"), ContentBlockStart(0, "text"), TextDelta(0, "The sky is bl")],
        [ts.BlockReset(0), *text(0, "The sky"), MessageStop("end_turn")],
    ]
    source = Scripted(batches, stepwise=True)
    assert source.go is not None
    async with asyncio.timeout(DEADLINE), streaming(source) as stream:
        source.go.release()
        assert await anext(stream.text) == "The sky is bl"
        source.go.release()
        with pytest.raises(StreamBroken, match="started again"):
            await stream.final_message()


async def test_an_answer_without_its_end_marker_is_incomplete() -> None:
    async with streaming(Scripted([[MessageStart("a"), *text(0, "Hi")]])) as stream:
        with pytest.raises(ts.StreamIncomplete):
            await stream.final_message()


class Odd(TurnSource):
    """Fails in ways that no source should."""

    def step(self, number: int) -> Stream | None:
        raise KeyError("in a source")

    async def close(self) -> None:
        raise OSError("while it is closed")


async def test_a_source_that_fails_unexpectedly_ends_the_stream_with_its_own_error() -> None:
    stream = streaming(Odd())
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(KeyError, match="in a source"):
            await stream.__aenter__()
        with pytest.raises(KeyError):
            await stream.final_message()
    assert stream.ended


# -- the parts
# -------------------------------------------------------------------------------------------------------

_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.text(max_size=5)),
        st.tuples(st.just("block"), st.just("")),
        st.tuples(st.just("read"), st.just("")),
        st.tuples(st.just("restart"), st.just("")),
    ),
    max_size=40,
)


@given(_ACTIONS)
def test_what_was_read_of_a_text_is_always_its_beginning(actions: list[tuple[str, str]]) -> None:
    log = TextLog()
    blocks: list[str] = [""]
    log.begin_block(0)
    read = ""
    for action, value in actions:
        if action == "append":
            try:
                log.append(value)
            except StreamBroken:
                assert not read.startswith("".join(blocks) + value)
                assert not ("".join(blocks) + value).startswith(read)
                return
            blocks[-1] += value
        elif action == "block":
            log.begin_block(len(blocks))
            blocks.append("")
        elif action == "read":
            read += log.read(len(read))
        else:
            blocks.pop()
            log.retract(len(blocks))
            log.begin_block(len(blocks))
            blocks.append("")
        whole = "".join(blocks)
        assert log.length == len(whole)
        assert whole.startswith(read) or read.startswith(whole)


def test_a_long_text_in_many_pieces_is_read_from_anywhere() -> None:
    log = TextLog()
    for number in range(3 * MOST_PARTS):
        log.append(f"{number:06d}")
    whole = "".join(f"{number:06d}" for number in range(3 * MOST_PARTS))
    for place in (0, 1, 5, 6, 7, len(whole) // 2, len(whole) - 1, len(whole)):
        assert log.read(place) == whole[place:]


@given(
    st.integers(0, 5),
    st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["text", "partial_json"]), st.text(max_size=3)))
    ),
    st.integers(0, 3),
)
def test_a_queue_loses_nothing(limit: int, pushes: list[list[tuple[int, Any, str]]], take_every: int) -> None:
    queue = EventQueue(limit)
    given_events: list[TurnEvent] = []
    taken: list[TurnEvent] = []
    for number, push in enumerate(pushes):
        events = [ts.BlockDelta(index, "text", name, value) for index, name, value in push]
        given_events += events
        queue.push(events)
        if take_every and number % take_every == 0:
            taken += queue.take()
    taken += queue.take()
    assert _joined(taken) == _joined(given_events)


def _joined(events: Sequence[TurnEvent]) -> list[tuple[int, str, str]]:
    found: list[tuple[int, str, str]] = []
    for event in events:
        assert isinstance(event, ts.BlockDelta)
        if found and found[-1][:2] == (event.block_index, event.field):
            found[-1] = (event.block_index, event.field, found[-1][2] + event.value)
        else:
            found.append((event.block_index, event.field, event.value))
    return found


def test_what_waits_in_a_queue_is_bounded() -> None:
    queue = EventQueue(4)
    for number in range(20_000):
        queue.push([ts.ToolProgress(f"call {number % 8}", "x" * 100), ts.UsageReport(ts.Usage(number))])
        queue.push([ts.BlockDelta(0, "text", "text", "x")] * 3)
    events = queue.take()
    progress = [event for event in events if isinstance(event, ts.ToolProgress)]
    assert len(progress) <= 8 + 4
    assert len(events) < 30
    assert all(len(event.text) <= PROGRESS_KEPT for event in progress)
    assert sum(len(e.value) for e in events if isinstance(e, ts.BlockDelta)) == 60_000
