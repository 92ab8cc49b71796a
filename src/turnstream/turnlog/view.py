"""The read side of a turn's log: its state, the events after a cursor, and wake-ups for new events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Final, TypeAlias

from turnstream.core.cursor import Cursor, Fence, ResetRecord
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import BlockReset, Notice, Terminal, TurnEvent, TurnStart
from turnstream.turnlog.base import DialectBatch, DialectEncoder, FrameEncoder, History
from turnstream.turnlog.open_pieces import OpenPieces
from turnstream.turnlog.position import ALL, Batch, WatchPosition
from turnstream.turnlog.ring import DEFAULT_LIMIT, Ring

logger = logging.getLogger(__name__)

_CACHED_BATCHES = 8
"""Batches that a log caches at most."""
_Key: TypeAlias = "int | tuple[int, int, int, int]"
"""A cursor in the ring, or the open block's index with the part of the block that a watcher has."""
NO_BATCH = Batch(b"", WatchPosition(0, 0))
"""The batch of a watcher that has all events."""
REST_PIECE = 16 * 1024
"""Characters of the open block that a watcher gets at a time while it catches up."""
BATCH_LIMIT = 64 * 1024
"""Bytes of recent events that a watcher gets at a time, as the ring estimates them."""


class LogView:
    """The ordered, bounded record of one turn, as its watchers read it. Only `TurnLog` changes it."""

    def __init__(
        self,
        turn_id: str,
        generation: int,
        encoder: FrameEncoder,
        *,
        head: int = 0,
        ring_limit: int = DEFAULT_LIMIT,
    ) -> None:
        self.turn_id: Final = turn_id
        self.made_at: Final = monotonic()
        self._generation = generation
        self._encoder = encoder
        self._fences: tuple[Fence, ...] = ()
        self._resets: tuple[ResetRecord, ...] = ()
        self._ring = Ring(encoder, last_seq=head, limit=ring_limit)
        self._start: tuple[int, TurnStart] | None = None
        self._terminal: tuple[int, Terminal] | None = None
        self._open_block: OpenBlock | None = None
        self._open_first_seq = 0
        self._unstored_from: int | None = None
        """The last seq that the open block holds if the end could not be stored, else None."""
        self._stored_seq = 0
        self._content_since = 0
        self._other_seq = 0
        self._pieces: OpenPieces | None = None
        self._first_block_at: float | None = None
        self._catch_ups = 0
        self._batches: dict[_Key, Batch] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._followers: set[Callable[[], None]] = set()
        self._notifies = False
        self._closed = False

    # -- the state -------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Generation that numbers the events now."""
        return self._generation

    @property
    def encoder(self) -> FrameEncoder:
        """Encoder of this generation's frames."""
        return self._encoder

    @property
    def ring(self) -> Ring:
        """Recent events."""
        return self._ring

    @property
    def head(self) -> int:
        """Seq of the newest event."""
        return self._ring.last_seq

    @property
    def first_seq(self) -> int:
        """Seq of the oldest event in the ring."""
        return self._ring.first_seq

    @property
    def head_cursor(self) -> Cursor:
        """Cursor of the newest event."""
        return Cursor(self._generation, self._ring.last_seq)

    @property
    def start(self) -> tuple[int, TurnStart] | None:
        """The turn's first event with its seq, or None if it has not come."""
        return self._start

    @property
    def terminal(self) -> tuple[int, Terminal] | None:
        """The turn's terminal event with its seq, or None if it has not come."""
        return self._terminal

    @property
    def open_block(self) -> OpenBlock | None:
        """Block being shown, or None."""
        return self._open_block

    @property
    def open_first_seq(self) -> int:
        """Seq of the open block's first event."""
        return self._open_first_seq

    @property
    def open_state(self) -> tuple[OpenBlock | None, int, int, int]:
        """Open block, seq of its first event, seq of its last content change, and head."""
        return self._open_block, self._open_first_seq, self._content_since, self._ring.last_seq

    @property
    def open_seq(self) -> int:
        """Last seq that the open block holds."""
        return self._ring.last_seq if self._unstored_from is None else self._unstored_from

    @property
    def content_since(self) -> int:
        """Seq of the last event that gave the open block more than text or a part of a long signature."""
        return self._content_since

    @property
    def other_seq(self) -> int:
        """Seq of the last event that brought more than text of the open block."""
        return self._other_seq

    @property
    def stored_seq(self) -> int:
        """Seq of the last closed block or durable event in the store. The store holds none above it."""
        return self._stored_seq

    @property
    def fences(self) -> tuple[Fence, ...]:
        """Generations that were lost."""
        return self._fences

    @property
    def resets(self) -> tuple[ResetRecord, ...]:
        """Resets of blocks, in order."""
        return self._resets

    @property
    def history(self) -> History:
        """The facts of the turn that its row keeps."""
        return History(self._start, self._resets, self._fences)

    @property
    def closed(self) -> bool:
        """True if the turn has no writer. Watchers are disconnected, and get the end when they reconnect."""
        return self._closed

    @property
    def first_block_at(self) -> float | None:
        """Time at which the first block began, on the monotonic clock, or None."""
        return self._first_block_at

    @property
    def catch_ups(self) -> int:
        """Number of catch-ups that watchers have begun."""
        return self._catch_ups

    @property
    def watchers_waiting(self) -> int:
        """Number of watchers that wait for the next event."""
        return len(self._waiters) + len(self._followers)

    # -- watchers --------------------------------------------------------------------------------------------

    def is_exact(self, seq: int) -> bool:
        """Return True if a client at `seq` certainly has all earlier events. See `Ring.is_exact`."""
        return seq == 0 or self._ring.is_exact(seq)

    def covers(self, seq: int) -> bool:
        """Return True if the ring has all events after `seq`."""
        return self._ring.covers(seq)

    def live_batch(self, position: WatchPosition) -> Batch | None:
        """Return the events after the position of a waiting watcher: a shortcut for `decide`.

        Return NO_BATCH if there are none yet. Return None if a decision is needed: the turn has ended,
        another generation has begun, or the ring has evicted the next event.
        """
        ring, seq = self._ring, position.seq
        if self._terminal is not None or self._closed or ring.first_seq > seq + 1:
            return None
        if position.generation != self._generation:
            return None
        if ring.last_seq <= seq:
            return NO_BATCH
        return self._batches.get(seq) or self._make_batch(seq)

    def batch_after(self, seq: int) -> Batch:
        """Return the events after `seq`, which the ring must cover. Large events: only the first of them.

        All watchers at that cursor share the batch.
        """
        return self._batches.get(seq) or self._make_batch(seq)

    def _make_batch(self, seq: int) -> Batch:
        ring = self._ring
        last = ring.last_seq
        if ring.size > BATCH_LIMIT and (end := ring.within(seq, BATCH_LIMIT)) < last:
            batch = Batch(ring.encode_after(seq, end), WatchPosition(self._generation, end), more=True)
        else:
            batch = Batch(ring.encode_after(seq), self.position_at_head())
        if len(self._batches) >= _CACHED_BATCHES:
            self._batches.clear()
        self._batches[seq] = batch
        return batch

    def position_at_head(self) -> WatchPosition:
        """Return the position of a watcher that has all events."""
        block, generation, last = self._open_block, self._generation, self._ring.last_seq
        if block is None:
            return WatchPosition(generation, last)
        index, signature = block.sequence, block.signature_length
        return WatchPosition(generation, last, index, block.length, signature, ALL, last, next_block=index)

    def rest_after(self, position: WatchPosition) -> Batch:
        """Return the open block's next piece after `position`, or its first piece if `position` is before it.

        A piece that does not reach the end keeps the watcher's own cursor as its id, because an id never
        passes an event that has not been sent. So a slow watcher has one piece in memory, and gets nothing
        twice.

        Raises RuntimeError if no block is open.
        """
        block = self._open_block
        if block is None:
            raise RuntimeError("no block is open")
        key = (position.block_index, position.length, position.signature, position.contents)
        batch = self._batches.get(key)
        if batch is None or batch.after.seq < position.seq:
            end = max(self.open_seq, position.seq)
            pieces = self._pieces = self._pieces or OpenPieces(self.turn_id, self._encoder, REST_PIECE)
            batch = pieces.piece(block, self._content_since, position, end)
            if not batch.after.is_behind and batch.held is None:
                if len(self._batches) >= _CACHED_BATCHES:
                    self._batches.clear()
                self._batches[key] = batch
        return batch

    def dialect_state(self, encoder: DialectEncoder, seq: int) -> object | None:
        """Return the state of a dialect's encoder after `seq`, or None if it is not kept."""
        return encoder.begin() if seq == 0 else self._ring.state_after(encoder, seq)

    def dialect_batch(self, encoder: DialectEncoder, seq: int, state: object) -> DialectBatch | None:
        """Return the events after `seq`, which the ring must cover, in another dialect than the log's own.

        Return None if the ring holds only frames, as the ring of an ended turn does. Then the caller reads
        the turn from the store.

        Args:
            state: The encoder's state after `seq`.
        """
        ring = self._ring
        last = ring.last_seq
        if seq >= last:
            return DialectBatch(b"", seq, state)
        end = last if ring.size <= BATCH_LIMIT else ring.within(seq, BATCH_LIMIT)
        return ring.encode_in(encoder, state, seq, end)

    def live_batch_in(
        self, encoder: DialectEncoder, position: WatchPosition, state: object
    ) -> DialectBatch | None:
        """Return the events after the position of a waiting watcher, in another dialect. See `live_batch`.

        The batch ends at the position if there are no events yet.
        """
        ring, seq = self._ring, position.seq
        if self._terminal is not None or self._closed or ring.first_seq > seq + 1:
            return None
        if position.generation != self._generation or (position.is_behind and ring.last_seq > seq):
            return None
        return self.dialect_batch(encoder, seq, state)

    def add_waiter(self, waiter: asyncio.Future[None]) -> None:
        """Set the result of `waiter` when something is appended."""
        self._waiters.add(waiter)

    def discard_waiter(self, waiter: asyncio.Future[None]) -> None:
        """Remove a waiter, if it is still there."""
        self._waiters.discard(waiter)

    def add_follower(self, follower: Callable[[], None]) -> None:
        """Call `follower` after each append, once for appends that come together. It must not raise."""
        self._followers.add(follower)

    def discard_follower(self, follower: Callable[[], None]) -> None:
        """Remove a follower, if it is still there."""
        self._followers.discard(follower)

    def _notify_followers(self) -> None:
        self._notifies = False
        for follower in tuple(self._followers):
            try:
                follower()
            except Exception:
                logger.exception("turn %s: a watcher could not be notified", self.turn_id)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def frame(self, seq: int, event: TurnEvent) -> bytes:
        """Return the frame of an event, encoded for this generation."""
        return self._encoder.frame(seq, event)

    def fence_of(self, generation: int) -> int | None:
        """Return the last seq of a lost generation that survived, or None for an unknown generation."""
        for fence in self._fences:
            if fence.generation == generation:
                return fence.seq
        return None

    def reset_since(self, seq: int) -> BlockReset | None:
        """Return the reset that a watcher at `seq` must apply, or None."""
        indexes = [reset.block_index for reset in self._resets if reset.seq > seq]
        return BlockReset(min(indexes)) if indexes else None

    def truncated_notice(self, block_index: int) -> Notice:
        """Return the notice that blocks from `block_index` on are gone."""
        return Notice(
            "truncated",
            "text seen before the connection was lost may not have survived: drop blocks from block_index on",
            block_index,
        )
