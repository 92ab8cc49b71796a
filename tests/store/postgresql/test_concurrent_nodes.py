"""Two nodes write one turn at the same moment: the order of their commits decides, and both see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg
import pytest

from tests.postgresql import PostgresServer
from tests.store.samples import OWNER, make_block, running_turn, save
from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.core.tool_input import input_digest
from turnstream.core.turn_events import Notice
from turnstream.errors import Conflict, Fenced
from turnstream.store.base import Annotation, ApprovalRecord, Operation, TurnRecord
from turnstream.store.operations.approvals import AnswerApproval, AnsweredApproval, StartWaiting
from turnstream.store.operations.content import SaveAnnotations
from turnstream.store.operations.nodes import ClaimTurn
from turnstream.store.operations.progress import RetractBlocks, SaveStep
from turnstream.store.operations.tool_runs import BeginToolRun
from turnstream.store.sql import SqlStore

DEADLINE = 30.0
GATE = 4711
"""Key of the lock at which the gated writes of a test wait."""
_MAKE_GATE = f"""
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN coalesce(NEW, OLD); END $$;
CREATE TRIGGER gate BEFORE INSERT OR UPDATE OR DELETE ON turnstream_{{table}}
FOR EACH ROW EXECUTE FUNCTION wait_at_gate();
"""
_WAITING = (
    "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE NOT granted AND datname = current_database()"
)


class Gate:
    """A closed gate in front of a table: every write of its rows waits until `open`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def waiting(self, count: int, *writes: asyncio.Task[Any]) -> None:
        """Return once `count` connections wait for a lock, or one of the writes is done."""
        async with asyncio.timeout(DEADLINE):
            while not any(write.done() for write in writes):
                row = await (await self._connection.execute(_WAITING)).fetchone()
                if row == (count,):
                    return

    async def open(self) -> None:
        await self._connection.execute(f"SELECT pg_advisory_unlock({GATE})".encode())


@asynccontextmanager
async def gated(url: str, table: str) -> AsyncIterator[Gate]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(_MAKE_GATE.format(table=table).encode())
        await connection.execute(f"SELECT pg_advisory_lock({GATE})".encode())
        yield Gate(connection)


@pytest.fixture
def url(postgres: PostgresServer, postgres_template: str) -> str:
    return postgres.database(postgres_template)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlStore]:
    """A store whose writes wait for a lock longer than a busy machine stalls."""
    store = SqlStore(url, write_timeout=30.0)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    async with opened(url) as store:
        yield store


@pytest.fixture
async def other(url: str) -> AsyncIterator[SqlStore]:
    """The store of another node."""
    async with opened(url) as other:
        yield other


def annotation(turn: TurnRecord) -> Operation[None]:
    event = msgspec.json.encode(Notice("a", "b"))
    rows = (Annotation(turn.id, 50, event),)
    return SaveAnnotations(turn_id=turn.id, generation=turn.generation, rows=rows)


def retraction(turn: TurnRecord) -> Operation[None]:
    return RetractBlocks(turn_id=turn.id, generation=turn.generation, index=0, seq=50)


def tool_run(turn: TurnRecord) -> Operation[Any]:
    return BeginToolRun(
        turn_id=turn.id,
        generation=turn.generation,
        sequence=0,
        attempt="one",
        tool_use_id="c",
        tool_name="t",
        now=1,
    )


@pytest.mark.requirement("Q3")
@pytest.mark.parametrize(
    ("table", "write"),
    [("annotations", annotation), ("blocks", retraction), ("tool_runs", tool_run)],
)
async def test_no_write_of_a_lost_executor_is_committed_after_the_claim(
    store: SqlStore, other: SqlStore, url: str, table: str, write: Any
):
    """A node that sleeps in the middle of a write either holds up the claim, or is refused."""
    turn = await running_turn(store)
    await store.write(save(turn, 0))
    claim = ClaimTurn(turn_id=turn.id, node=new_id(), generation=turn.generation)
    async with gated(url, table) as gate:
        writing = asyncio.create_task(store.write(write(turn)))
        await gate.waiting(1, writing)
        claiming = asyncio.create_task(other.write(claim))
        await gate.waiting(2, claiming)
        is_claimed = claiming.done()
        await gate.open()
        (written,) = await asyncio.gather(writing, return_exceptions=True)
        await claiming
    assert not is_claimed or isinstance(written, Fenced), written


async def waiting_turn(store: SqlStore, count: int) -> tuple[TurnRecord, list[ApprovalRecord]]:
    """A turn that waits for `count` approvals."""
    turn = await running_turn(store)
    approvals: list[ApprovalRecord] = []
    for sequence in range(count):
        content = {"tool_use_id": f"c{sequence}", "tool_name": "delete", "input": {"path": "x"}}
        row = make_block(turn, sequence)
        row = msgspec.structs.replace(row, block=Block(sequence, "tool_use", None, content))
        await store.write(msgspec.structs.replace(save(turn, sequence), row=row))
        approvals.append(
            ApprovalRecord(
                id=new_id(),
                turn_id=turn.id,
                sequence=sequence,
                step=1,
                seq=sequence + 40,
                tool_use_id=f"c{sequence}",
                tool_name="delete",
                input_digest=input_digest({"path": "x"}),
                created_at=1,
                expires_at=10**16,
            )
        )
    account = SaveStep(turn_id=turn.id, generation=turn.generation, steps=(), attempts=())
    await store.write(
        StartWaiting(
            turn_id=turn.id,
            generation=turn.generation,
            approvals=tuple(approvals),
            events=(),
            account=account,
            now=3,
        )
    )
    return turn, approvals


def answer(approval: ApprovalRecord, *, approved: bool = True) -> AnswerApproval:
    return AnswerApproval(
        turn_id=approval.turn_id,
        owner=OWNER,
        approval_id=approval.id,
        approved=approved,
        reason=None,
        now=5,
    )


async def at_once(
    url: str, store: SqlStore, other: SqlStore, one: AnswerApproval, two: AnswerApproval
) -> list[AnsweredApproval | BaseException]:
    """Write two answers on two nodes, each after the other has begun. Return what the nodes get."""
    async with gated(url, "approvals") as gate:
        first = asyncio.create_task(store.write(one))
        await gate.waiting(1, first)
        second = asyncio.create_task(other.write(two))
        await gate.waiting(2, first, second)
        await gate.open()
        return list(await asyncio.gather(first, second, return_exceptions=True))


@pytest.mark.requirement("G7", "Q2")
async def test_two_approvals_answered_at_once_on_two_nodes_are_two_events_and_one_continuation(
    store: SqlStore, other: SqlStore, url: str
):
    _, (one, two) = await waiting_turn(store, 2)
    answers = await at_once(url, store, other, answer(one), answer(two))
    assert all(isinstance(each, AnsweredApproval) for each in answers), answers
    found = [each for each in answers if isinstance(each, AnsweredApproval) and each.event is not None]
    assert len({each.event[0] for each in found if each.event is not None}) == 2, "one event each"
    assert sorted(each.unanswered for each in found) == [0, 1], "the last answer continues the turn"


@pytest.mark.requirement("G7", "Q2")
async def test_one_approval_has_one_answer_of_two_nodes(store: SqlStore, other: SqlStore, url: str):
    _, (one,) = await waiting_turn(store, 1)
    answers = await at_once(url, store, other, answer(one), answer(one, approved=False))
    accepted = [each for each in answers if isinstance(each, AnsweredApproval)]
    refused = [each for each in answers if isinstance(each, Conflict)]
    assert (len(accepted), len(refused)) == (1, 1), answers
    assert refused[0].code == "approval_decided"
    assert accepted[0].approval.approved is True, "the first one"
