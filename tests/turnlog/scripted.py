"""A turn that the real executor writes to a store in memory, in steps that a test interleaves with its
watchers.

Time is measured in ticks of the event loop. Every store access and every batch of the source takes a drawn
number of ticks, so an example is the same in each run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any

from turnstream.core.cursor import ResetRecord, first_generation
from turnstream.core.turn_events import SourceEvent, TurnStart
from turnstream.dialects.native import NativeEncoder
from turnstream.model_loop.sources import ForeignSource
from turnstream.store.base import Annotation, BlockRecord, Operation, Query, TurnRecord
from turnstream.store.operations.content import SaveAnnotations, SaveBlock
from turnstream.store.operations.progress import FinishTurn, MarkStreaming, RetractBlocks
from turnstream.store.queries import AllBlocks
from turnstream.turnlog import catch_up
from turnstream.turnlog.catch_up import (
    ArchivePage,
    BlockPosition,
    Item,
    LargeBlock,
    Parts,
    build_page,
    seq_of,
    take_apart,
)
from turnstream.turnlog.log import TurnLog
from turnstream.turns.executor import Executor

TURN_ID = "01a1fc3d-f972-7b3d-9880-2b4d5256380e"
START = TurnStart("01a1fc3d-f970-7117-9c99-98b8bd7eacee", "assistant", None, "2026-11-21T03:54:42.418Z")


class Ticks:
    """Ticks of each wait, in order. No wait after the last one."""

    def __init__(self, counts: Sequence[int] = ()) -> None:
        self._counts: Iterator[int] = chain(counts, repeat(0))

    async def pass_some(self) -> None:
        for _ in range(next(self._counts)):
            await asyncio.sleep(0)


class ListStore:
    """The store's methods that the executor needs, on lists. Rows appear between two waits, like a commit."""

    def __init__(self, ticks: Ticks) -> None:
        self.blocks: list[BlockRecord] = []
        self.annotations: list[Annotation] = []
        self.ends: list[FinishTurn] = []
        self.resets: list[ResetRecord] = []
        self._ticks = ticks

    async def open(self) -> None:
        """There is nothing to open."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def write(self, operation: Operation[Any]) -> Any:
        await self._ticks.pass_some()
        answer = self._apply(operation)
        await self._ticks.pass_some()
        return answer

    async def read(self, query: Query[Any]) -> Any:
        assert isinstance(query, AllBlocks), f"the executor has no need of {query}"
        await self._ticks.pass_some()
        return sorted(self.blocks, key=lambda row: row.block.sequence)

    def _apply(self, operation: Operation[Any]) -> bool | None:
        match operation:
            case SaveBlock():
                self.blocks.append(operation.row)
            case SaveAnnotations():
                self.annotations.extend(operation.rows)
            case FinishTurn():
                self.blocks.extend(operation.blocks)
                self.ends.append(operation)
                return True
            case RetractBlocks():
                self.blocks[:] = [row for row in self.blocks if row.block.sequence < operation.index]
                self.resets.append(ResetRecord(operation.seq, operation.index))
            case MarkStreaming():
                pass
            case _:
                raise AssertionError(f"the executor has no need of {operation}")
        return None


class ListArchive:
    """The archive of a `ListStore`."""

    def __init__(self, store: ListStore, ticks: Ticks, log: TurnLog | None = None) -> None:
        self._store = store
        self._ticks = ticks
        self._log = log or new_log()
        self.blocks_read = 0

    async def page_after(self, seq: int, *, next_block: int, horizon: int) -> ArchivePage:
        encoder = self._log.encoder
        await self._ticks.pass_some()
        items: list[Item] = [
            row for row in self._store.blocks if row.last_seq > seq and row.block.sequence >= next_block
        ]
        items += [row for row in self._store.annotations if row.seq > seq]
        items.sort(key=seq_of)
        page, _ = build_page(self._taken(items), ArchivePage(b"", seq, next_block), horizon, encoder)
        await self._ticks.pass_some()
        return page

    def _taken(self, items: Sequence[Item]) -> Iterator[Item]:
        for item in items:
            self.blocks_read += isinstance(item, BlockRecord)
            yield item

    async def parts_of(self, block: LargeBlock, place: BlockPosition) -> Parts | None:
        await self._ticks.pass_some()
        found = next((row for row in self._store.blocks if row.id == block.row_id), None)
        await self._ticks.pass_some()
        if found is None:
            return None
        parts = take_apart(found.block)
        stretch = catch_up.TEXT_PIECE
        start = place.text // stretch * stretch
        return Parts(parts.contents, parts.text[start : start + stretch], parts.signature)

    async def count_until(self, seq: int) -> int:
        await self._ticks.pass_some()
        return sum(row.last_seq <= seq for row in self._store.blocks)


def turn_row() -> TurnRecord:
    return TurnRecord(
        id=TURN_ID,
        chat_id=START.chat_id,
        owner="local",
        prev_turn_id=None,
        role="assistant",
        status="pending",
        created_at=0,
        generation=first_generation(TURN_ID),
    )


def new_log(*, ring_limit: int = 64 * 1024) -> TurnLog:
    generation = first_generation(TURN_ID)
    return TurnLog(TURN_ID, generation, NativeEncoder(TURN_ID, generation), ring_limit=ring_limit)


class ScriptedTurn:
    """One turn. `batches` come from its source one at a time, each after its drawn ticks."""

    def __init__(
        self,
        batches: Sequence[Sequence[SourceEvent]],
        *,
        ring_limit: int = 64 * 1024,
        source_ticks: Sequence[int] = (),
        store_ticks: Sequence[int] = (),
        before_batch: Callable[[Executor, int], None] = lambda _executor, _number: None,
    ) -> None:
        self.store = ListStore(Ticks(store_ticks))
        self.log = new_log(ring_limit=ring_limit)
        self.batches = batches
        self._ticks = Ticks(source_ticks)
        self._before_batch = before_batch
        self.executor = Executor(turn_row(), self.log, self.store)

    def begin(self) -> asyncio.Task[None]:
        task = self.executor.start(ForeignSource(self._source()))
        self.executor.begin(START)
        return task

    async def _source(self) -> AsyncIterator[Sequence[SourceEvent]]:
        for number, batch in enumerate(self.batches):
            await self._ticks.pass_some()
            self._before_batch(self.executor, number)
            yield batch
