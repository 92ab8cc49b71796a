"""A catch-up costs the same per block, for few and for many blocks, in small steps."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.turns.world import OWNER, World
from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.store.archive import ArchivedAfter
from turnstream.store.base import Annotation, BlockRecord, Operation, OutcomeRecord, TurnRecord
from turnstream.store.database import driver_of
from turnstream.store.operations.content import SaveAnnotations
from turnstream.store.operations.progress import FinishTurn
from turnstream.store.operations.start import StartTurns
from turnstream.store.rows import block_row
from turnstream.store.schema import blocks

FEW = 4_000


class InsertBlocks(Operation[None], frozen=True, kw_only=True):
    rows: tuple[BlockRecord, ...]

    def apply(self, connection: Connection) -> None:
        driver_of(connection).insert(connection, blocks, [block_row(row) for row in self.rows])


async def turn_of(world: World, count: int, *, annotations: bool = False) -> str:
    """An ended turn with `blocks` small blocks, or `notices` lasting events."""
    turn = TurnRecord(
        id=new_id(),
        chat_id=await world.chat(),
        owner=OWNER,
        prev_turn_id=None,
        role="assistant",
        status="pending",
        created_at=0,
        generation=7,
    )
    await world.store.write(StartTurns(turn_id=turn.id, owner=OWNER, user_turn=None, assistant_turn=turn))
    if annotations:
        rows = tuple(
            Annotation(turn.id, seq, b'{"type":"data","name":"d","data":1}') for seq in range(2, count + 2)
        )
        await world.store.write(SaveAnnotations(turn_id=turn.id, generation=7, rows=rows))
    else:
        blocks = [Block(number, "text", f"block {number}") for number in range(count)]
        stored = (
            BlockRecord(new_id(), turn.id, block, block.sequence + 2, block.sequence + 2, 0)
            for block in blocks
        )
        await world.store.write(InsertBlocks(turn_id=turn.id, rows=tuple(stored)))
    end = FinishTurn(
        turn_id=turn.id,
        generation=7,
        outcome=OutcomeRecord(
            status="error", last_seq=count + 3, error_code="x", error_message="x", completed_at=0
        ),
    )
    await world.store.write(end)
    return turn.id


async def cost_of(world: World, turn_id: str, expected: int) -> float:
    """Return the CPU seconds of this process, the best of three runs."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        subscription = await world.watch(turn_id)
        frames = 0
        while (data := await subscription.next()) is not None:
            assert len(data) < 64 * 1024
            frames += data.count(b"\n\n")
        best = min(best, time.process_time() - began)
        assert frames == expected + 2
    return best


@pytest.mark.fault(26)
@pytest.mark.parametrize("annotations", [False, True], ids=["blocks", "lasting events"])
async def test_four_times_the_blocks_cost_no_more_than_five_times_as_much(
    world: World, *, annotations: bool
) -> None:
    few = await turn_of(world, FEW, annotations=annotations)
    many = await turn_of(world, 4 * FEW, annotations=annotations)
    assert await cost_of(world, many, 4 * FEW) < 5 * await cost_of(world, few, FEW)


@pytest.mark.fault(26)
async def test_frames_are_made_in_the_thread_that_reads_in_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop does nothing per block, and other streams wait at most for a page."""
    turn_id = await turn_of(world, FEW)
    pages: list[int] = []
    fetch = ArchivedAfter.fetch

    def fetch_counted(query: ArchivedAfter, connection: Connection) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        answer = fetch(query, connection)
        pages.append(len(answer.data))
        return answer

    monkeypatch.setattr(ArchivedAfter, "fetch", fetch_counted)
    await cost_of(world, turn_id, FEW)
    assert max(pages) < 40 * 1024
    assert FEW / 256 <= len(pages) / 3 < FEW / 64


@pytest.mark.fault(26)
async def test_a_watcher_that_resumes_amid_many_blocks_reads_only_those_that_follow(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        turn_id = await turn_of(world, FEW)
        subscription = await world.watch(turn_id, f"7-{FEW - 98}")
        frames = b""
        while (data := await subscription.next()) is not None:
            frames += data
        assert frames.count(b"event: block_catchup") == 99
