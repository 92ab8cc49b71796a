"""The writer's groups, under cancellations, refusals and floods."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from tests.postgresql import PostgresServer
from tests.store.samples import (
    DEADLINE,
    Poison,
    append_journal,
    finish,
    make_chat,
    make_segment,
    make_turn,
    running_turn,
    save,
)
from tests.store.writing import held, opened, queue, sequences
from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.errors import Fenced, NotFound, StoreError
from turnstream.store.base import BlockRecord, Operation
from turnstream.store.journal.operations import JournalPage
from turnstream.store.journal.queries import Journal
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.content import SaveBlock
from turnstream.store.operations.deleting import DeleteChat
from turnstream.store.operations.start import StartTurns
from turnstream.store.queries import AllBlocks, GetChat
from turnstream.store.sql import SqlStore


@pytest.fixture
def url(kind: tuple[str, int], request: pytest.FixtureRequest) -> str:
    if kind[0] == "sqlite":
        return f"sqlite:///{request.getfixturevalue('database')}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database(request.getfixturevalue("postgres_template"))


@pytest.fixture(params=[("sqlite", 1), ("postgresql", 1), ("postgresql", 4)], ids=["sqlite", "one", "four"])
def kind(request: pytest.FixtureRequest) -> tuple[str, int]:
    """The kind of the database, and the number of writers."""
    return request.param


@pytest.fixture
def writers(kind: tuple[str, int]) -> int:
    return kind[1]


def commits_of(store: SqlStore) -> list[Connection]:
    """One entry for each transaction that the writer has committed since."""
    commits: list[Connection] = []

    @event.listens_for(store._writers[0]._committer._database.writer, "commit")
    def count(connection: Connection) -> None:
        commits.append(connection)

    return commits


# -- groups
# --------------------------------------------------------------------------------------------------------


async def test_what_gathers_during_a_commit_is_one_transaction(store: SqlStore):
    turns = [await running_turn(store) for _ in range(30)]
    commits = commits_of(store)
    async with held(store):
        tasks = await queue(store, [save(turn, sequence) for sequence in range(3) for turn in turns])
    await asyncio.gather(*tasks)
    assert len(store._writers) < len(commits) <= 2 * len(store._writers)
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
    assert len(store._writers) < len(commits) <= 2 * len(store._writers)
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
    assert len(commits) <= 2 * len(bin(len(turns))) + 2 * len(store._writers), "the group was not halved"
    for operation, answer in zip(operations, answers, strict=True):
        if operation.turn_id != unlucky.id:
            assert answer is None
            continue
        assert isinstance(answer, StoreError)
        assert (answer.code, answer.__cause__ is not None) == ("database_error", True)
        assert re.search("not.null", answer.message, re.IGNORECASE)
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


# -- cancellation
# --------------------------------------------------------------------------------------------------


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


# -- time and space
# ------------------------------------------------------------------------------------------------


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
