"""Simultaneous requests with one Idempotency-Key: the row decides, and one model is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.store.reads import ListTurns
from tests.turns.world import OWNER, SECONDS, World, ticks
from turnstream.core.blocks import Block
from turnstream.core.stream_events import MessageStop, TextDelta
from turnstream.core.turn_events import SourceEvent
from turnstream.dialects.native import NativeEncoder
from turnstream.errors import Conflict, NotFound, StoreError
from turnstream.model_loop.sources import ForeignSource, Stream
from turnstream.store.operations.start import StartTurns
from turnstream.store.queries import UnfinishedTurns
from turnstream.turns.commands import Commands, StartedTurn, TurnRequest
from turnstream.turns.registry import Registry

pytestmark = pytest.mark.fault(10)

AT_ONCE = 28


class Calls:
    """Counts the sources that are opened, and those that are closed."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = 0
        self.read = 0

    def source(self) -> ForeignSource:
        self.made += 1
        return CountedSource(self)

    async def events(self) -> AsyncIterator[Sequence[SourceEvent]]:
        yield [TextDelta(0, "once"), MessageStop("end_turn")]


class CountedSource(ForeignSource):
    def __init__(self, calls: Calls) -> None:
        super().__init__(calls.events())
        self._calls = calls

    def step(self, number: int) -> Stream | None:
        self._calls.read += number == 0
        return super().step(number)

    async def close(self) -> None:
        self._calls.closed += 1
        await super().close()


async def all_past_the_look(world: World, count: int) -> None:
    """Hold back StartTurns until `count` of them wait: each has looked for the key and found nothing."""
    waiting = 0
    all_there = asyncio.Event()

    async def hold(operation: object) -> None:
        nonlocal waiting
        if isinstance(operation, StartTurns):
            waiting += 1
            if waiting == count:
                all_there.set()
            await asyncio.wait_for(all_there.wait(), SECONDS)

    world.store.before = hold


def asked(chat_id: str, key: str = "k", fingerprint: str = "f") -> TurnRequest:
    return TurnRequest(
        chat_id=chat_id, blocks=(Block(0, "text", "hi"),), idempotency_key=key, fingerprint=fingerprint
    )


async def all_closed(calls: Calls) -> None:
    async with asyncio.timeout(SECONDS):
        while calls.closed < calls.made:  # noqa: ASYNC110 - the sources are closed by tasks of their own
            await asyncio.sleep(0)


async def test_one_key_at_once_reads_one_source_and_makes_one_turn(world: World) -> None:
    chat_id, calls = await world.chat(), Calls()
    await all_past_the_look(world, AT_ONCE)
    starting = [world.commands.start(OWNER, asked(chat_id), calls.source()) for _ in range(AT_ONCE)]
    started = await asyncio.gather(*starting)
    assert len({answer.assistant_turn.id for answer in started}) == 1
    assert [answer.replayed for answer in started].count(False) == 1
    state = await world.ended(started[0].assistant_turn.id)
    assert state.turn.status == "complete"
    assert (calls.made, calls.read) == (AT_ONCE, 1)
    assert len(await world.store.read(ListTurns(owner=OWNER, chat_id=chat_id))) == 2
    await all_closed(calls)
    assert world.registry.active_count == 0


async def test_the_row_decides_for_two_nodes_too(world: World) -> None:
    """Two sets of executors that share no memory, like two processes."""
    chat_id, calls = await world.chat(), Calls()
    other = Commands(world.store, Registry(), world.catalog, NativeEncoder)
    await all_past_the_look(world, 2)
    answers = await asyncio.gather(
        *(node.start(OWNER, asked(chat_id), calls.source()) for node in (world.commands, other))
    )
    assert len({answer.assistant_turn.id for answer in answers}) == 1
    for node in (world.commands, other):
        await node.ended(answers[0].assistant_turn.id)
    assert calls.read == 1
    await all_closed(calls)
    await other.registry.stop_all()


async def test_a_key_of_another_request_reads_nothing(world: World) -> None:
    chat_id, calls = await world.chat(), Calls()
    await all_past_the_look(world, 4)
    starting = [
        world.commands.start(OWNER, asked(chat_id, fingerprint=mark), calls.source()) for mark in "aabb"
    ]
    answers = await asyncio.gather(*starting, return_exceptions=True)
    assert sum(isinstance(answer, Conflict) for answer in answers) == 2
    assert len({answer.assistant_turn.id for answer in answers if isinstance(answer, StartedTurn)}) == 1
    await all_closed(calls)
    assert calls.read == 1


@pytest.mark.parametrize("hang_up", [False, True])
async def test_a_key_whose_caller_hangs_up_is_used_all_the_same(world: World, hang_up: bool) -> None:
    chat_id, calls = await world.chat(), Calls()
    reached = asyncio.Event()

    async def tell(operation: object) -> None:
        if isinstance(operation, StartTurns):
            reached.set()
            await ticks(3)

    world.store.before = tell
    request = asyncio.create_task(world.commands.start(OWNER, asked(chat_id), calls.source()))
    await reached.wait()
    if hang_up:
        request.cancel()
    await asyncio.wait([request])
    again = await world.commands.start(OWNER, asked(chat_id), calls.source())
    assert again.replayed
    assert (await world.ended(again.assistant_turn.id)).turn.status == "complete"
    await all_closed(calls)
    assert calls.read == 1


async def test_a_key_whose_rows_are_refused_reads_nothing_and_is_free_again(world: World) -> None:
    chat_id, calls = await world.chat(), Calls()
    wrong = TurnRequest(chat_id=chat_id, idempotency_key="k", fingerprint="f", prev_turn_id=chat_id)
    with pytest.raises(NotFound):
        await world.commands.start(OWNER, wrong, calls.source())
    assert (await world.commands.start(OWNER, asked(chat_id), calls.source())).replayed is False
    await all_closed(calls)
    assert calls.read == 1


async def test_a_key_whose_write_is_in_doubt_reads_nothing_and_its_turn_ends(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite", store_timeout=0.2) as world:
        chat_id, calls = await world.chat(), Calls()

        async def lose_the_answer(operation: object) -> None:
            if isinstance(operation, StartTurns):
                raise StoreError("the answer was lost")

        world.store.after = lose_the_answer
        with pytest.raises(StoreError):
            await world.commands.start(OWNER, asked(chat_id), calls.source())
        world.store.after = None
        await all_closed(calls)
        await world.registry.sweep(0.0)
        again = await world.commands.start(OWNER, asked(chat_id), calls.source())
        assert again.replayed
        assert (await world.state(again.assistant_turn.id)).turn.error_code == "database_error"
        assert calls.read == 0
        assert await world.store.read(UnfinishedTurns()) == []


async def test_a_repetition_may_watch_and_read_the_turn_at_every_moment(world: World) -> None:
    """The turn is in the registry before its rows can be read, so no sweep takes it for the turn of a dead
    process."""
    chat_id, calls = await world.chat(), Calls()
    committed = asyncio.Event()
    held = asyncio.Event()

    async def hold(operation: object) -> None:
        if isinstance(operation, StartTurns) and not committed.is_set():
            committed.set()
            await held.wait()

    world.store.after = hold
    first = asyncio.create_task(world.commands.start(OWNER, asked(chat_id), calls.source()))
    async with asyncio.timeout(SECONDS):
        await committed.wait()
        again = await world.commands.start(OWNER, asked(chat_id), calls.source())
        assert again.replayed
        turn_id = again.assistant_turn.id
        assert (await world.state(turn_id)).turn.status == "pending"
        watching = asyncio.create_task(world.watched(turn_id))
        await ticks(5)
        held.set()
        client = await watching
        await first
    assert client.now.blocks == [Block(0, "text", "once")]
    assert client.frames[-1].name == "turn_complete"
    await all_closed(calls)
    assert calls.read == 1


async def test_without_a_key_the_source_is_read_before_the_rows_are_made(world: World) -> None:
    """The conditions for an early first token hold."""
    calls = Calls()
    read_before: list[int] = []

    async def note(operation: object) -> None:
        if isinstance(operation, StartTurns):
            await ticks(3)
            read_before.append(calls.read)

    world.store.before = note
    executor = await world.start(calls.source())
    await world.ended(executor.turn.id)
    assert read_before == [1]
