"""Turns whose source pushes its events: text is shown without waking the turn's task, and everything keeps
its order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType

import pytest

from tests.turns.world import SECONDS, World
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from turnstream.model_loop.sources import Stream, TurnSource
from turnstream.providers.base import Take

END = MessageStop("end_turn")


class PushedStream:
    """Batches of a test: pushed while the task waits, if it takes them then, else returned."""

    def __init__(self) -> None:
        self.returned = 0
        self.take: Take | None = None
        self._waiter: asyncio.Future[Sequence[StreamEvent] | None] | None = None
        self._waits = asyncio.Event()

    async def __aenter__(self) -> PushedStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def push_to(self, take: Take) -> None:
        self.take = take

    def __aiter__(self) -> PushedStream:
        return self

    async def __anext__(self) -> Sequence[StreamEvent]:
        self._waiter = asyncio.get_running_loop().create_future()
        self._waits.set()
        try:
            events = await self._waiter
        finally:
            self._waits.clear()
        if events is None:
            raise StopAsyncIteration
        self.returned += 1
        return events

    async def give(self, *events: StreamEvent) -> None:
        """Return when the task waits again. No events: the end."""
        async with asyncio.timeout(SECONDS):
            await self._waits.wait()
            assert self._waiter is not None
            if not events or self.take is None or not self.take(events):
                self._waiter.set_result(events or None)
                self._waits.clear()
                if events:
                    await self._waits.wait()


class PushedSource(TurnSource):
    needs_end_marker = True

    def __init__(self) -> None:
        self.stream = PushedStream()

    def step(self, number: int) -> Stream | None:
        return None if number else self.stream


@pytest.mark.requirement("B1")
async def test_text_is_shown_while_the_task_sleeps(world: World) -> None:
    source = PushedSource()
    executor = await world.start(source)
    stream, log = source.stream, executor.log
    watching = asyncio.ensure_future(world.watched(executor.turn.id))
    await stream.give(ContentBlockStart(0, "text"), TextDelta(0, "a"))
    head = log.head
    await stream.give(TextDelta(0, "b"))
    await stream.give(TextDelta(0, "c"), TextDelta(0, "d"))
    assert (log.head, stream.returned) == (head + 2, 1)
    assert log.open_block is not None
    assert log.open_block.text() == "abcd"
    await stream.give(ContentBlockStop(0), END)
    await stream.give()
    client = await watching
    assert client.now.blocks == [Block(0, "text", "abcd")]
    assert [row.block for row in await world.stored(executor.turn.id)] == client.now.blocks
    assert (await world.ended(executor.turn.id)).turn.status == "complete"


@pytest.mark.requirement("B1", "B4")
async def test_all_but_more_of_the_shown_block_is_left_to_the_task(world: World) -> None:
    source = PushedSource()
    executor = await world.start(source)
    stream = source.stream
    watching = asyncio.ensure_future(world.watched(executor.turn.id))
    batches: list[tuple[StreamEvent, ...]] = [
        (ContentBlockStart(0, "thinking"), ThinkingDelta(0, "t")),
        (TextDelta(1, "a "),),  # another block, which nothing began
        (ThinkingDelta(0, "h"), TextDelta(1, "b ")),
        (TextDelta(0, "not of a thinking block"),),
        (ContentBlockStop(0),),
        (ContentBlockStop(1), END),
    ]
    for place, batch in enumerate(batches, 1):
        await stream.give(*batch)
        assert stream.returned == place
    await stream.give()
    client = await watching
    assert client.now.blocks == [row.block for row in await world.stored(executor.turn.id)]
    assert "".join(block.text_content or "" for block in client.now.blocks).count("b ") == 1
    assert (await world.ended(executor.turn.id)).turn.status == "complete"


@pytest.mark.requirement("B1")
async def test_a_character_in_two_halves_is_shown_whole(world: World) -> None:
    source = PushedSource()
    executor = await world.start(source)
    stream = source.stream
    watching = asyncio.ensure_future(world.watched(executor.turn.id))
    await stream.give(ContentBlockStart(0, "text"))
    for text in ("é", "\ud83d", "\ude00", "", "ü\ud83d", "x"):
        await stream.give(TextDelta(0, text))
    assert stream.returned == 1
    await stream.give(ContentBlockStop(0), END)
    await stream.give()
    assert (await watching).now.blocks == [Block(0, "text", "é\U0001f600ü\ufffdx")]


@pytest.mark.requirement("A4", "D1")
async def test_nothing_is_taken_once_the_turn_is_asked_to_stop(world: World) -> None:
    source = PushedSource()
    executor = await world.start(source)
    stream = source.stream
    await stream.give(ContentBlockStart(0, "text"), TextDelta(0, "kept"))
    await stream.give(TextDelta(0, " too"))
    executor.stop("cancelled")
    assert stream.take is not None
    assert not stream.take([TextDelta(0, " late")])
    assert (await world.ended(executor.turn.id)).turn.status == "cancelled"
    assert [row.block for row in await world.stored(executor.turn.id)] == [
        Block(0, "text", "kept too", partial=True)
    ]
    assert not stream.take([TextDelta(0, " later still")])
