"""A PostgreSQL that is cut off, restarted, paused or locked: writes wait, and none is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg
import pytest
from sqlalchemy import Connection, text

from tests.nodes.process_control import pause, resume
from tests.nodes.proxy import TcpProxy
from tests.nodes.triggers import Action, AtMessage
from tests.postgresql import PostgresServer
from tests.store.samples import (
    OWNER,
    finish,
    make_block,
    make_turn,
    pending_turn,
    running_turn,
    save,
    stored_chat,
)
from turnstream.core.usage import ORPHANED, CallAttempt
from turnstream.errors import Fenced, StoreError
from turnstream.store.base import Operation, TurnRecord
from turnstream.store.migrations import upgrade_database
from turnstream.store.operations.approvals import ContinueTurn, StartWaiting
from turnstream.store.operations.nodes import ClaimTurn, ResumeClaimed
from turnstream.store.operations.progress import MarkStreaming, SaveStep
from turnstream.store.operations.start import StartTurns
from turnstream.store.queries import AllBlocks, AttemptsOfTurn, GetTurn
from turnstream.store.sql import SqlStore

DEADLINE = 30.0


@pytest.fixture
def url(postgres: PostgresServer, postgres_template: str, postgres_proxy: TcpProxy) -> str:
    """A database behind the proxy."""
    return postgres.address_at(postgres.database(postgres_template), postgres_proxy.port)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[SqlStore]:
    store = SqlStore(url, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    async with opened(url) as store:
        yield store


async def soon(write: Awaitable[Any]) -> Any:
    async with asyncio.timeout(DEADLINE):
        return await write


async def still_waits(writing: asyncio.Task[Any], seconds: float) -> None:
    """Wait, and prove that the write is not answered meanwhile."""
    done, _ = await asyncio.wait([writing], timeout=seconds)
    assert not done, writing


async def blocks_of(store: SqlStore, turn: TurnRecord) -> list[int]:
    return [row.block.sequence for row in await store.read(AllBlocks(turn_id=turn.id))]


async def wait_for(fault: Any) -> None:
    await asyncio.to_thread(fault.wait)


MOMENTS = ["before", "within", "after"]


@pytest.mark.requirement("Q7")
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_cut_around_a_commit_loses_and_doubles_nothing(
    store: SqlStore, postgres_proxy: TcpProxy, moment: Any
):
    """The answer to each write is that of an undisturbed one, although it may be applied twice."""
    chat = await stored_chat(store)
    user = make_turn(chat, "user")
    turn = make_turn(chat, "assistant", user)
    start = StartTurns(
        owner=OWNER, user_turn=user, assistant_turn=turn, user_blocks=(make_block(user, 0, "Why?"),)
    )
    mark = MarkStreaming(turn_id=turn.id, generation=turn.generation, now=2)
    operations: list[Any] = [start, mark, save(turn, 0), finish(turn)]
    for operation in operations:
        fault = postgres_proxy.arm(AtMessage(b"COMMIT", moment))
        answer = await soon(store.write(operation))
        await wait_for(fault)
        if operation is start:
            assert (answer.assistant_turn.id, answer.replayed) == (turn.id, False)
        else:
            assert answer is (True if isinstance(operation, type(finish(turn))) else None)
    row = await store.read(GetTurn(owner=None, turn_id=turn.id))
    assert (row.status, await blocks_of(store, turn)) == ("complete", [0])
    assert await blocks_of(store, user) == [0]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_cut_around_the_continuation_of_a_waiting_turn(
    store: SqlStore, postgres_proxy: TcpProxy, moment: Any
):
    turn = await running_turn(store)
    account = SaveStep(turn_id=turn.id, generation=turn.generation, steps=(), attempts=())
    waiting = StartWaiting(
        turn_id=turn.id, generation=turn.generation, approvals=(), events=(), account=account, now=3
    )
    going_on = ContinueTurn(turn_id=turn.id, expected_generation=turn.generation, node="this")
    operations: list[Any] = [waiting, going_on]
    continued: Any = None
    for operation in operations:
        fault = postgres_proxy.arm(AtMessage(b"COMMIT", moment))
        continued = await soon(store.write(operation))
        await wait_for(fault)
    assert (continued.status, continued.generation) == ("streaming", turn.generation + 1)
    assert len(continued.fences) == 1
    with pytest.raises(Fenced):
        await store.write(msgspec.structs.replace(going_on, node="another"))


@pytest.mark.requirement("Q7")
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_cut_around_a_takeover(store: SqlStore, postgres_proxy: TcpProxy, moment: Any):
    """The turn gets one generation, one fence, and the lost call once."""
    turn = await running_turn(store)
    lost = CallAttempt(0, 1, "sim/echo", ORPHANED, started_at=3, duration=0.1, estimated=True)
    generation = turn.generation + 1
    account = SaveStep(turn_id=turn.id, generation=generation, steps=(), attempts=(lost,))
    claim = ClaimTurn(turn_id=turn.id, node="this", generation=turn.generation)
    going_on = ResumeClaimed(
        turn_id=turn.id, node="this", generation=generation, fence_seq=7, account=account
    )
    operations: list[Any] = [claim, going_on]
    answers: list[Any] = []
    for operation in operations:
        fault = postgres_proxy.arm(AtMessage(b"COMMIT", moment))
        answers.append(await soon(store.write(operation)))
        await wait_for(fault)
    claimed, continued = answers
    assert (claimed.id, claimed.generation) == (turn.id, generation)
    assert (continued.generation, continued.taken_from, continued.node) == (generation, None, "this")
    assert continued.fences == ((turn.generation, 7),)
    assert await store.read(AttemptsOfTurn(turn_id=turn.id)) == [lost]


@pytest.mark.parametrize("action", ["cut", "half_open", "stall"])
async def test_a_connection_that_breaks_in_a_statement(url: str, postgres_proxy: TcpProxy, action: Action):
    async with opened(url, write_timeout=1.0) as store:
        turn = await running_turn(store)
        fault = postgres_proxy.arm(AtMessage(b"turnstream_blocks", "after"), action)
        await soon(store.write(save(turn, 0)))
        await wait_for(fault)
        assert await blocks_of(store, turn) == [0]
        postgres_proxy.resume()


@pytest.mark.requirement("Q7")
async def test_a_restart_of_three_seconds_fails_nothing(own_postgres: PostgresServer):
    url = own_postgres.database()
    await asyncio.to_thread(upgrade_database, url)
    async with opened(url, write_timeout=1.0) as store:
        turn = await running_turn(store)
        await asyncio.to_thread(own_postgres.stop, "immediate")
        writing = asyncio.create_task(store.write(save(turn, 0)))
        reading = asyncio.create_task(store.read(GetTurn(owner=None, turn_id=turn.id)))
        await still_waits(writing, 3.0)
        await asyncio.to_thread(own_postgres.start)
        await soon(writing)
        assert (await soon(reading)).id == turn.id
        await soon(store.write(finish(turn)))
        assert await blocks_of(store, turn) == [0]


@pytest.mark.requirement("Q7")
async def test_a_paused_server_is_waited_for(own_postgres: PostgresServer):
    url = own_postgres.database()
    await asyncio.to_thread(upgrade_database, url)
    async with opened(url, write_timeout=1.0, read_timeout=1.0) as store:
        turn = await running_turn(store)
        await store.read(GetTurn(owner=None, turn_id=turn.id))
        pause(own_postgres.pid)
        try:
            writing = asyncio.create_task(store.write(save(turn, 0)))
            with pytest.raises(StoreError, match="did not answer within 1 s"):
                await soon(store.read(GetTurn(owner=None, turn_id=turn.id)))
            await still_waits(writing, 1.5)
        finally:
            resume(own_postgres.pid)
        await soon(writing)
        assert await soon(blocks_of(store, turn)) == [0]


@pytest.mark.requirement("D3", "Q7")
async def test_an_outage_that_lasts_too_long_fails_writes(url: str, postgres_proxy: TcpProxy):
    async with opened(url, write_timeout=0.5, outage=1.0) as store:
        turn = await running_turn(store)
        postgres_proxy.refuse()
        postgres_proxy.cut()
        writing = asyncio.create_task(store.write(save(turn, 0)))
        await still_waits(writing, 0.9)
        with pytest.raises(StoreError) as failed:
            await soon(writing)
        assert failed.value.code == "database_error"
        with pytest.raises(StoreError):
            await soon(store.write(save(turn, 0)))
        postgres_proxy.accept()
        await soon(store.write(save(turn, 0)))
        assert await blocks_of(store, turn) == [0]


@pytest.mark.requirement("Q7")
async def test_every_writer_waits_for_the_end_of_an_outage(store: SqlStore, postgres_proxy: TcpProxy):
    """Turns of all writers write, and none fails."""
    turns = [await running_turn(store) for _ in range(16)]
    await asyncio.gather(*(soon(store.write(save(turn, 0))) for turn in turns))
    postgres_proxy.refuse()
    postgres_proxy.cut()
    writing = [asyncio.create_task(store.write(save(turn, 1))) for turn in turns]
    done, _ = await asyncio.wait(writing, timeout=1.0)
    assert not done
    assert store.outage_reason() is not None
    postgres_proxy.accept()
    await asyncio.gather(*map(soon, writing))
    assert store.outage_reason() is None
    assert [await blocks_of(store, turn) for turn in turns] == [[0, 1]] * len(turns)


async def test_a_lock_is_waited_for_and_then_refused(url: str):
    async with opened(url, write_timeout=1.5) as store:
        turn = await running_turn(store)
        async with await psycopg.AsyncConnection.connect(url) as outsider:
            await outsider.execute("LOCK TABLE turnstream_blocks IN ACCESS EXCLUSIVE MODE")
            writing = asyncio.create_task(store.write(save(turn, 0)))
            await still_waits(writing, 0.5)
            await outsider.rollback()
            await soon(writing)
            await outsider.execute("LOCK TABLE turnstream_blocks IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StoreError, match="lock timeout"):
                await soon(store.write(save(turn, 1)))
            await outsider.rollback()
        await soon(store.write(save(turn, 1)))
        assert await blocks_of(store, turn) == [0, 1]


class LockInTurn(Operation[int], frozen=True, kw_only=True):
    """Locks two rows, with time between them for another transaction. Counts its attempts."""

    other_id: str
    attempts: list[int]

    def apply(self, connection: Connection) -> int:
        self.attempts.append(1)
        lock = text("SELECT pg_sleep(:pause) FROM turnstream_turns WHERE id = :id FOR UPDATE")
        connection.execute(lock, {"id": self.turn_id, "pause": 0.0})
        connection.execute(text("NOTIFY locked"))
        connection.execute(text("SELECT pg_sleep(0.2)"))
        connection.execute(lock, {"id": self.other_id, "pause": 0.0})
        return len(self.attempts)


async def test_a_deadlock_is_resolved_by_one_repetition(store: SqlStore, url: str):
    one, two = await running_turn(store), await running_turn(store)
    lock = "SELECT 1 FROM turnstream_turns WHERE id = %s FOR UPDATE"
    async with await psycopg.AsyncConnection.connect(url) as outsider:
        await outsider.execute("SET deadlock_timeout = '60s'")  # the writer is the victim
        await outsider.commit()
        await outsider.execute(lock, (two.id,))
        writing = asyncio.create_task(store.write(LockInTurn(turn_id=one.id, other_id=two.id, attempts=[])))
        await is_locked(url, one)
        await outsider.execute(lock, (one.id,))
        await outsider.rollback()
    assert await soon(writing) == 2


async def is_locked(url: str, turn: TurnRecord) -> None:
    """Return once another transaction has locked the turn's row."""
    async with asyncio.timeout(DEADLINE), await psycopg.AsyncConnection.connect(url) as connection:
        while True:
            found = await connection.execute(
                "SELECT 1 FROM turnstream_turns WHERE id = %s FOR UPDATE SKIP LOCKED", (turn.id,)
            )
            row = await found.fetchone()
            await connection.rollback()
            if row is None:
                return


async def test_one_bad_row_of_many_turns_fails_alone(store: SqlStore):
    """The group is halved: a row that the server refuses does not fail the other turns."""
    chat = await stored_chat(store)
    turns = [await pending_turn(store, chat) for _ in range(9)]
    writes: list[Operation[Any]] = [save(turn, 0) for turn in turns]
    writes.insert(4, Bad(turn_id=turns[4].id))
    answers = await soon(asyncio.gather(*map(store.write, writes), return_exceptions=True))
    assert [type(answer) for answer in answers if answer is not None] in ([StoreError], [StoreError] * 2)
    for turn in turns[:4] + turns[5:]:
        assert await blocks_of(store, turn) == [0]


class Bad(Operation[None], frozen=True, kw_only=True):
    """A write that the server refuses."""

    def apply(self, connection: Connection) -> None:
        connection.execute(text("SELECT 1 / 0"))
