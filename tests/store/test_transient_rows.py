"""One contract for the rows of a turn: in the database, and in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.store.samples import OWNER, STRANGER, finish, make_block, make_chat, make_turn, save
from turnstream.core.usage import CallAttempt, StepUsage, Usage
from turnstream.errors import NotFound
from turnstream.store.archive import ArchivedAfter, ArchivedBlock, CountBlocksUntil
from turnstream.store.base import Annotation, Query, Store, TurnRecord
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.content import SaveAnnotations, SaveBlock
from turnstream.store.operations.progress import MarkStreaming, RetractBlocks, SaveStep
from turnstream.store.operations.start import StartTurns
from turnstream.store.queries import AllBlocks, AttemptsOfTurn, CountBlocks, GetTurn, LastSeq
from turnstream.store.sql import SqlStore
from turnstream.store.transient.store import LayeredStore
from turnstream.store.transient.turns import TransientTurns

ATTEMPT = CallAttempt(0, 1, "sim/demo", "complete", 7, 0.5, Usage(10, 5), "0.000100", False)


@pytest.fixture(params=["in the database", "in memory", "in memory, ended"])
async def keep(
    request: pytest.FixtureRequest, store: SqlStore
) -> tuple[Store, Callable[[TurnRecord], Awaitable[None]], TransientTurns | None]:
    """A store, the way a turn gets there, and the turns in memory if they are kept as ended."""
    if request.param == "in the database":

        async def start(turn: TurnRecord) -> None:
            await store.write(CreateChat(chat=CHAT))
            await store.write(StartTurns(turn_id=turn.id, owner=OWNER, user_turn=None, assistant_turn=turn))

        return store, start, None
    layered = LayeredStore(store)

    async def add(turn: TurnRecord) -> None:
        layered.transient.add(turn)

    return layered, add, layered.transient if "ended" in request.param else None


CHAT = make_chat()


def rows_after(turn: TurnRecord, seq: int, from_block: int = 0) -> Query[Any]:
    def use(rows: Iterator[Any]) -> list[Any]:
        return list(rows)

    return ArchivedAfter(turn_id=turn.id, seq=seq, from_block=from_block, known=lambda _id: None, use=use)


async def test_both_stores_give_the_same_answers(keep: Any) -> None:
    store, start, ended = keep
    turn = make_turn(CHAT, "assistant")
    await start(turn)
    generation = turn.generation
    await store.write(MarkStreaming(turn_id=turn.id, generation=generation, now=3))
    streaming = await store.read(GetTurn(owner=OWNER, turn_id=turn.id))
    assert (streaming.status, streaming.started_at) == ("streaming", 3)
    rows = [make_block(turn, sequence, f"text {sequence}") for sequence in range(3)]
    for row in rows:
        await store.write(SaveBlock(turn_id=turn.id, generation=generation, row=row))
    await store.write(save(turn, 2))  # a repetition changes nothing
    noted = tuple(Annotation(turn.id, seq, b'{"type":"notice"}') for seq in (10, 20))
    for _ in range(2):
        await store.write(SaveAnnotations(turn_id=turn.id, generation=generation, rows=noted))
    await store.write(RetractBlocks(turn_id=turn.id, generation=generation, index=2, seq=30))
    again = make_block(turn, 2, "again")
    await store.write(SaveBlock(turn_id=turn.id, generation=generation, row=again))
    step = StepUsage(0, "sim/demo", Usage(10, 5), None, False)
    await store.write(SaveStep(turn_id=turn.id, generation=generation, steps=(step,), attempts=(ATTEMPT,)))
    assert await store.read(LastSeq(turn_id=turn.id)) == 30
    cut = make_block(turn, 3, "cut", partial=True)
    end = finish(turn, blocks=(cut,), attempts=(ATTEMPT,), model="sim/other")
    assert await store.write(end) is True
    if ended is not None:
        ended.end(turn.id, 1.0)
    assert await store.write(end) is True, "a repetition"
    assert await store.write(finish(turn, "error")) is False, "another end"

    blocks = [*rows[:2], again, cut]
    assert await store.read(AllBlocks(turn_id=turn.id)) == blocks
    assert await store.read(CountBlocks(turn_id=turn.id)) == (4, 3)
    assert await store.read(AttemptsOfTurn(turn_id=turn.id)) == [ATTEMPT]
    assert await store.read(CountBlocksUntil(turn_id=turn.id, seq=19)) == 2
    assert await store.read(LastSeq(turn_id=turn.id)) == end.outcome.last_seq
    read = await store.read(GetTurn(owner=OWNER, turn_id=turn.id))
    assert (read.status, read.model, read.resets, read.last_seq) == ("complete", "sim/other", ((30, 2),), 99)
    assert (read.usage, read.completed_at) == (end.outcome.usage, end.outcome.completed_at)
    in_order = [rows[0], noted[0], rows[1], noted[1], again, cut]
    assert await store.read(rows_after(turn, 0)) == in_order
    assert await store.read(rows_after(turn, 9)) == in_order[1:]
    assert await store.read(rows_after(turn, 10, from_block=2)) == in_order[3:]
    block = ArchivedBlock(turn_id=turn.id, sequence=2, use=lambda row: row.block.text_content)
    assert await store.read(block) == "again"
    assert await store.read(ArchivedBlock(turn_id=turn.id, sequence=9, use=lambda row: row)) is None
    with pytest.raises(NotFound):
        await store.read(GetTurn(owner=STRANGER, turn_id=turn.id))


async def test_a_large_block_is_replaced_by_its_known_form(keep: Any) -> None:
    store, start, _ = keep
    turn = make_turn(CHAT, "assistant")
    await start(turn)
    rows = [make_block(turn, sequence) for sequence in range(3)]
    for row in rows:
        await store.write(SaveBlock(turn_id=turn.id, generation=turn.generation, row=row))
    known = ArchivedAfter(turn_id=turn.id, seq=9, from_block=0, known={rows[1].id: "known"}.get, use=list)
    assert await store.read(known) == ["known"]
