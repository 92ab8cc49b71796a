"""A source that swallows its cancellation ends at the latest at its turn's deadline, and delays nothing
else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from tests.turns.world import OWNER, SECONDS, World, shows_text, ticks
from turnstream.core.stream_events import ContentBlockStart, TextDelta
from turnstream.errors import NotFound
from turnstream.model_loop import source_shutdown
from turnstream.model_loop.sources import Batches, SourceEvent, TurnSource
from turnstream.store.queries import UnfinishedTurns
from turnstream.tools import ToolRunner
from turnstream.tools.base import by_name
from turnstream.turns import turn_task
from turnstream.turns.executor import Executor

HALF = (ContentBlockStart(0, "text"), TextDelta(0, "half"))

pytestmark = pytest.mark.fault(44)


@pytest.fixture(autouse=True)
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_task, "STOP_SECONDS", 0.05)
    monkeypatch.setattr(source_shutdown, "SOURCE_CLOSE_TIMEOUT", 0.02)


async def wait_on(swallowed: list[BaseException]) -> None:
    """Wait for ever, in spite of cancellation."""
    swallowed.append(GeneratorExit("it waits"))
    while True:
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError as error:
            swallowed.append(error)


def swallows_cancellation(swallowed: list[BaseException]) -> AsyncIterator[Sequence[SourceEvent]]:
    async def events() -> AsyncIterator[Sequence[SourceEvent]]:
        try:
            yield HALF
            await wait_on(swallowed)
        finally:
            swallowed.append(GeneratorExit("it has let go"))

    return events()


def swallows_it_while_it_closes(swallowed: list[BaseException]) -> AsyncIterator[Sequence[SourceEvent]]:
    async def events() -> AsyncIterator[Sequence[SourceEvent]]:
        try:
            yield HALF
            await asyncio.sleep(SECONDS)
        finally:
            await wait_on(swallowed)

    return events()


def says_more_afterwards(swallowed: list[BaseException]) -> AsyncIterator[Sequence[SourceEvent]]:
    async def events() -> AsyncIterator[Sequence[SourceEvent]]:
        yield HALF
        while True:
            try:
                await asyncio.sleep(SECONDS)
            except asyncio.CancelledError as error:
                swallowed.append(error)
            yield [TextDelta(0, " late")]

    return events()


Source = Callable[[list[BaseException]], AsyncIterator[Sequence[SourceEvent]]]
STUBBORN = [swallows_cancellation, swallows_it_while_it_closes, says_more_afterwards]


async def start(world: World, source: Source) -> tuple[Executor, list[BaseException]]:
    swallowed: list[BaseException] = []
    executor = await world.start_foreign(source(swallowed))
    await shows_text(executor)
    return executor, swallowed


async def is_ended(world: World, executor: Executor, swallowed: list[BaseException], status: str) -> None:
    """The turn is stored and shown as ended, and its task ends too."""
    turn_id = executor.turn.id
    state = await world.state(turn_id)
    assert state.turn.status == status
    assert [row.block.text_content for row in state.blocks] == ["half"]
    client = await world.watched(turn_id)
    assert len(client.terminal_events()) == 1
    assert client.now.blocks == [row.block for row in state.blocks]
    assert executor.task is not None
    done, _ = await asyncio.wait([executor.task], timeout=SECONDS)
    assert done
    await ticks(5)
    assert (await world.watched(turn_id)).now.blocks == client.now.blocks
    assert world.registry.active_count == 0
    assert swallowed


@pytest.mark.parametrize("source", STUBBORN)
async def test_an_interrupt_ends_the_turn_without_its_source(
    world: World, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    executor, swallowed = await start(world, source)
    caplog.clear()
    async with asyncio.timeout(SECONDS):
        answers = await asyncio.gather(*(world.commands.interrupt(OWNER, executor.turn.id) for _ in range(3)))
    assert {answer.turn.status for answer in answers} == {"cancelled"}
    await is_ended(world, executor, swallowed, "cancelled")
    del executor
    gc.collect()
    await ticks(5)
    assert not [record for record in caplog.records if record.name == "asyncio"]
    if source is swallows_cancellation:
        assert str(swallowed[-1]) == "it has let go"


@pytest.mark.parametrize("source", STUBBORN)
async def test_a_chat_is_deleted_without_its_source(world: World, source: Source) -> None:
    executor, _ = await start(world, source)
    watching = asyncio.create_task(world.watched(executor.turn.id))
    await ticks(3)
    async with asyncio.timeout(SECONDS):
        await world.commands.chats.delete(OWNER, executor.turn.chat_id)
        client = await watching
    assert client.terminal_events()[0].name == "turn_cancelled"
    with pytest.raises(NotFound):
        await world.state(executor.turn.id)
    assert executor.task is not None
    await asyncio.wait([executor.task], timeout=SECONDS)


@pytest.mark.parametrize("source", STUBBORN)
async def test_a_shutdown_ends_the_turn_without_its_source(tmp_path: Path, source: Source) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        executor, swallowed = await start(world, source)
        async with asyncio.timeout(SECONDS):
            await world.registry.drain(0.0)
        await is_ended(world, executor, swallowed, "error")
    async with World(tmp_path / "turns.sqlite") as world:
        assert world.recovered == 0
        assert (await world.state(executor.turn.id)).turn.error_code == "server_shutdown"


@pytest.mark.parametrize("source", STUBBORN)
async def test_a_silent_turn_is_ended_without_its_source(world: World, source: Source) -> None:
    executor, swallowed = await start(world, source)
    await world.registry.sweep(executor.progress.last + 10_000)
    await world.ended(executor.turn.id)
    await is_ended(world, executor, swallowed, "error")


async def test_a_source_that_hangs_while_it_is_left_is_no_end_of_its_own(world: World) -> None:
    """The source was whole, and hangs when its stream is closed, without any cancellation. The next sweep
    that finds the turn silent ends it."""
    swallowed: list[BaseException] = []
    hanging = asyncio.Event()

    async def events() -> AsyncIterator[Sequence[SourceEvent]]:
        yield HALF

    class Source(TurnSource):
        def step(self, number: int) -> contextlib.AbstractAsyncContextManager[Batches]:
            return self._stream()

        @contextlib.asynccontextmanager
        async def _stream(self) -> AsyncIterator[Batches]:
            yield events()
            hanging.set()
            await wait_on(swallowed)

    executor = await world.start(Source())
    await shows_text(executor)
    async with asyncio.timeout(SECONDS):
        await hanging.wait()
    await world.registry.sweep(executor.progress.last + 10_000)
    await world.ended(executor.turn.id)
    await is_ended(world, executor, swallowed, "error")


async def test_rows_that_are_refused_leave_no_stubborn_source_behind(world: World) -> None:
    swallowed: list[BaseException] = []
    with pytest.raises(NotFound):
        await world.start_foreign(swallows_cancellation(swallowed), prev_turn_id=await world.chat())
    async with asyncio.timeout(SECONDS):
        await world.registry._idle.wait()


async def test_a_tool_that_swallows_cancellation_does_not_hold_the_turn(tmp_path: Path) -> None:
    began = asyncio.Event()
    swallowed: list[BaseException] = []
    free = asyncio.Event()

    async def stubborn() -> str:
        """Wait."""
        began.set()
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError as error:
                swallowed.append(error)
        return "late"

    tools = ToolRunner(by_name([stubborn]))
    async with World(tmp_path / "turns.sqlite", tools=tools) as world:
        started = await world.ask("use it", model="sim/tools:pace=0", tools=("stubborn",))
        executor = world.executor(started.assistant_turn.id)
        async with asyncio.timeout(SECONDS):
            await began.wait()
            state = await world.commands.interrupt(OWNER, executor.turn.id)
        assert state.turn.status == "cancelled"
        assert swallowed
        assert await world.store.read(UnfinishedTurns()) == []
        free.set()
