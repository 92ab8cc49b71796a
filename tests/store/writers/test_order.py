"""Several writers: which writes keep their order, and which do not wait for each other."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from tests.postgresql import PostgresServer
from tests.store.samples import (
    DEADLINE,
    OWNER,
    finish,
    make_block,
    make_chat,
    make_turn,
    running_turn,
    save,
    stored_chat,
)
from tests.store.writing import held, queue, sequences
from turnstream.errors import StoreError
from turnstream.store.base import SET_BY_STORE, Operation, TurnRecord
from turnstream.store.journal.operations import TrimJournal
from turnstream.store.operations.chats import UpdateChat
from turnstream.store.operations.progress import MarkStreaming, SaveStep
from turnstream.store.operations.start import StartTurns
from turnstream.store.operations.titles import SetMadeTitle
from turnstream.store.queries import GetTurn
from turnstream.store.sql import SqlStore
from turnstream.store.writers.order import WriteOrder

# -- the rules
# ------------------------------------------------------------------------------------------------------

OWNERS = ["ada", "eve", "bob"]


class Call:
    """A write, with the keys of the writes that must be committed before it."""

    def __init__(self, operation: Operation[Any], *keys: str) -> None:
        self.operation = operation
        self.keys = keys


@st.composite
def calls(draw: st.DrawFn) -> list[Call | int]:
    """Writes in the order of the calls. A number means that the writer of this index commits one."""
    made: list[Call | int] = []
    turns: list[TurnRecord] = []
    for _ in range(draw(st.integers(1, 40))):
        match draw(st.sampled_from(["start", "turn", "turn", "chat", "rest", "commit", "commit"])):
            case "start":
                chat = make_chat(draw(st.sampled_from(OWNERS)))
                started = [make_turn(chat, "assistant") for _ in range(draw(st.integers(1, 3)))]
                turns += started
                start = StartTurns(
                    turn_id=draw(st.sampled_from(["", started[0].id])),
                    owner=chat.owner,
                    user_turn=None,
                    assistant_turn=started[0],
                    alternatives=tuple(started[1:]),
                )
                made.append(Call(start, f"owner {chat.owner}", *(turn.id for turn in started)))
            case "turn" if turns:
                turn = draw(st.sampled_from(turns))
                made.append(Call(save(turn, 0), turn.id))
            case "chat":
                owner = draw(st.sampled_from(OWNERS))
                made.append(Call(UpdateChat(owner=owner, chat_id="c"), f"owner {owner}"))
            case "commit":
                made.append(draw(st.integers(0, 3)))
            case _:
                made.append(Call(TrimJournal(before=1), "rest"))
    return made


@given(calls(), st.integers(1, 4))
def test_writes_that_depend_on_each_other_are_committed_in_the_order_of_the_calls(
    made: list[Call | int], count: int
):
    order = WriteOrder(count)
    writers: list[deque[tuple[int, Call]]] = [deque() for _ in range(count)]
    last_committed: dict[str, int] = {}

    def commit(writer: deque[tuple[int, Call]]) -> None:
        number, call = writer.popleft()
        for key in call.keys:
            assert last_committed.get(key, -1) < number, "a later write was committed before"
            last_committed[key] = number
        order.answered(call.operation)

    for number, call in enumerate(made):
        if isinstance(call, Call):
            writers[order.place(call.operation)].append((number, call))
        elif writers[call % count]:
            commit(writers[call % count])
    # The writers that have the most left commit last: a write in the wrong place is seen.
    for writer in reversed(writers):
        while writer:
            commit(writer)
    assert not order._starting


def test_turns_and_owners_are_divided_among_the_writers():
    order = WriteOrder(4)
    chats = [make_chat(f"owner {number}") for number in range(200)]
    turns = [make_turn(chat, "assistant") for chat in chats]
    assert {order.place(save(turn, 0)) for turn in turns} == {0, 1, 2, 3}
    assert {order.place(UpdateChat(owner=chat.owner, chat_id=chat.id)) for chat in chats} == {0, 1, 2, 3}
    assert {WriteOrder(1).place(save(turn, 0)) for turn in turns} == {0}


def test_a_title_belongs_to_the_order_of_its_owner():
    """It is a change of a chat, with a moment that must come after the earlier ones."""
    order, turn = WriteOrder(4), make_turn(make_chat(), "assistant")
    title = SetMadeTitle(turn_id=turn.id, owner=OWNER, chat_id="c", known=None, title="A", calls=())
    assert order.place(title) == order.place(UpdateChat(owner=OWNER, chat_id="c"))


# -- in PostgreSQL
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def url(postgres: PostgresServer, postgres_template: str) -> str:
    return postgres.database(postgres_template)


async def one_turn_of_each_writer(store: SqlStore) -> list[TurnRecord]:
    """Running turns of one owner. The writes of each go to another writer."""
    chat = await stored_chat(store)
    found: dict[int, TurnRecord] = {}
    while len(found) < len(store._writers):
        turn = await running_turn(store, chat)
        found.setdefault(store._order.place(save(turn, 0)), turn)
    return [found[number] for number in sorted(found)]


async def test_turns_are_written_before_their_starts_are_answered(store: SqlStore):
    """All writes of a turn are queued at once. None comes before the start, in whatever writer."""
    owners = [f"owner {number % 5}" for number in range(40)]
    chats = await asyncio.gather(*(stored_chat(store, owner) for owner in owners))
    turns: list[TurnRecord] = []
    operations: list[Operation[Any]] = []
    for chat in chats:
        user = make_turn(chat, "user", created_at=SET_BY_STORE)
        turn = make_turn(chat, "assistant", user, created_at=SET_BY_STORE)
        turns.append(turn)
        operations += [
            StartTurns(
                owner=chat.owner,
                user_turn=user,
                assistant_turn=turn,
                user_blocks=(make_block(user, 0, "Why?"),),
            ),
            MarkStreaming(turn_id=turn.id, generation=turn.generation, now=2),
            *(save(turn, sequence) for sequence in range(3)),
            SaveStep(turn_id=turn.id, generation=turn.generation, steps=(), attempts=()),
            finish(turn),
        ]
    async with held(store):
        tasks = await queue(store, operations)
    async with asyncio.timeout(DEADLINE):
        answers = await asyncio.gather(*tasks)
    assert answers[6::7] == [True] * len(turns)
    for turn in turns:
        assert await sequences(store, turn) == [0, 1, 2]
    moments: dict[str, list[int]] = {owner: [] for owner in owners}
    for turn in turns:
        row = await store.read(GetTurn(owner=None, turn_id=turn.id))
        moments[turn.owner].append(row.created_at)
    for given_times in moments.values():
        assert given_times == sorted(set(given_times)), "an owner's changes are in the order of the calls"
    assert not store._order._starting


async def test_a_write_that_waits_for_a_lock_delays_its_own_writer_only(store: SqlStore, url: str):
    first, *others = await one_turn_of_each_writer(store)
    async with await psycopg.AsyncConnection.connect(url) as outsider:
        await outsider.execute("SELECT 1 FROM turnstream_turns WHERE id = %s FOR UPDATE", (first.id,))
        waiting = asyncio.create_task(store.write(save(first, 0)))
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(store.write(save(turn, 0)) for turn in others))
        assert not waiting.done()
        await outsider.rollback()
    async with asyncio.timeout(DEADLINE):
        await waiting
    for turn in (first, *others):
        assert await sequences(store, turn) == [0]


class LockTwo(Operation[int], frozen=True, kw_only=True):
    """Locks the turn's row, and then another one. In the first attempt, all lock their first row first."""

    other_id: str
    both: threading.Barrier
    attempts: list[int]

    def apply(self, connection: Connection) -> int:
        lock = text("SELECT 1 FROM turnstream_turns WHERE id = :id FOR UPDATE")
        connection.execute(lock, {"id": self.turn_id})
        self.attempts.append(1)
        if len(self.attempts) == 1:
            self.both.wait(DEADLINE)
        connection.execute(lock, {"id": self.other_id})
        return len(self.attempts)


async def test_writers_that_block_each_other_are_resolved_by_one_repetition(store: SqlStore):
    one, two, *_ = await one_turn_of_each_writer(store)
    both = threading.Barrier(2)
    writes = [
        LockTwo(turn_id=turn.id, other_id=other.id, both=both, attempts=[])
        for turn, other in ((one, two), (two, one))
    ]
    async with asyncio.timeout(DEADLINE):
        answers = await asyncio.gather(*map(store.write, writes))
    assert sorted(answers) == [1, 2], "one of them was repeated"


async def test_closing_commits_the_queues_of_all_writers(store: SqlStore, url: str):
    turns = await one_turn_of_each_writer(store)
    async with held(store):
        tasks = await queue(store, [save(turn, sequence) for sequence in range(20) for turn in turns])
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="the store was closed"):
            await store.write(save(turns[0], 20))
    async with asyncio.timeout(DEADLINE):
        await closing
        assert await asyncio.gather(*tasks) == [None] * 80
    await store.open()
    for turn in turns:
        assert await sequences(store, turn) == list(range(20))
