"""Each write of a turn's life: its effect, its refusals, and the rows that it does not change."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest

from tests.store.rereading import blocks_of, reread
from tests.store.samples import (
    STRANGER,
    append_journal,
    finish,
    make_block,
    make_segment,
    make_turn,
    pending_turn,
    running_turn,
    save,
    stored_chat,
)
from turnstream.core.cursor import next_generation_seq
from turnstream.core.usage import StepUsage, Usage
from turnstream.errors import Fenced, NotFound, StaleGeneration, StoreError
from turnstream.store.base import Annotation, OutcomeRecord
from turnstream.store.journal.queries import Journal
from turnstream.store.operations.content import SaveAnnotations
from turnstream.store.operations.progress import MarkStreaming, TakeOver
from turnstream.store.operations.start import StartTurns
from turnstream.store.queries import (
    GetTurn,
    LastSeq,
)
from turnstream.store.sql import SqlStore

# -- the life of a turn
# --------------------------------------------------------------------------------------------


@pytest.mark.requirement("D1")
async def test_a_turn_lives_from_pending_to_its_end(store: SqlStore):
    turn = await pending_turn(store)
    mark = MarkStreaming(turn_id=turn.id, generation=turn.generation, now=2)
    await store.write(mark)
    await store.write(msgspec.structs.replace(mark, now=3))
    assert (await reread(store, turn)).started_at == 2
    partial = make_block(turn, 1, "cut", partial=True)
    await store.write(append_journal(segments=(make_segment(turn, 1, 0),)))
    assert await store.write(finish(turn, "error", blocks=(partial,), model="sim/other"))
    assert await reread(store, turn) == msgspec.structs.replace(
        turn,
        status="error",
        model="sim/other",
        last_seq=99,
        error_code="api_error",
        error_message="the provider failed",
        usage=Usage(45, 234),
        started_at=2,
        completed_at=77,
    )
    assert await blocks_of(store, turn) == [partial]
    assert await store.read(Journal(turn_id=turn.id)) == []
    with pytest.raises(Fenced):
        await store.write(mark)


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("status", ["error", "cancelled"])
async def test_a_pending_turn_may_fail_or_be_cancelled(store: SqlStore, status: Any):
    turn = await pending_turn(store)
    assert await store.write(finish(turn, status))
    assert (await reread(store, turn)).status == status


@pytest.mark.requirement("D1", "P5")
async def test_what_never_began_cannot_have_succeeded(store: SqlStore):
    turn = await pending_turn(store)
    with pytest.raises(StoreError, match="cannot become complete from pending"):
        await store.write(finish(turn, "complete", blocks=(make_block(turn, 0),)))
    assert await reread(store, turn) == turn
    assert await blocks_of(store, turn) == []


@pytest.mark.requirement("D1")
async def test_of_several_ends_one_wins_and_stays(store: SqlStore):
    orders = list(itertools.permutations(("complete", "cancelled", "error")))
    for order in orders * 5:
        turn = await running_turn(store)
        ends = [
            finish(turn, status, blocks=(make_block(turn, 0, status, partial=True),), last_seq=number)
            for number, status in enumerate(order)
        ]
        won = await asyncio.gather(*map(store.write, ends))
        assert won.count(True) == 1
        ended = await reread(store, turn)
        winner = ends[won.index(True)]
        assert (ended.status, ended.last_seq) == (winner.outcome.status, winner.outcome.last_seq)
        assert await blocks_of(store, turn) == list(winner.blocks)
        assert await asyncio.gather(*map(store.write, ends)) == won, "a repeated write has the same answer"
        with pytest.raises(Fenced):
            await store.write(save(turn, 3))
        assert await reread(store, turn) == ended


async def test_an_executor_of_an_older_generation_is_fenced(store: SqlStore):
    turn = await running_turn(store)
    stale = msgspec.structs.replace(turn, generation=turn.generation - 1)
    for operation in (
        save(stale, 0),
        finish(stale),
        MarkStreaming(turn_id=stale.id, generation=stale.generation, now=4),
        SaveAnnotations(
            turn_id=stale.id, generation=stale.generation, rows=(Annotation(stale.id, 1, b"{}"),)
        ),
    ):
        with pytest.raises(Fenced):
            await store.write(operation)
    assert (await reread(store, turn)).status == "streaming"
    assert await store.read(LastSeq(turn_id=turn.id)) == 0


# -- recovery
# ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("D5")
async def test_a_takeover_ends_the_turn_raises_its_generation_and_keeps_the_fence(store: SqlStore):
    turn = await running_turn(store)
    await store.write(save(turn, 0))
    await store.write(append_journal(segments=(make_segment(turn, 1, 0),)))
    seq = next_generation_seq(12)
    rescued = make_block(turn, 1, "piece", partial=True)
    take_over = TakeOver(
        turn_id=turn.id,
        expected_generation=turn.generation,
        generation=turn.generation + 1,
        fence_seq=12,
        blocks=(rescued,),
        outcome=OutcomeRecord(
            status="error",
            error_code="executor_lost",
            error_message="the server was restarted",
            last_seq=seq,
            completed_at=88,
        ),
    )
    assert await store.write(take_over)
    ended = await reread(store, turn)
    assert ended.fences == ((turn.generation, 12),)
    assert (ended.status, ended.generation, ended.last_seq) == ("error", turn.generation + 1, seq)
    assert [row.block.sequence for row in await blocks_of(store, turn)] == [0, 1]
    assert await store.read(Journal(turn_id=turn.id)) == []
    assert await store.write(take_over), "a repeated write has the same answer"
    for late in (finish(turn), save(turn, 2)):
        with pytest.raises(StaleGeneration):
            await store.write(late)
    assert await reread(store, turn) == ended


async def test_a_takeover_that_comes_second_is_fenced(store: SqlStore):
    turn = await running_turn(store)
    take_over = TakeOver(
        turn_id=turn.id,
        expected_generation=turn.generation + 1,
        generation=turn.generation + 2,
        fence_seq=1,
        blocks=(make_block(turn, 0),),
        outcome=OutcomeRecord(status="error", last_seq=5, completed_at=6),
    )
    with pytest.raises(Fenced):
        await store.write(take_over)
    assert await reread(store, turn) == msgspec.structs.replace(turn, status="streaming", started_at=2)
    assert await blocks_of(store, turn) == []


@pytest.mark.requirement("I2", "I3")
async def test_the_cost_and_the_steps_of_a_turn_are_stored_with_its_end(store: SqlStore):
    turn = await running_turn(store)
    steps = (
        StepUsage(0, "sim/demo", Usage(45, 12, cache_read_tokens=3), "0.000315"),
        StepUsage(1, "sim/demo", Usage(50, 1), estimated=True),
    )
    end = finish(turn, "cancelled", cost="0.000315", cost_estimated=True, steps=steps)
    assert await store.write(end)
    stored = await reread(store, turn)
    assert (stored.cost, stored.cost_estimated, stored.steps) == ("0.000315", True, steps)


async def test_a_turn_without_a_cost_has_none(store: SqlStore):
    turn = await running_turn(store)
    assert await store.write(finish(turn))
    stored = await reread(store, turn)
    assert (stored.cost, stored.cost_estimated, stored.steps) == (None, False, ())


async def test_a_turn_may_be_made_with_its_cost(store: SqlStore):
    chat = await stored_chat(store)
    steps = (StepUsage(0, None, Usage(1, 2)),)
    turn = msgspec.structs.replace(
        make_turn(chat, "assistant"), status="complete", cost="1.500000", cost_estimated=True, steps=steps
    )
    await store.write(StartTurns(owner=chat.owner, user_turn=None, assistant_turn=turn, user_blocks=()))
    assert await reread(store, turn) == turn


async def test_the_store_measures_how_long_it_takes(store: SqlStore):
    writes, reads = store.measures.writes.cumulative()[-1][1], store.measures.reads.cumulative()[-1][1]
    turn = await running_turn(store)
    with pytest.raises(NotFound):
        await store.read(GetTurn(owner=STRANGER, turn_id=turn.id))
    await reread(store, turn)
    assert store.measures.writes.cumulative()[-1][1] == writes + 3
    assert store.measures.reads.cumulative()[-1][1] == reads + 2
    assert 0 < store.measures.writes.total < 10
    assert (store.measures.failed_writes, store.measures.failed_reads) == (0, 0)
