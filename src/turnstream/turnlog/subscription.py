"""A watcher's position in a log: catch-up, then live.

A subscription is a cursor, not a queue. Each call of `next` looks where the cursor stands and takes the first that
applies:

    1. the ring covers it     everything after it, in one piece
    2. else                   catch-up: a block_reset, if blocks were taken back since; closed blocks and lasting events
                              from the store, in pages, large blocks in pieces; then the open block from memory, in
                              pieces, or the rest of it where we know how much was sent; each frame's id is the end of
                              what is complete with it

As nothing is awaited between looking at the log and taking from it, no event can fall between catch-up and live.
"""

from __future__ import annotations

import asyncio
from typing import Any

from turnstream.core.cursor import Cursor
from turnstream.turnlog.base import ALL, Batch, Sink
from turnstream.turnlog.catch_up import Archive, BlockPosition, LargeBlock, next_piece
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.shared import LARGE_FRAME, shared_frames
from turnstream.turnlog.view import NO_BATCH, NOTHING


class Subscription:
    """One watcher of one turn."""

    __slots__ = (
        "_archive",
        "_block_contents",
        "_block_index",
        "_block_length",
        "_block_seq",
        "_block_signature",
        "_catching_up",
        "_closed",
        "_from_block",
        "_held",
        "_large",
        "_lost_generation",
        "_next_block",
        "_place",
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
        self._block_signature = 0
        self._block_contents = ALL
        self._block_seq = 0
        """Of the block that was open at event `_block_seq`, so many characters of its text and of its signature have been
        sent, and so many parts of its content."""
        self._next_block = 0
        """Blocks before it have been sent from the archive, which need not look at them again."""
        self._large: LargeBlock | None = None
        self._place: BlockPosition | None = None
        """The closed block that is being sent in pieces, and how much of it has been sent."""
        self._held: Any = None
        """The frame being sent, if watchers share it: the others find it as long as one of them has it here."""
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
    def needs_catch_up(self) -> bool:
        """Return True if the ring does not have all that follows the cursor."""
        return self._snapshot or not self.log.ring.covers(self._seq)

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
        self._held = None
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
            self.log.count_catch_up()

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
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        batch = self.log.live_batch(self._seq)
        if batch is NO_BATCH:
            return  # what it was called for may have been taken before it waited
        if batch is not None and self._sink is not None and self._sink(batch.data):
            self._pass(batch)
            self._block_seq = batch.seq
            if batch.seq == self.log.head:
                return
        waiter.set_result(None)

    def _take(self, batch: Batch) -> bytes:
        self._pass(batch)
        self._block_seq = self.log.head
        return batch.data

    def _pass(self, batch: Batch) -> None:
        self._seq, self._block_index, self._block_length = batch.seq, batch.block_index, batch.block_length
        self._block_signature, self._block_contents = batch.block_signature, batch.block_contents

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
            self._next_block = min(self._next_block, reset.block_index)
            self._large = None
            return log.frame(self._seq, reset)
        if self._seq < log.stored_seq:
            self._snapshot = True
            if self._large is not None:
                return await self._piece_of(self._large)
            return await self._stored_page()
        return self._from_open_block()

    def _from_open_block(self) -> bytes:
        log, block = self.log, self.log.open_block
        data = b""
        at_end = True
        if block is not None:
            is_known = block.sequence == self._block_index and self._block_seq >= log.content_since
            length = self._block_length if is_known else NOTHING
            signature, contents = self._block_signature, self._block_contents
            if length == block.length and signature == block.signature_length and contents == ALL:
                self._seq = max(self._seq, log.open_seq)  # only passing events were missed
            else:
                batch = log.rest_after(self._seq, length, signature=signature, contents=contents)
                self._held = batch.held
                data = self._take(batch)
                has_all = (
                    self._block_length == block.length and self._block_signature == block.signature_length
                )
                at_end = has_all and self._block_contents == ALL and self._seq >= log.open_seq
        self._snapshot = not at_end
        if at_end:
            self._seq = max(self._seq, log.ring.first_seq - 1)
        return data

    async def _stored_page(self) -> bytes:
        next_block = max(self._next_block, self._from_block)
        horizon = self.log.stored_seq
        page = await self._archive.page_after(self._seq, next_block=next_block, horizon=horizon)
        self._seq, self._next_block = page.seq, page.next_block
        self._large, self._place, self._held = page.large, None, page.held
        return page.data

    async def _piece_of(self, block: LargeBlock) -> bytes:
        """Return the next piece of a closed block; an empty one if the block was taken back."""
        parts = await self._archive.parts_of(block, self._place or BlockPosition(0, 0, 0))
        if parts is None:
            self._large = None
            return b""
        event, place = next_piece(block, self._place, parts)
        if place == self._place:  # the block's end
            self._seq, self._next_block = block.last_seq, block.block_index + 1
            self._large = None
            return self.log.frame(self._seq, event)
        frame = self.log.frame(self._seq, event)
        if len(frame) > LARGE_FRAME:
            key = (self.log.turn_id, block.row_id, self._place, self._seq)
            self._held = held = shared_frames.shared(key, frame)
            frame = held.data
        self._place = place
        return frame

    async def _tell_truncated(self) -> bytes:
        """Say that a lost executor had shown more than survived, and from which block on to start anew."""
        blocks_kept = await self._archive.count_until(self._seq)
        self._lost_generation = False
        self._from_block = min(self._from_block, blocks_kept)
        return self.log.frame(self._seq, self.log.truncated_notice(blocks_kept))
