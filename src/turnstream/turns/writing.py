"""What of a turn is stored before it is shown, and what waits meanwhile."""

from __future__ import annotations

import asyncio
import logging
from typing import TypeVar

import msgspec

from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.core.turn_events import BlockReset, Data, Notice, Source, TurnEvent
from turnstream.errors import Fenced, StoreError
from turnstream.store.base import Annotation, BlockRecord, Operation, Store, TurnRecord
from turnstream.store.operations import MarkStreaming, SaveAnnotations, SaveBlock, TakeBack
from turnstream.turnlog.log import TurnLog
from turnstream.turns.clock import now_microseconds

logger = logging.getLogger(__name__)

STORE_RETRY_DELAY = 0.1
"""Seconds before the one retry of a failed write."""

Value = TypeVar("Value")


class TurnWriter:
    """The durable side of one turn's executor.

    `busy`: a row is being written whose number in the log is decided; whatever would take that number waits.
    """

    def __init__(self, turn: TurnRecord, log: TurnLog, store: Store) -> None:
        self.busy = False
        self._turn_id = turn.id
        self._generation = turn.generation
        self._log = log
        self._store = store
        self._postponed: list[TurnEvent] = []
        self.marking: asyncio.Task[None] | None = None
        self.marked_at: int | None = None
        """When the turn began to stream; None before."""

    @property
    def marked(self) -> bool:
        """True if the turn has begun to stream."""
        return self.marked_at is not None

    def mark_streaming(self) -> None:
        """pending → streaming. Nobody waits for it, and it need not come before any other write of the turn: the end
        says when the turn began to stream, too."""
        self.marked_at = now_microseconds()
        operation = MarkStreaming(turn_id=self._turn_id, generation=self._generation, now=self.marked_at)
        self.marking = asyncio.get_running_loop().create_task(self._store.write(operation))
        self.marking.add_done_callback(_log_failure)

    async def write(self, operation: Operation[Value]) -> Value:
        """Write durably, with one retry. Raises StoreError."""
        try:
            return await self._store.write(operation)
        except Fenced:
            raise
        except StoreError as error:
            logger.warning("turn %s: storage failed, trying once more: %s", self._turn_id, error)
            await asyncio.sleep(STORE_RETRY_DELAY)
            return await self._store.write(operation)

    async def store_block(self, block: Block) -> None:
        """Store the open block; the next event of the log is its block_stop. Raises StoreError."""
        _, first_seq, _, head = self._log.open_state
        row = BlockRecord(new_id(), self._turn_id, block, first_seq, head + 1, now_microseconds())
        self.busy = True
        try:
            await self.write(SaveBlock(turn_id=self._turn_id, generation=self._generation, row=row))
        finally:
            self.busy = False
        logger.debug("block %d (%s) is whole and stored", block.sequence, block.block_type)

    async def take_back(self, reset: BlockReset) -> None:
        """Delete the blocks from an index on; the next event of the log is to be `reset`. Raises StoreError."""
        seq, generation = self._log.head + 1, self._generation
        self.busy = True
        try:
            await self.write(
                TakeBack(turn_id=self._turn_id, generation=generation, index=reset.block_index, seq=seq)
            )
        finally:
            self.busy = False

    async def show(self, event: TurnEvent) -> None:
        """Show an event of the source's own; a lasting one is stored first. Raises StoreError."""
        encoded = msgspec.json.encode(event)  # what cannot be encoded fails here, before it has a number
        if is_lasting(event):
            self.busy = True
            try:
                row = Annotation(self._turn_id, self._log.head + 1, encoded)
                await self.write(
                    SaveAnnotations(turn_id=self._turn_id, generation=self._generation, rows=(row,))
                )
            finally:
                self.busy = False
            self._log.event_stored(event)
        else:
            self._log.append([event])
        self.show_postponed()

    def show_soon(self, event: TurnEvent) -> None:
        """Show a passing event now, or right after what is being written."""
        if self.busy:
            self._postponed.append(event)
        else:
            self._log.append([event])

    def show_postponed(self) -> None:
        if self._postponed:
            postponed, self._postponed = self._postponed, []
            self._log.append(postponed)


def is_lasting(event: TurnEvent) -> bool:
    """Whether an event outside the blocks is kept for who comes later."""
    return isinstance(event, Notice | Source) or (isinstance(event, Data) and not event.transient)


def _log_failure(task: asyncio.Task[None]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    if not isinstance(error, Fenced):  # the turn had ended before
        logger.warning("a turn could not be marked as streaming: %s", error)
