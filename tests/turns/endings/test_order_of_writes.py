"""Writes of a turn that overtake each other, and a chat that is deleted between them. Each test creates its
own interleaving."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.turnlog.watching import Client
from tests.turns.world import OWNER, SECONDS, Feed, World
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, MessageStop, TextDelta
from turnstream.core.turn_events import SourceEvent
from turnstream.errors import NotFound, Overloaded
from turnstream.store.base import Operation
from turnstream.store.operations.content import SaveBlock
from turnstream.store.operations.deleting import DeleteChat
from turnstream.store.operations.progress import FinishTurn, MarkStreaming
from turnstream.store.operations.start import StartTurns
from turnstream.turns.executor import Executor

pytestmark = pytest.mark.fault(49)


class Order:
    """Holds each write of one kind until a write of another kind is committed. Records the order of both."""

    def __init__(self, world: World, held: type[Operation[Any]], until: type[Operation[Any]]) -> None:
        self.committed: list[str] = []
        self._held, self._until = held, until
        self._free = asyncio.Event()
        world.store.before = self._before
        world.store.after = self._after

    async def _before(self, operation: Operation[Any]) -> None:
        if isinstance(operation, self._held):
            await asyncio.wait_for(self._free.wait(), SECONDS)

    async def _after(self, operation: Operation[Any]) -> None:
        self.committed.append(type(operation).__name__)
        if isinstance(operation, self._until):
            self._free.set()


async def at_once() -> AsyncIterator[Sequence[SourceEvent]]:
    yield [ContentBlockStart(0, "text"), TextDelta(0, "all"), ContentBlockStop(0), MessageStop("end_turn")]


async def failing() -> AsyncIterator[Sequence[SourceEvent]]:
    yield [ContentBlockStart(0, "text"), TextDelta(0, "all")]
    raise Overloaded("no")


@pytest.mark.parametrize(("events", "status"), [(at_once, "complete"), (failing, "error")])
@pytest.mark.parametrize("overtaken", [True, False])
async def test_an_end_that_overtakes_the_mark_is_the_end(
    world: World, events: Any, status: str, overtaken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = (MarkStreaming, FinishTurn) if overtaken else (FinishTurn, MarkStreaming)
    order = Order(world, *kinds)
    executor = await world.start_foreign(events())
    state = await world.ended(executor.turn.id)
    if overtaken:
        assert "MarkStreaming" not in order.committed[: order.committed.index("FinishTurn")]
    assert executor.writer.marking is not None
    await asyncio.wait([executor.writer.marking])
    assert order.committed.count("FinishTurn") == 1
    assert state.turn.status == status
    assert state.turn.started_at is not None
    assert state.turn.created_at <= state.turn.started_at <= (state.turn.completed_at or 0)
    assert (await world.state(executor.turn.id)).turn == state.turn
    assert not [record for record in caplog.records if record.name.endswith("writing")]


async def test_a_turn_of_nothing_ends_with_one_write(world: World) -> None:
    async def nothing() -> AsyncIterator[Sequence[SourceEvent]]:
        return
        yield

    executor = await world.start_foreign(nothing())
    state = await world.ended(executor.turn.id)
    kinds = [type(operation).__name__ for _, operation in world.store.writes]
    assert kinds == ["CreateChat", "StartTurns", "FinishTurn"]
    assert (state.turn.status, state.turn.started_at) == ("complete", state.turn.completed_at)


# -- a chat that is deleted just as a turn begins
# --------------------------------------------------------------------


async def watch(world: World, executor: Executor) -> Client:
    return await world.watched(executor.turn.id)


def says_so(client: Client) -> None:
    (end,) = client.terminal_events()
    assert (end.name, end.data["code"]) == ("turn_error", "chat_deleted")
    assert "deleted" in end.data["error"]


@pytest.mark.parametrize("moment", ["before it says anything", "at a block's end", "at its end"])
async def test_a_turn_whose_chat_is_deleted_at_its_start_says_so(world: World, moment: str) -> None:
    """The turn begins after the deletion has looked for running turns, and before it deletes."""
    chat_id = await world.chat()
    looked, began = asyncio.Event(), asyncio.Event()

    async def hold(operation: Operation[Any]) -> None:
        if isinstance(operation, DeleteChat):
            looked.set()
            await asyncio.wait_for(began.wait(), SECONDS)

    world.store.before = hold
    deleting = asyncio.create_task(world.commands.chats.delete(OWNER, chat_id))
    await looked.wait()
    feed = Feed()
    executor = await world.start_foreign(feed.events(), chat_id=chat_id)
    watching = asyncio.create_task(watch(world, executor))
    if moment != "before it says anything":
        executor.stop = lambda _cause: None  # type: ignore[method-assign] - as if the turn's own write came first
        await feed.say(ContentBlockStart(0, "text"), TextDelta(0, "half"))
    began.set()
    if moment != "before it says anything":
        await until_deleted(world, chat_id)
        feed.put(*([ContentBlockStop(0)] if moment == "at a block's end" else []))
        feed.end()
    async with asyncio.timeout(SECONDS):
        await deleting
        says_so(await watching)
    assert executor.unsaved is None
    assert world.registry.get(executor.turn.id) is None
    with pytest.raises(NotFound):
        await world.state(executor.turn.id)


async def until_deleted(world: World, chat_id: str) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await world.commands.chats.branch(OWNER, chat_id)
            except NotFound:
                return


@pytest.mark.parametrize("with_previous", [False, True])
async def test_a_turn_that_comes_after_its_chat_was_deleted_is_refused_as_such(
    world: World, with_previous: bool
) -> None:
    first = await world.ask("hello", model="sim/echo:pace=0")
    await world.ended(first.assistant_turn.id)
    chat_id = first.assistant_turn.chat_id
    reached, deleted = asyncio.Event(), asyncio.Event()

    async def hold(operation: Operation[Any]) -> None:
        if isinstance(operation, StartTurns):
            reached.set()
            await asyncio.wait_for(deleted.wait(), SECONDS)

    world.store.before = hold
    options = {"prev_turn_id": first.assistant_turn.id} if with_previous else {}
    asking = asyncio.create_task(world.ask("more", chat_id=chat_id, model="sim/echo:pace=0", **options))
    await reached.wait()
    await world.store.write(DeleteChat(owner=OWNER, chat_id=chat_id))
    deleted.set()
    with pytest.raises(NotFound, match="no such chat"):
        await asking
    async with asyncio.timeout(SECONDS):
        await world.registry._idle.wait()


async def test_a_deleted_turn_is_no_storage_failure(world: World, caplog: pytest.LogCaptureFixture) -> None:
    chat_id = await world.chat()
    feed = Feed()
    executor = await world.start_foreign(feed.events(), chat_id=chat_id)
    watching = asyncio.create_task(watch(world, executor))
    await feed.say(ContentBlockStart(0, "text"), TextDelta(0, "half"))
    await world.store.write(DeleteChat(owner=OWNER, chat_id=chat_id))
    feed.put(ContentBlockStop(0))
    async with asyncio.timeout(SECONDS):
        says_so(await watching)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [type(operation) for _, operation in world.store.writes].count(SaveBlock) == 1
