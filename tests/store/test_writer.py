"""The writer under cancellations, failures, floods and sudden death."""

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
    Hold,
    Poison,
    append_journal,
    finish,
    make_chat,
    make_segment,
    make_turn,
    running_turn,
    save,
)
from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.errors import Conflict, Fenced, NotFound, StoreError
from turnstream.store.base import BlockRecord, Operation, TurnRecord
from turnstream.store.journal.operations import JournalPage
from turnstream.store.journal.queries import Journal
from turnstream.store.operations import CreateChat, DeleteChat, SaveBlock, StartTurns
from turnstream.store.queries import AllBlocks, GetChat, GetTurn
from turnstream.store.sql import SqlStore

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def opened(database: Path, **settings: Any) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite:///{database}", **settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def held(store: SqlStore) -> AsyncIterator[asyncio.Task[None]]:
    """Within it the writer is busy with a transaction: what is written meanwhile forms the next group."""
    hold = Hold(entered=threading.Event(), let_go=threading.Event())
    task = asyncio.create_task(store.write(hold))
    try:
        assert await asyncio.to_thread(hold.entered.wait, DEADLINE)
        yield task
    finally:
        hold.let_go.set()
        await asyncio.wait([task], timeout=DEADLINE)


def commits_of(store: SqlStore) -> list[Connection]:
    """One entry for each transaction that the writer has committed since."""
    assert store._writer is not None
    commits: list[Connection] = []

    @event.listens_for(store._writer._engine, "commit")
    def count(connection: Connection) -> None:
        commits.append(connection)

    return commits


async def queue(store: SqlStore, operations: list[Operation[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks that have put their writes into the queue, in this order."""
    tasks = [asyncio.create_task(store.write(operation)) for operation in operations]
    await asyncio.sleep(0)
    return tasks


async def sequences(store: SqlStore, turn: TurnRecord) -> list[int]:
    return [row.block.sequence for row in await store.read(AllBlocks(turn_id=turn.id))]


# -- groups --------------------------------------------------------------------------------------------------------


async def test_what_gathers_during_a_commit_is_one_transaction(store: SqlStore):
    turns = [await running_turn(store) for _ in range(30)]
    commits = commits_of(store)
    async with held(store):
        tasks = await queue(store, [save(turn, sequence) for sequence in range(3) for turn in turns])
    await asyncio.gather(*tasks)
    assert len(commits) == 2
    for turn in turns:
        assert await sequences(store, turn) == [0, 1, 2]


async def test_refusals_leave_their_group_standing(store: SqlStore):
    turn, ended = await running_turn(store), await running_turn(store)
    await store.write(finish(ended))
    chat = make_chat()
    follower = make_turn(make_chat(), "assistant", turn)
    commits = commits_of(store)
    async with held(store):
        tasks = await queue(
            store,
            [
                save(turn, 0),
                save(ended, 0),
                DeleteChat(owner="ada", chat_id=new_id()),
                finish(ended, "cancelled"),
                StartTurns(owner="ada", user_turn=None, assistant_turn=follower),
                CreateChat(chat=chat),
                save(turn, 1),
            ],
        )
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(commits) == 2
    kinds = [type(answer) for answer in answers]
    assert kinds == [type(None), Fenced, NotFound, bool, NotFound, type(chat), type(None)]
    assert await sequences(store, turn) == [0, 1]
    assert (await store.read(GetChat(owner=None, chat_id=chat.id))) == chat


async def test_a_poisoned_write_fails_its_turn_and_no_other(store: SqlStore):
    turns = [await running_turn(store) for _ in range(50)]
    unlucky = turns[25]
    operations: list[Operation[Any]] = []
    for sequence in range(3):
        for turn in turns:
            poisoned = turn is unlucky and sequence == 1
            operations.append(Poison(turn_id=turn.id) if poisoned else save(turn, sequence))
    commits = commits_of(store)
    async with held(store):
        tasks = await queue(store, operations)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(commits) == 1 + 49, "the group was not retried turn by turn"
    for operation, answer in zip(operations, answers, strict=True):
        if operation.turn_id != unlucky.id:
            assert answer is None
            continue
        assert isinstance(answer, StoreError)
        assert (answer.code, answer.__cause__ is not None) == ("database_error", True)
        assert "NOT NULL" in answer.message
        assert "what-the-user-wrote" not in f"{answer} {answer.__cause__}"
    for turn in turns:
        assert await sequences(store, turn) == ([] if turn is unlucky else [0, 1, 2])
    await store.write(save(unlucky, 0))
    assert await sequences(store, unlucky) == [0]


async def test_what_is_no_database_error_fails_its_turn_as_well(store: SqlStore):
    well, unlucky = await running_turn(store), await running_turn(store)
    block = Block(0, "tool_use", None, {"input": {1, 2}, "not": object()})
    unstorable = SaveBlock(
        turn_id=unlucky.id,
        generation=unlucky.generation,
        row=BlockRecord(new_id(), unlucky.id, block, 1, 2, 3),
    )
    async with held(store):
        tasks = await queue(store, [save(well, 0), unstorable, save(well, 1)])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), StoreError, type(None)]
    assert await sequences(store, well) == [0, 1]


async def test_the_order_of_a_turn_outlives_a_retry(store: SqlStore):
    turn = await running_turn(store)
    async with held(store):
        tasks = await queue(
            store,
            [
                append_journal(segments=(make_segment(turn, 0, 0),)),
                save(turn, 0),
                Poison(),
                append_journal(segments=(make_segment(turn, 1, 0),)),
                save(turn, 1),
                finish(turn),
                finish(turn, "cancelled"),
                save(turn, 2),
            ],
        )
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers[3:]] == [JournalPage, type(None), bool, bool, Fenced]
    assert answers[5:7] == [True, False]
    assert isinstance(answers[2], StoreError)
    assert await sequences(store, turn) == [0, 1]
    assert await store.read(Journal(turn_id=turn.id)) == []


# -- cancellation --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("D1")
async def test_cancelling_a_wait_undoes_nothing(store: SqlStore):
    turn = await running_turn(store)
    async with held(store) as holding:
        tasks = await queue(store, [save(turn, sequence) for sequence in range(4)])
        for task in (tasks[0], tasks[2], holding):
            task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [
        asyncio.CancelledError,
        type(None),
        asyncio.CancelledError,
        type(None),
    ]
    assert await sequences(store, turn) == [0, 1, 2, 3]


async def test_writes_raced_with_cancellations_are_all_applied(store: SqlStore):
    draw = random.Random(5)
    turns = [await running_turn(store) for _ in range(20)]
    cancelled = 0
    for sequence in range(25):
        tasks = await queue(store, [save(turn, sequence) for turn in turns])
        for task in draw.sample(tasks, 8):
            for _ in range(draw.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(answer) for answer in answers} <= {type(None), asyncio.CancelledError}
        cancelled += sum(isinstance(answer, asyncio.CancelledError) for answer in answers)
    assert cancelled > 50, "hardly any cancellation met a write under way"
    for turn in turns:
        assert await store.write(finish(turn))
        assert await sequences(store, turn) == list(range(25))


# -- time and space ------------------------------------------------------------------------------------------------


async def test_a_write_that_takes_too_long_fails_and_may_still_be_applied(database: Path):
    async with opened(database, write_timeout=0.2) as store:
        turn = await running_turn(store)
        async with held(store) as holding:
            with pytest.raises(StoreError, match=r"within 0\.2 s") as failed:
                await asyncio.wait_for(store.write(save(turn, 0)), DEADLINE)
            assert failed.value.code == "database_error"
            with pytest.raises(StoreError):
                await holding
        await store.write(save(turn, 0, "the same block, tried again"))
        await store.write(save(turn, 1))
        rows = await store.read(AllBlocks(turn_id=turn.id))
        assert [row.block.text_content for row in rows] == ["some text", "some text"]


async def test_the_clock_of_one_write_does_not_end_a_younger_one(database: Path):
    async with opened(database, write_timeout=0.5) as store:
        turn = await running_turn(store)
        async with held(store) as holding:
            (late,) = await queue(store, [save(turn, 0)])
            await asyncio.wait([holding], timeout=DEADLINE)
            (young,) = await queue(store, [save(turn, 1)])
            with pytest.raises(StoreError):
                await late
            assert not young.done()
        await asyncio.wait_for(young, DEADLINE)
        assert await sequences(store, turn) == [0, 1]


async def test_a_full_queue_refuses_and_forgets_nothing(database: Path):
    async with opened(database, capacity=5) as store:
        turn = await running_turn(store)
        async with held(store):
            tasks = await queue(store, [save(turn, sequence) for sequence in range(4)])
            with pytest.raises(StoreError, match="5 writes are waiting"):
                await store.write(save(turn, 4))
        await asyncio.gather(*tasks)
        await store.write(save(turn, 4))
        assert await sequences(store, turn) == [0, 1, 2, 3, 4]


# -- opening and closing -------------------------------------------------------------------------------------------


async def test_closing_commits_what_was_queued(database: Path):
    async with opened(database) as store:
        turn = await running_turn(store)
        async with held(store):
            tasks = await queue(store, [save(turn, sequence) for sequence in range(100)])
            closing = asyncio.create_task(store.close())
            await asyncio.sleep(0)
            for operation in (save(turn, 100), finish(turn)):
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
    """The host's loop ended without a close: its last writes are committed nevertheless, and the lock let go."""
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


# -- a database in trouble -----------------------------------------------------------------------------------------


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


async def test_a_lock_shorter_than_the_timeout_goes_unnoticed(store: SqlStore, database: Path):
    turn = await running_turn(store)
    outsider = sqlite3.connect(database, isolation_level=None)
    outsider.execute("BEGIN IMMEDIATE")
    loop = asyncio.get_running_loop()
    began = loop.time()
    loop.call_later(0.2, outsider.close)
    await asyncio.wait_for(store.write(save(turn, 0)), DEADLINE)
    assert loop.time() - began >= 0.2, "the write did not meet the lock"
    assert await sequences(store, turn) == [0]


class LimitedPages:
    """Lets the database grow to a number of pages: `disk full`, from SQLite itself."""

    _NONE: ClassVar[int] = 1 << 30

    def __init__(self, store: SqlStore) -> None:
        assert store._writer is not None
        self._limit = self._NONE
        self._engine = store._writer._engine
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
async def test_a_full_disk_fails_writes_and_nothing_else(store: SqlStore, database: Path):
    pages = LimitedPages(store)
    turns = [await running_turn(store) for _ in range(5)]
    await store.write(save(turns[0], 0, "before"))
    pages.fill_up(database)
    async with held(store):
        large = [save(turn, 1, "x" * 100_000) for turn in turns]
        tasks = await queue(store, [*large, finish(turns[4], "cancelled")])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreError}
    assert "database or disk is full" in str(answers[0])
    assert await sequences(store, turns[0]) == [0]
    assert (await store.read(GetTurn(owner=None, turn_id=turns[4].id))).status == "streaming"
    pages.make_room()
    await asyncio.gather(*(store.write(operation) for operation in large))
    assert await store.write(finish(turns[4], "cancelled"))
    for turn in turns[1:]:
        assert await sequences(store, turn) == [1]


async def test_what_fits_on_a_full_disk_is_stored_though_its_group_was_not(store: SqlStore, database: Path):
    pages = LimitedPages(store)
    small, large = await running_turn(store), await running_turn(store)
    await store.write(save(small, 0))
    pages.fill_up(database)
    async with held(store):
        tasks = await queue(store, [finish(small), save(large, 0, "x" * 100_000)])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [bool, StoreError]
    assert (await store.read(GetTurn(owner=None, turn_id=small.id))).status == "complete"


# -- sudden death --------------------------------------------------------------------------------------------------


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
    """Let a process write until it has said so many lines, kill it, and answer all that it said."""
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
    """Two tasks never raise one exception object: its traceback would grow with each."""
    turn = await running_turn(store)
    await store.write(finish(turn))
    async with held(store):
        tasks = await queue(store, [save(turn, 0), save(turn, 1), Poison(turn_id="a"), Poison(turn_id="a")])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert len({id(answer) for answer in answers}) == 4
    assert not any(isinstance(answer, Conflict) for answer in answers)
