"""Reads during writes: the state that they see, their deadlines, and their refusal to write."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, text

from tests.store.samples import (
    DEADLINE,
    OWNER,
    running_turn,
    save,
    stored_chat,
)
from turnstream.errors import StoreError
from turnstream.store.base import Query
from turnstream.store.queries import (
    AllBlocks,
    GetChat,
    GetTurn,
    LastSeq,
    UnfinishedTurns,
)
from turnstream.store.schema import blocks
from turnstream.store.sql import SqlStore

# -- reading and writing
# -------------------------------------------------------------------------------------------


async def test_a_read_sees_every_write_before_it(store: SqlStore):
    turn = await running_turn(store)
    for sequence in range(100):
        await store.write(save(turn, sequence))
        found = await asyncio.gather(*(store.read(LastSeq(turn_id=turn.id)) for _ in range(4)))
        assert found == [sequence * 10 + 9] * 4


class CountTwice(Query[tuple[int, int]], frozen=True, kw_only=True):
    """Counts the blocks, waits, and counts them again."""

    counted: threading.Event
    go_on: threading.Event

    def fetch(self, connection: Connection) -> tuple[int, int]:
        count = select(func.count()).select_from(blocks)
        first = connection.execute(count).scalar_one()
        self.counted.set()
        assert self.go_on.wait(DEADLINE)
        return first, connection.execute(count).scalar_one()


async def test_a_query_sees_one_state_whatever_is_written_meanwhile(store: SqlStore):
    turn = await running_turn(store)
    query = CountTwice(counted=threading.Event(), go_on=threading.Event())
    reading = asyncio.create_task(store.read(query))
    assert await asyncio.to_thread(query.counted.wait, DEADLINE)
    await store.write(save(turn, 0))
    query.go_on.set()
    first, second = await reading
    assert first == second
    assert [row.block.sequence for row in await store.read(AllBlocks(turn_id=turn.id))] == [0]


class Endless(Query[int], frozen=True, kw_only=True):
    """Runs until it is interrupted."""

    begun: threading.Event

    def fetch(self, connection: Connection) -> int:
        self.begun.set()
        if connection.dialect.name == "postgresql":
            return connection.execute(text("SELECT 0 FROM pg_sleep(60)")).scalar_one()
        count = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
        return connection.execute(text(count)).scalar_one()


async def test_a_read_that_takes_too_long_fails_and_frees_its_thread(database: Path):
    store = SqlStore(f"sqlite:///{database}", read_timeout=0.3)
    await store.open()
    turn = await running_turn(store)
    endless = [store.read(Endless(begun=threading.Event())) for _ in range(8)]
    answers = await asyncio.wait_for(asyncio.gather(*endless, return_exceptions=True), DEADLINE)
    assert {type(answer) for answer in answers} == {StoreError}
    assert "within 0.3 s" in str(answers[0])
    for _ in range(8):
        assert (await store.read(GetTurn(owner=None, turn_id=turn.id))).id == turn.id
    await asyncio.wait_for(store.close(), DEADLINE)


async def test_cancelling_a_read_stops_it(store: SqlStore):
    turn = await running_turn(store)
    for _ in range(8):
        query = Endless(begun=threading.Event())
        reading = asyncio.create_task(store.read(query))
        assert await asyncio.to_thread(query.begun.wait, DEADLINE)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert (await store.read(GetTurn(owner=None, turn_id=turn.id))).id == turn.id


async def test_closing_ends_every_read(store: SqlStore):
    queries = [Endless(begun=threading.Event()) for _ in range(10)]
    readings = [asyncio.create_task(store.read(query)) for query in queries]
    assert await asyncio.to_thread(queries[0].begun.wait, DEADLINE)
    await asyncio.wait_for(store.close(), DEADLINE)
    answers = await asyncio.gather(*readings, return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreError}
    assert any(not query.begun.is_set() for query in queries), "no read was still waiting for a thread"


async def test_too_many_reads_are_refused(database: Path):
    store = SqlStore(f"sqlite:///{database}", capacity=2)
    await store.open()
    queries = [CountTwice(counted=threading.Event(), go_on=threading.Event()) for _ in range(2)]
    readings = [asyncio.create_task(store.read(query)) for query in queries]
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="2 reads are waiting"):
        await store.read(UnfinishedTurns())
    for query in queries:
        query.go_on.set()
    assert await asyncio.gather(*readings) == [(0, 0), (0, 0)]
    assert await store.read(UnfinishedTurns()) == []
    await store.close()


class Vandal(Query[None], frozen=True):
    def fetch(self, connection: Connection) -> None:
        connection.execute(text("DELETE FROM turnstream_chats"))


async def test_a_query_cannot_write(store: SqlStore):
    chat = await stored_chat(store)
    with pytest.raises(StoreError, match=r"read-?only"):
        await store.read(Vandal())
    assert await store.read(GetChat(owner=OWNER, chat_id=chat.id)) == chat
