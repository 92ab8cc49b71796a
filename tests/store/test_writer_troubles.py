"""The writer while it opens and closes, with failures, and when its process is killed."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Connection, event

from tests.store.samples import (
    DEADLINE,
    Poison,
    finish,
    running_turn,
    save,
)
from tests.store.writing import held, opened, queue, sequences
from turnstream.errors import Conflict, StoreError
from turnstream.store.base import Operation, TurnRecord
from turnstream.store.queries import AllBlocks, GetTurn
from turnstream.store.sql import SqlStore

ROOT = Path(__file__).parents[2]


# -- opening and closing
# -------------------------------------------------------------------------------------------


async def test_closing_commits_what_was_queued(database: Path):
    async with opened(database) as store:
        turn = await running_turn(store)
        async with held(store):
            tasks = await queue(store, [save(turn, sequence) for sequence in range(100)])
            closing = asyncio.create_task(store.close())
            await asyncio.sleep(0)
            late: list[Operation[Any]] = [save(turn, 100), finish(turn)]
            for operation in late:
                with pytest.raises(StoreError, match="the store was closed"):
                    await store.write(operation)
            with pytest.raises(StoreError, match="the store was closed"):
                await store.read(AllBlocks(turn_id=turn.id))
        await closing
        assert all(task.done() for task in tasks)
        assert await asyncio.gather(*tasks) == [None] * 100
        await store.close()
        await store.open()
        assert await sequences(store, turn) == list(range(100))


async def test_another_event_loop_may_close_it(database: Path):
    store = SqlStore(f"sqlite:///{database}")
    await store.open()
    turn = await running_turn(store)
    tasks = await queue(store, [save(turn, sequence) for sequence in range(10)])
    await asyncio.to_thread(lambda: asyncio.run(store.close()))
    assert await asyncio.gather(*tasks) == [None] * 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("turnstream-")]


async def test_a_store_whose_event_loop_is_gone_still_closes(database: Path):
    """The host's loop ended without a close. The last writes are still committed, and the lock is
    released."""
    turns: list[TurnRecord] = []
    stores: list[SqlStore] = []

    async def abandon() -> None:
        store = SqlStore(f"sqlite:///{database}")
        await store.open()
        turns.append(await running_turn(store))
        async with held(store):
            tasks = await queue(store, [save(turns[0], 0)])
            tasks[0].cancel()
        stores.append(store)

    await asyncio.to_thread(lambda: asyncio.run(abandon()))
    await stores[0].close()
    async with opened(database) as store:
        assert await sequences(store, turns[0]) == [0]


async def test_an_open_that_is_cancelled_keeps_no_lock(database: Path):
    for ticks in range(4):
        store = SqlStore(f"sqlite:///{database}")
        opening = asyncio.create_task(store.open())
        for _ in range(ticks):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled():
            await store.close()
    async with opened_when_unlocked(database) as store:
        await running_turn(store)


@asynccontextmanager
async def opened_when_unlocked(database: Path) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite:///{database}")
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await store.open()
                break
            except StoreError:
                await asyncio.sleep(0)
    yield store
    await store.close()


# -- a database in trouble
# -----------------------------------------------------------------------------------------


@pytest.mark.requirement("D3")
async def test_a_locked_database_fails_writes_and_nothing_else(database: Path):
    async with opened(database, write_timeout=0.5) as store:
        turns = [await running_turn(store) for _ in range(10)]
        outsider = sqlite3.connect(database, isolation_level=None)
        outsider.execute("BEGIN IMMEDIATE")
        tasks = await queue(store, [save(turn, 0) for turn in turns])
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), DEADLINE)
        assert {type(answer) for answer in answers} == {StoreError}
        assert {answer.code for answer in answers if isinstance(answer, StoreError)} == {"database_error"}
        assert "database is locked" in str(answers[0])
        assert (await store.read(GetTurn(owner=None, turn_id=turns[0].id))).status == "streaming"
        outsider.execute("ROLLBACK")
        outsider.close()
        await asyncio.gather(*(store.write(save(turn, 0)) for turn in turns))
        for turn in turns:
            assert await sequences(store, turn) == [0]


async def test_a_lock_shorter_than_the_timeout_goes_unnoticed(sqlite_store: SqlStore, database: Path):
    turn = await running_turn(sqlite_store)
    outsider = sqlite3.connect(database, isolation_level=None)
    outsider.execute("BEGIN IMMEDIATE")
    loop = asyncio.get_running_loop()
    began = loop.time()
    loop.call_later(0.2, outsider.close)
    await asyncio.wait_for(sqlite_store.write(save(turn, 0)), DEADLINE)
    assert loop.time() - began >= 0.2, "the write did not meet the lock"
    assert await sequences(sqlite_store, turn) == [0]


class LimitedPages:
    """Limits the database to a number of pages, so that SQLite itself reports `disk full`."""

    _NONE: ClassVar[int] = 1 << 30

    def __init__(self, store: SqlStore) -> None:
        self._limit = self._NONE
        self._engine = store._writers[0]._committer._database.writer
        event.listen(self._engine, "begin", self._apply)

    def fill_up(self, database: Path) -> None:
        with sqlite3.connect(database) as connection:
            (self._limit,) = connection.execute("PRAGMA page_count").fetchone()
        connection.close()

    def make_room(self) -> None:
        self._limit = self._NONE

    def _apply(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {self._limit}")


@pytest.mark.requirement("D3")
async def test_a_full_disk_fails_writes_and_nothing_else(sqlite_store: SqlStore, database: Path):
    pages = LimitedPages(sqlite_store)
    turns = [await running_turn(sqlite_store) for _ in range(5)]
    await sqlite_store.write(save(turns[0], 0, "before"))
    pages.fill_up(database)
    async with held(sqlite_store):
        large = [save(turn, 1, "x" * 100_000) for turn in turns]
        tasks = await queue(sqlite_store, [*large, finish(turns[4], "cancelled")])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreError}
    assert "database or disk is full" in str(answers[0])
    assert await sequences(sqlite_store, turns[0]) == [0]
    assert (await sqlite_store.read(GetTurn(owner=None, turn_id=turns[4].id))).status == "streaming"
    pages.make_room()
    await asyncio.gather(*(sqlite_store.write(operation) for operation in large))
    assert await sqlite_store.write(finish(turns[4], "cancelled"))
    for turn in turns[1:]:
        assert await sequences(sqlite_store, turn) == [1]


async def test_what_fits_on_a_full_disk_is_stored_though_its_group_was_not(
    sqlite_store: SqlStore, database: Path
):
    pages = LimitedPages(sqlite_store)
    small, large = await running_turn(sqlite_store), await running_turn(sqlite_store)
    await sqlite_store.write(save(small, 0))
    pages.fill_up(database)
    async with held(sqlite_store):
        tasks = await queue(sqlite_store, [finish(small), save(large, 0, "x" * 100_000)])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [bool, StoreError]
    assert (await sqlite_store.read(GetTurn(owner=None, turn_id=small.id))).status == "complete"


async def test_each_write_has_its_own_error_if_no_transaction_can_begin(sqlite_store: SqlStore):
    turn = await running_turn(sqlite_store)
    refusal = StoreError("the database cannot be opened", retryable=False)

    @event.listens_for(sqlite_store._writers[0]._committer._database.writer, "begin")
    def refuse(_: Connection) -> None:
        raise refusal

    tasks = await queue(sqlite_store, [save(turn, 0), save(turn, 1)])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert len({id(refusal), *map(id, answers)}) == 3
    for answer in answers:
        assert isinstance(answer, StoreError)
        assert (str(answer), answer.retryable) == (str(refusal), False)


# -- sudden death
# --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("P3")
def test_after_kill_9_everything_that_was_acknowledged_is_there(database: Path):
    draw = random.Random(9)
    acknowledged: dict[str, list[int]] = defaultdict(list)
    for _ in range(4):
        for turn_id, sequence in _write_and_die(database, lines=draw.randrange(20, 2000)):
            acknowledged[turn_id].append(sequence)
    stored = asyncio.run(_stored(database, list(acknowledged)))
    assert sum(map(len, acknowledged.values())) > 80
    for turn_id, expected in acknowledged.items():
        found = stored[turn_id]
        assert found == list(range(len(found))), "a hole in a turn's blocks"
        assert set(expected) <= set(found)


def _write_and_die(database: Path, lines: int) -> list[tuple[str, int]]:
    """Let a process write until it has printed `lines` lines, then kill it. Return its output."""
    writer = Path(__file__).with_name("endless_writer.py")
    process = subprocess.Popen(
        [sys.executable, writer, f"sqlite:///{database}", "16"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        said = [output.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said.extend(output)
    assert process.wait(DEADLINE) == -signal.SIGKILL
    whole = [line.split() for line in said if line.endswith("\n")]
    return [(turn_id, int(sequence)) for turn_id, sequence in whole]


async def _stored(database: Path, turn_ids: list[str]) -> dict[str, list[int]]:
    async with opened(database) as store:
        found = {
            turn_id: [row.block.sequence for row in await store.read(AllBlocks(turn_id=turn_id))]
            for turn_id in turn_ids
        }
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    return found


async def test_refusals_have_their_own_exceptions(store: SqlStore):
    """Two tasks never raise one exception object, since its traceback would grow with each."""
    turn = await running_turn(store)
    await store.write(finish(turn))
    async with held(store):
        tasks = await queue(store, [save(turn, 0), save(turn, 1), Poison(turn_id="a"), Poison(turn_id="a")])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert len({id(answer) for answer in answers}) == 4
    assert not any(isinstance(answer, Conflict) for answer in answers)
