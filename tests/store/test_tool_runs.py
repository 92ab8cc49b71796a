"""The ledger of tool calls: a call has one row from its begin until its result is stored as a block."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.store.samples import OWNER, finish, make_block, running_turn, save
from turnstream.core.blocks import Block
from turnstream.errors import Fenced, StoreError
from turnstream.store.base import TurnRecord
from turnstream.store.ledger.queries import ToolRun, ToolRunsOfTurn
from turnstream.store.operations.content import SaveBlock
from turnstream.store.operations.deleting import DeleteBlocks
from turnstream.store.operations.tool_runs import BeginToolRun, EndToolRun
from turnstream.store.sql import SqlStore


def begin(turn: TurnRecord, attempt: str = "one", *, sequence: int = 0, **options: Any) -> BeginToolRun:
    return BeginToolRun(
        turn_id=turn.id,
        generation=options.pop("generation", turn.generation),
        sequence=sequence,
        attempt=attempt,
        tool_use_id="call-1",
        tool_name="look",
        now=7,
        **options,
    )


def end(run: ToolRun, output: str = "found") -> EndToolRun:
    return EndToolRun(
        turn_id=run.turn_id, first_seq=run.first_seq, attempt=run.attempt, output=output, is_error=False
    )


async def turn_with_call(store: SqlStore) -> TurnRecord:
    turn = await running_turn(store)
    await store.write(save(turn, 0))
    return turn


async def runs(store: SqlStore, turn: TurnRecord) -> list[ToolRun]:
    return await store.read(ToolRunsOfTurn(turn_id=turn.id))


async def test_a_call_begins_once_and_keeps_its_result(store: SqlStore):
    turn = await turn_with_call(store)
    begun = await store.write(begin(turn))
    assert (begun.attempt, begun.output, begun.key) == ("one", None, f"{turn.id}-1")
    assert await store.write(begin(turn)) == begun, "the same write again: its answer was lost"
    assert (await store.write(begin(turn, "two"))).attempt == "one"
    assert await runs(store, turn) == [begun]
    await store.write(end(begun))
    again = await store.write(begin(turn, "three", may_repeat=True))
    assert (again.attempt, again.output, again.is_error) == ("one", "found", False)


async def test_an_idempotent_call_begins_again(store: SqlStore):
    turn = await turn_with_call(store)
    first = await store.write(begin(turn))
    second = await store.write(begin(turn, "two", may_repeat=True))
    assert (second.attempt, second.key) == ("two", first.key)
    await store.write(end(first, "late"))
    assert (await runs(store, turn))[0].output is None, "the result of an older attempt does not count"
    await store.write(end(second))
    assert (await runs(store, turn))[0].output == "found"


async def test_only_the_executor_begins_calls(store: SqlStore):
    turn = await turn_with_call(store)
    with pytest.raises(Fenced):
        await store.write(begin(turn, generation=turn.generation + 1))
    begun = await store.write(begin(turn))
    await store.write(finish(turn))
    with pytest.raises(Fenced):
        await store.write(begin(turn, "two", may_repeat=True))
    await store.write(end(begun))
    assert (await runs(store, turn))[0].output == "found"


async def test_a_call_that_is_not_stored_does_not_begin(store: SqlStore):
    turn = await turn_with_call(store)
    with pytest.raises(StoreError, match="block 3 is not stored"):
        await store.write(begin(turn, sequence=3))
    assert await runs(store, turn) == []


async def test_the_result_block_replaces_the_ledgers_copy(store: SqlStore):
    turn = await turn_with_call(store)
    begun = await store.write(begin(turn))
    content = {"tool_use_id": "call-1", "tool_name": "look", "content": "found"}
    row = msgspec.structs.replace(make_block(turn, 1), block=Block(1, "tool_result", None, content))
    result = SaveBlock(turn_id=turn.id, generation=turn.generation, row=row)
    await store.write(end(begun))
    await store.write(result)
    assert await runs(store, turn) == []


async def test_deleted_blocks_leave_no_copy(store: SqlStore):
    turn = await turn_with_call(store)
    await store.write(end(await store.write(begin(turn)), "secret"))
    await store.write(finish(turn))
    await store.write(DeleteBlocks(turn_id=turn.id, owner=OWNER, sequences=(0,)))
    assert await runs(store, turn) == []


def test_the_records_fields_are_the_tables_columns():
    from turnstream.store.schema import tool_runs

    assert [column.name for column in tool_runs.columns] == list(ToolRun.__struct_fields__)


@pytest.mark.requirement("Q4")
async def test_a_lost_executor_that_stores_a_result_takes_nothing_out_of_the_ledger(store: SqlStore):
    turn = await turn_with_call(store)
    begun = await store.write(begin(turn))
    await store.write(end(begun))
    content = {"tool_use_id": "call-1", "content": "found"}
    row = msgspec.structs.replace(make_block(turn, 1), block=Block(1, "tool_result", None, content))
    late = SaveBlock(turn_id=turn.id, generation=turn.generation - 1, row=row)
    with pytest.raises(Fenced):
        await store.write(late)
    assert [run.output for run in await runs(store, turn)] == ["found"]
