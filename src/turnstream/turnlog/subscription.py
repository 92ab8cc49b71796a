"""A watcher's position in a log: catch-up, then live (requirements C1 to C4).

A subscription is a cursor, not a queue. Each call of `next` looks where the cursor stands and takes the first that
applies:

    1. the ring covers it     everything after it, in one piece
    2. else                   catch-up: a block_reset, if blocks were taken back since; closed blocks and lasting events from the store, in pages, then the open block
                              from memory, in pieces, or the rest of it where we know how much was sent; each frame's
                              id is the end of what is complete with it

As nothing is awaited between looking at the log and taking from it, no event can fall between catch-up and live.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from turnstream.core.cursor import Cursor
from turnstream.core.open_block import catchup_of
from turnstream.core.turn_events import TurnEvent
from turnstream.store.base import Annotation, StoredBlock
from turnstream.turnlog.base import Archive, Batch, Sink
from turnstream.turnlog.memory import NOTHING, TurnLog

logger = logging.getLogger(__name__)

_PAGE_BLOCKS = 16
_PAGE_ANNOTATIONS = 64
_decode_event = msgspec.json.Decoder(TurnEvent).decode


class Subscription:
    """One watcher of one turn."""

    __slots__ = (
        "_archive",
        "_block_index",
        "_block_length",
        "_block_seq",
        "_catching_up",
        "_closed",
        "_from_block",
        "_lost_generation",
        "_reset_seq",
        "_seq",
        "_sink",
        "_snapshot",
        "_waiter",
        "log",
    )

    def __init__(
        self, log: TurnLog, archive: Archive, *, after: Cursor | None = None, from_block: int = 0
    ) -> None:
        self.log = log
        self._archive = archive
        self._from_block = from_block
        self._block_index = NOTHING
        self._block_length = 0
        self._block_seq = 0
        """Of the block that was open at event `_block_seq`, so many characters have been sent."""
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._closed = False
        self._catching_up = False
        self._lost_generation = False
        self._reset_seq = 0
        """What was taken back up to that event has been told, though the cursor may be behind it."""
        self._seq = 0
        self._snapshot = True
        """A catch-up is under way: the ring serves again once the cursor has come to the open block."""
        if after is not None:
            self._resume(after)

    def _resume(self, after: Cursor) -> None:
        """Find the place of a client's cursor. One that is not of this turn gets a snapshot from the beginning, of all
        blocks: it tells the client to start from nothing."""
        log = self.log
        if after.generation == log.generation and after.seq <= log.head:
            self._seq, self._snapshot = after.seq, not log.is_exact(after.seq)
        elif after.generation != log.generation and (survived := log.fence_of(after.generation)) is not None:
            self._seq, self._snapshot = min(after.seq, survived), False
            self._lost_generation = after.seq > survived
        else:
            self._from_block = 0

    @property
    def cursor(self) -> Cursor:
        """What has been handed out so far."""
        return Cursor(self.log.generation, self._seq)

    @property
    def at_end(self) -> bool:
        """Whether the terminal event has been handed out: nothing will follow."""
        return (
            self.log.terminal is not None and self._seq >= self.log.terminal[0] and not self._lost_generation
        )

    @property
    def lag(self) -> int:
        """How many events it is behind."""
        return max(0, self.log.head - self._seq)

    @property
    def waiting(self) -> bool:
        return self._waiter is not None

    async def next(self, sink: Sink | None = None) -> bytes | None:
        """The next frames; b"" after `nudge` when there is nothing (time for a heartbeat); None at the end.

        While nothing is to be done but to wait for the log to grow, what it gains goes straight into `sink`, and the
        caller sleeps on: a watcher that is up to date costs no task switch. Whatever the sink does not take is
        returned. Raises StoreError when the catch-up cannot be read.
        """
        while not self._closed:
            if self._lost_generation:
                return await self._tell_truncated()
            if self._snapshot or not self.log.ring.covers(self._seq):
                data = await self._catch_up()
                if data:
                    self._count_catch_up()
                    return data
                continue
            self._catching_up = False
            if self.log.head > self._seq:
                return self._take(self.log.batch_after(self._seq))
            if self.log.terminal is not None or self.log.closed:
                return None
            if not await self._wait(sink) and not self._closed:
                return b""
        return None

    def nudge(self) -> None:
        """Make a waiting `next` return b""."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Make `next` return None from now on; a waiting one returns at once."""
        self._closed = True
        self.nudge()

    def _count_catch_up(self) -> None:
        """Count one when it begins, however many pieces it comes in."""
        if not self._catching_up:
            self._catching_up = True
            self.log.catch_ups += 1

    async def _wait(self, sink: Sink | None) -> bool:
        """Wait for an append that the sink does not take; False when something else woke us."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiter, self._sink = waiter, sink
        if sink is None:
            self.log.add_waiter(waiter)
        else:
            self.log.add_follower(self._follow)
        try:
            await waiter
        finally:
            self._waiter = self._sink = None
            self.log.discard_waiter(waiter)
            self.log.discard_follower(self._follow)
        return self.log.head > self._seq

    def _follow(self) -> None:
        """The log has grown: give what is new to the sink, or else wake the reader."""
        log, waiter, seq = self.log, self._waiter, self._seq
        ring = log.ring
        if waiter is None or waiter.done() or (ring.last_seq <= seq and not log.closed):
            return  # what it was called for may have been taken before it waited
        if log.terminal is None and not log.closed and ring.first_seq <= seq + 1 and self._sink is not None:
            batch = log.batch_after(seq)
            if self._sink(batch.data):
                self._pass(batch)
                self._block_seq = batch.seq
                return
        waiter.set_result(None)

    def _take(self, batch: Batch) -> bytes:
        self._pass(batch)
        self._block_seq = self.log.head
        return batch.data

    def _pass(self, batch: Batch) -> None:
        self._seq, self._block_index, self._block_length = batch.seq, batch.block_index, batch.block_length

    async def _catch_up(self) -> bytes:
        """A piece of catch-up; an empty one when there was nothing left to send on the way to the ring."""
        log = self.log
        if log.start is not None and self._seq < log.start[0]:
            self._seq, start = log.start
            if not self._from_block:  # who starts from nothing has nothing to drop
                self._reset_seq = log.head
            self._snapshot = self._seq < log.stored_seq or log.open_block is not None
            # Who has blocks already, and asks for those after them, is not told to start from nothing.
            return b"" if self._from_block else log.frame(self._seq, start)
        reset = log.reset_since(max(self._seq, self._reset_seq))
        if reset is not None:
            self._snapshot = True
            self._reset_seq = log.head
            self._from_block = min(self._from_block, reset.block_index)
            return log.frame(self._seq, reset)
        if self._seq < log.stored_seq:
            self._snapshot = True
            return b"".join(await self._stored_page())
        return self._from_open_block()

    def _from_open_block(self) -> bytes:
        log, block = self.log, self.log.open_block
        data = b""
        at_end = True
        if block is not None:
            is_known = block.sequence == self._block_index and self._block_seq >= log.content_since
            length = self._block_length if is_known else NOTHING
            if length == block.length:  # only passing events were missed
                self._seq = max(self._seq, log.open_seq)
            else:
                data = self._take(log.rest_after(self._seq, length))
                at_end = self._block_length == block.length
        self._snapshot = not at_end
        if at_end:
            self._seq = max(self._seq, log.ring.first_seq - 1)
        return data

    async def _stored_page(self) -> list[bytes]:
        horizon = self.log.stored_seq
        blocks = await self._archive.blocks_after(self._seq, from_block=self._from_block, limit=_PAGE_BLOCKS)
        annotations = await self._archive.annotations_after(self._seq, limit=_PAGE_ANNOTATIONS)
        if len(blocks) == _PAGE_BLOCKS:
            horizon = min(horizon, blocks[-1].last_seq)
        if len(annotations) == _PAGE_ANNOTATIONS:
            horizon = min(horizon, annotations[-1].seq)
        events = _in_order(blocks, annotations, horizon)
        self._seq = horizon
        return [self.log.frame(seq, event) for seq, event in events]

    async def _tell_truncated(self) -> bytes:
        """Say that a lost executor had shown more than survived, and from which block on to start anew."""
        blocks_kept = 0
        while page := await self._archive.blocks_after(0, from_block=blocks_kept, limit=_PAGE_BLOCKS):
            kept = [row for row in page if row.last_seq <= self._seq]
            blocks_kept += len(kept)
            if len(kept) < len(page):
                break
        self._lost_generation = False
        self._from_block = min(self._from_block, blocks_kept)
        return self.log.frame(self._seq, self.log.truncated_notice(blocks_kept))


def _in_order(
    blocks: Sequence[StoredBlock], annotations: Sequence[Annotation], horizon: int
) -> list[tuple[int, TurnEvent]]:
    events: list[tuple[int, TurnEvent]] = [(row.last_seq, catchup_of(row.block)) for row in blocks]
    for row in annotations:
        try:
            events.append((row.seq, _decode_event(row.event)))
        except (msgspec.DecodeError, RecursionError) as error:  # one that is lost costs no more than itself
            logger.error("turn %s: event %d cannot be read and is left out: %s", row.turn_id, row.seq, error)
    return sorted(((seq, event) for seq, event in events if seq <= horizon), key=lambda item: item[0])
