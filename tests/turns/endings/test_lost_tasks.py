"""Every exit of an executor ends its turn, or sends the watchers away to find the end. No watcher waits for
ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.turnlog.watching import Client
from tests.turns.world import OWNER, SECONDS, Feed, World, logged, ticks
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, MessageStop, TextDelta
from turnstream.core.turn_events import SourceEvent
from turnstream.model_loop.sources import ForeignSource, TurnSource
from turnstream.store.operations.content import SaveBlock
from turnstream.store.operations.progress import FinishTurn
from turnstream.store.queries import UnfinishedTurns
from turnstream.turnlog.log import TurnLog
from turnstream.turns.executor import Executor

HALF = (ContentBlockStart(0, "text"), TextDelta(0, "half"))


async def follow(world: World, turn_id: str) -> Client:
    """A client that reconnects after each connection that ends without a terminal event."""
    client = Client()
    async with asyncio.timeout(SECONDS):
        while not client.now.ended:
            await world.watched(turn_id, client)
    return client


async def ends_as_error(world: World, executor: Executor, code: str, text: str = "half") -> None:
    turn_id = executor.turn.id
    state = await world.state(turn_id)
    assert (state.turn.status, state.turn.error_code) == ("error", code)
    assert [row.block.text_content for row in state.blocks] == [text]
    assert await world.store.read(UnfinishedTurns()) == []
    client = await follow(world, turn_id)
    assert client.now.fold.ending is not None
    assert client.now.fold.ending.data["code"] == code
    assert client.now.blocks == [row.block for row in state.blocks]


# -- cancellations from within the source
# -----------------------------------------------------------------------------


async def awaits_a_cancelled_task() -> AsyncIterator[Sequence[SourceEvent]]:
    yield HALF
    task = asyncio.ensure_future(asyncio.sleep(SECONDS))
    task.cancel()
    await task


async def awaits_a_cancelled_future() -> AsyncIterator[Sequence[SourceEvent]]:
    yield HALF
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.cancel)
    await future


async def raises_a_cancellation() -> AsyncIterator[Sequence[SourceEvent]]:
    yield HALF
    raise asyncio.CancelledError("mine")


async def times_out() -> AsyncIterator[Sequence[SourceEvent]]:
    async with asyncio.timeout(0.01):
        yield HALF
        await asyncio.sleep(SECONDS)


async def is_cancelled_in_a_group() -> AsyncIterator[Sequence[SourceEvent]]:
    yield HALF
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(SECONDS)).cancel()
        group.create_task(fail())


async def fail() -> None:
    raise RuntimeError("a sibling failed")


class Odd(BaseException):
    """Neither an Exception nor a cancellation."""


async def raises_a_base_exception() -> AsyncIterator[Sequence[SourceEvent]]:
    yield HALF
    raise Odd


Events = Callable[[], AsyncIterator[Sequence[SourceEvent]]]


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    "events",
    [
        awaits_a_cancelled_task,
        awaits_a_cancelled_future,
        raises_a_cancellation,
        times_out,
        is_cancelled_in_a_group,
        raises_a_base_exception,
    ],
)
async def test_what_a_source_cancels_or_raises_ends_its_turn(world: World, events: Events) -> None:
    executor = await world.start_foreign(events())
    client = await world.watched(executor.turn.id)
    assert len(client.terminal_events()) == 1
    await ends_as_error(world, executor, "source_error")
    assert executor.task is not None
    await executor.task  # it has ended as if nothing were amiss


@pytest.mark.fault(7)
async def test_a_timeout_of_the_source_that_strikes_during_a_write_is_the_source_s(world: World) -> None:
    """The generator is suspended within its `asyncio.timeout` while the executor stores a block."""
    struck = asyncio.Event()

    async def events() -> AsyncIterator[Sequence[SourceEvent]]:
        async with asyncio.timeout(None) as limit:
            world.store.before = lambda operation: strike(operation, limit)
            yield [*HALF, ContentBlockStop(0)]
            await asyncio.sleep(SECONDS)

    async def strike(operation: object, limit: asyncio.Timeout) -> None:
        if isinstance(operation, SaveBlock) and not struck.is_set():
            struck.set()
            limit.reschedule(asyncio.get_running_loop().time())
            await asyncio.sleep(SECONDS)

    executor = await world.start_foreign(events())
    await world.ended(executor.turn.id)
    assert struck.is_set()
    await ends_as_error(world, executor, "source_error")
    assert [row.block.partial for row in await world.stored(executor.turn.id)] == [False]


class ClosesBadly(TurnSource):
    """Its `close` awaits a cancelled task."""

    def __init__(self) -> None:
        self.stream = ForeignSource(self.events())

    async def events(self) -> AsyncIterator[Sequence[SourceEvent]]:
        yield [*HALF, ContentBlockStop(0), MessageStop("end_turn")]

    def step(self, number: int) -> Any:
        return self.stream.step(number)

    async def close(self) -> None:
        raise asyncio.CancelledError


@pytest.mark.fault(7)
async def test_a_source_that_is_cancelled_while_it_closes_does_not_change_the_end(world: World) -> None:
    executor = await world.start(ClosesBadly())
    state = await world.ended(executor.turn.id)
    assert state.turn.status == "complete"


# -- cancellations from outside
# ------------------------------------------------------------------------------------


async def started(world: World) -> tuple[Feed, Executor, asyncio.Task[Client]]:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    watching = asyncio.create_task(world.watched(executor.turn.id))
    await feed.say(*HALF)
    return feed, executor, watching


async def cancel_all_tasks_but(spared: set[asyncio.Task[Any]]) -> None:
    """Cancel all tasks, as `asyncio.run` does at its end."""
    tasks = asyncio.all_tasks() - spared
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.fault(7)
async def test_a_host_that_cancels_all_tasks_sends_watchers_away_and_the_turn_ends(world: World) -> None:
    ours = asyncio.all_tasks()
    feed, executor, watching = await started(world)
    subscription = await world.watch(executor.turn.id)
    await cancel_all_tasks_but({*ours, watching})
    async with asyncio.timeout(SECONDS):
        client = await watching
        while await subscription.next() is not None:
            pass
    assert client.terminal_events() == []
    assert feed.closed.is_set()
    await ends_as_error(world, executor, "orphaned")  # all of the text, though none was journalled


@pytest.mark.fault(7)
@pytest.mark.parametrize("how", ["sweep", "interrupt", "watch", "stop_all", "delete"])
async def test_a_turn_that_lost_its_task_is_ended_by_whoever_comes_first(world: World, how: str) -> None:
    _, executor, watching = await started(world)
    turn_id = executor.turn.id
    assert executor.task is not None
    executor.task.cancel()
    async with asyncio.timeout(SECONDS):
        await watching
    match how:
        case "sweep":
            await world.registry.sweep(0.0)
        case "interrupt":
            await world.commands.interrupt(OWNER, turn_id)
        case "watch":
            clients = await asyncio.gather(*(follow(world, turn_id) for _ in range(5)))
            assert len({str(client.cursor) for client in clients}) == 1
        case "stop_all":
            await world.registry.stop_all()
        case _:
            await world.commands.chats.delete(OWNER, executor.turn.chat_id)
            await world.registry.sweep(0.0)
            assert world.registry.get(turn_id) is None
            return
    await ends_as_error(world, executor, "orphaned")
    assert world.registry.active_count == 0


@pytest.mark.fault(7)
async def test_a_watcher_resumes_at_the_end_without_seeing_anything_twice(world: World) -> None:
    _, executor, watching = await started(world)
    assert executor.task is not None
    executor.task.cancel()
    client = await watching
    seen = len(client.frames)
    await world.watched(executor.turn.id, client)
    assert [frame.name for frame in client.frames[seen:]] == ["block_stop", "turn_error"]


@pytest.mark.fault(7)
async def test_a_task_that_is_cancelled_before_its_first_step_leaves_no_turn_behind(world: World) -> None:
    """The task's body never runs, so it closes neither the source nor the turn."""
    closed = asyncio.Event()

    class Source(TurnSource):
        def step(self, number: int) -> None:
            raise AssertionError("it never runs")

        async def close(self) -> None:
            closed.set()

    start = Executor.start

    def start_and_cancel(self: Executor, *arguments: Any) -> asyncio.Task[None]:
        task = start(self, *arguments)
        task.cancel()
        return task

    chat_id = await world.chat()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Executor, "start", start_and_cancel)
        request = asyncio.create_task(world.start(Source(), chat_id=chat_id))
        await asyncio.wait([request])
    (turn_id,) = await world.store.read(UnfinishedTurns())
    assert world.registry.get(turn_id) is None
    assert (await world.state(turn_id)).turn.error_code == "orphaned"
    assert closed.is_set()
    client = await follow(world, turn_id)
    assert [frame.name for frame in client.frames] == ["turn_start", "turn_error"]


@pytest.mark.fault(7)
@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("kind", [SaveBlock, FinishTurn])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_cancellation_during_a_write_loses_nothing_and_doubles_nothing(
    world: World, kind: type, moment: str, times: int
) -> None:
    """A host cancels the task that ends the turn again and again. The block is stored once and whole, and the
    turn has one end."""
    cancelled = 0

    async def cancel(operation: object) -> None:
        nonlocal cancelled
        if isinstance(operation, kind) and cancelled < times:
            cancelled += 1
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    feed = Feed()
    executor = await world.start_foreign(feed.events())
    watching = asyncio.create_task(follow(world, executor.turn.id))
    setattr(world.store, moment, cancel)
    feed.put(*HALF, ContentBlockStop(0), MessageStop("end_turn"))
    feed.end()
    async with asyncio.timeout(SECONDS):
        client = await watching
    assert 1 <= cancelled <= times
    state = await world.state(executor.turn.id)
    assert client.now.fold.ending is not None
    assert client.now.fold.ending.data["status"] == state.turn.status
    assert [row.block for row in state.blocks] == client.now.blocks
    assert [row.block.partial for row in state.blocks] == [False]
    assert len(await world.stored(executor.turn.id)) == 1
    if kind is FinishTurn:
        assert state.turn.status == "complete"


def has_come_to(seq: int, log: TurnLog) -> bool:
    return log.head >= seq or log.terminal is not None


@pytest.mark.fault(7)
async def test_no_race_of_a_cancellation_with_the_turn_leaves_a_watcher_behind(world: World) -> None:
    """The task is cancelled after 0 to 59 steps of the loop, or at each event. Each turn ends once, with the
    shown text."""
    chat_id = await world.chat()
    statuses: set[str] = set()

    async def events() -> AsyncIterator[Sequence[SourceEvent]]:
        for number in range(3):
            yield [ContentBlockStart(number, "text"), TextDelta(number, "ab")]
            await asyncio.sleep(0)
            yield [TextDelta(number, "c"), ContentBlockStop(number)]

    for steps in range(60):
        executor = await world.start_foreign(events(), chat_id=chat_id)
        watching = asyncio.create_task(follow(world, executor.turn.id))
        if steps % 2:
            await ticks(steps)
        else:
            await logged(executor, partial(has_come_to, steps // 3))
        assert executor.task is not None
        executor.task.cancel()
        async with asyncio.timeout(SECONDS):
            client = await watching
        state = await world.state(executor.turn.id)
        statuses.add(state.turn.status)
        assert [row.block for row in state.blocks] == client.now.blocks
        assert client.now.fold.ending is not None
        assert client.now.fold.ending.data["status"] == state.turn.status
    assert statuses == {"complete", "error"}
    assert await world.store.read(UnfinishedTurns()) == []


@pytest.mark.fault(7)
@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_within_a_source_ends_the_turn_on_the_way(
    tmp_path: Path, ending: type[BaseException]
) -> None:
    path = tmp_path / "turns.sqlite"
    turn_ids: list[str] = []

    async def events() -> AsyncIterator[Sequence[SourceEvent]]:
        yield HALF
        await asyncio.sleep(0)
        raise ending

    async def serve() -> None:
        async with World(path) as world:
            executor = await world.start_foreign(events())
            turn_ids.append(executor.turn.id)
            await follow(world, executor.turn.id)
            await asyncio.sleep(SECONDS)

    with pytest.raises(ending):
        asyncio.run(serve())

    async def look() -> None:
        async with World(path) as world:
            assert world.recovered == 0
            state = await world.state(turn_ids[0])
            assert state.turn.status == "error"
            assert [row.block.text_content for row in state.blocks] == ["half"]

    asyncio.run(look())
