"""Interrupts of a turn at any time, and sources that resist."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.turns.executor.texts import text_block
from tests.turns.world import OWNER, SECONDS, Feed, World, shows_text, stop_of, write_lock
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    StreamEvent,
    TextDelta,
)
from turnstream.model_loop.sources import Batches, TurnSource
from turnstream.store.operations.content import SaveBlock

# -- interrupts, phase by phase
# -------------------------------------------------------------------------------------


class SlowOpening(TurnSource):
    """A source whose stream never opens."""

    needs_end_marker = True

    def __init__(self) -> None:
        self.opening, self.left = asyncio.Event(), asyncio.Event()

    def step(self, number: int) -> Any:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Batches]:
        self.opening.set()
        try:
            await asyncio.get_running_loop().create_future()
            raise AssertionError
            yield
        finally:
            self.left.set()


@pytest.mark.requirement("A4")
async def test_interrupt_while_the_stream_opens(world: World) -> None:
    source = SlowOpening()
    executor = await world.start(source)
    await source.opening.wait()
    state = await world.commands.interrupt(OWNER, executor.turn.id)
    assert state.turn.status == "cancelled"
    assert source.left.is_set()


@pytest.mark.requirement("A4")
async def test_interrupt_before_the_rows_are_committed(world: World) -> None:
    """The upstream request may have left already. The turn exists, and is cancelled."""
    chat_id = await world.chat()
    source = SlowOpening()
    with write_lock(world.path):
        starting = asyncio.create_task(world.start(source, chat_id=chat_id))
        await source.opening.wait()
        (executor,) = world.registry._active.values()
        executor.stop("cancelled")
        await source.left.wait()
        assert not executor.ended.is_set()
    await starting
    state = await world.ended(executor.turn.id)
    assert state.turn.status == "cancelled"
    client = await world.watched(executor.turn.id)
    assert [frame.name for frame in client.frames] == ["turn_start", "turn_cancelled"]


@pytest.mark.requirement("A4")
@pytest.mark.parametrize(
    "model",
    ["sim/demo:fault=hang", "sim/demo:fault=silence,after=6,pace=0", "sim/demo:first=60"],
    ids=["no answer", "silent in the middle", "no first token"],
)
async def test_interrupt_while_the_provider_is_silent(world: World, model: str) -> None:
    started = await world.ask("hello", model=model)
    turn_id = started.assistant_turn.id
    executor = world.executor(turn_id)
    if "after" in model:
        await shows_text(executor)
    state = await world.commands.interrupt(OWNER, turn_id)
    assert state.turn.status == "cancelled"
    assert [row.block.partial for row in state.blocks] == ([True] if "after" in model else [])
    again = await world.commands.interrupt(OWNER, turn_id)
    assert again == state


@pytest.mark.requirement("A4", "D1")
async def test_interrupt_during_a_block_s_write_waits_for_it(world: World) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(operation: object) -> None:
        if isinstance(operation, SaveBlock):
            reached.set()
            await go_on.wait()

    world.store.before = hold
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    feed.put(*text_block(0, "whole"), TextDelta(1, "half"))
    await reached.wait()
    asked = stop_of(executor)
    interrupting = asyncio.create_task(world.commands.interrupt(OWNER, executor.turn.id))
    await asked.wait()
    assert not executor.ended.is_set()
    go_on.set()
    async with asyncio.timeout(SECONDS):
        state = await interrupting
    assert state.turn.status == "cancelled"
    assert [row.block for row in state.blocks] == [
        Block(0, "text", "whole"),
        Block(1, "text", "half", partial=True),
    ]


@pytest.mark.requirement("A4", "D1")
async def test_interrupt_during_the_end_tells_the_end_that_was_decided(world: World) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(operation: object) -> None:
        if type(operation).__name__ == "FinishTurn":
            reached.set()
            await go_on.wait()

    world.store.before = hold
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    feed.put(*text_block(0, "whole"))
    feed.end()
    await reached.wait()
    interrupting = asyncio.create_task(world.commands.interrupt(OWNER, executor.turn.id))
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(SECONDS):
        assert (await interrupting).turn.status == "complete"


# -- sources that do not let go
# -------------------------------------------------------------------------------------


async def swallowing() -> AsyncIterator[StreamEvent]:
    yield TextDelta(0, "half")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        yield TextDelta(0, " and after")


async def raising_when_cancelled() -> AsyncIterator[StreamEvent]:
    yield TextDelta(0, "half")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        raise RuntimeError("cancelled, so I fail") from None


async def raising_on_close() -> AsyncIterator[StreamEvent]:
    try:
        yield TextDelta(0, "half")
        await asyncio.get_running_loop().create_future()
    finally:
        raise RuntimeError("the clean-up fails")


async def ending_when_cancelled() -> AsyncIterator[StreamEvent]:
    yield TextDelta(0, "half")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        return


@pytest.mark.requirement("D1", "A4")
@pytest.mark.parametrize(
    "source", [swallowing, raising_when_cancelled, raising_on_close, ending_when_cancelled]
)
async def test_whatever_a_source_makes_of_its_cancellation_the_turn_is_cancelled(
    world: World, source: Any
) -> None:
    executor = await world.start_foreign(source())
    await shows_text(executor)
    async with asyncio.timeout(SECONDS):
        state = await world.commands.interrupt(OWNER, executor.turn.id)
    assert (state.turn.status, state.turn.error_code) == ("cancelled", None)
    assert [row.block for row in state.blocks] == [Block(0, "text", "half", partial=True)]
    assert executor.task is not None
    assert executor.task.cancelling() == 0


@pytest.mark.requirement("A4")
async def test_a_source_that_never_closes_does_not_hold_the_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnstream.model_loop.source_shutdown.SOURCE_CLOSE_TIMEOUT", 0.05)

    async def hanging_on_close() -> AsyncIterator[StreamEvent]:
        try:
            yield TextDelta(0, "half")
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.get_running_loop().create_future()

    class Held:
        """The source's clean-up is in aclose, like that of an SDK's stream."""

        def __init__(self) -> None:
            self._given = False

        def __aiter__(self) -> Held:
            return self

        async def __anext__(self) -> StreamEvent:
            if self._given:
                await asyncio.get_running_loop().create_future()
            self._given = True
            return TextDelta(0, "half")

        async def aclose(self) -> None:
            await asyncio.get_running_loop().create_future()

    executor = await world.start_foreign(Held())
    await shows_text(executor)
    async with asyncio.timeout(SECONDS):
        state = await world.commands.interrupt(OWNER, executor.turn.id)
    assert state.turn.status == "cancelled"


@pytest.mark.requirement("D1")
async def test_a_source_that_stops_its_own_turn(world: World) -> None:
    async def stopping_itself() -> AsyncIterator[StreamEvent]:
        yield TextDelta(0, "half")
        for executor in world.registry._active.values():
            executor.stop("cancelled")
        yield TextDelta(0, " and after")

    executor = await world.start_foreign(stopping_itself())
    assert (await world.ended(executor.turn.id)).turn.status == "cancelled"
    client = await world.watched(executor.turn.id)
    assert client.frames[-1].name == "turn_cancelled"
