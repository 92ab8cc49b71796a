"""The log of one turn, in this process: numbers events, keeps the recent ones, wakes watchers.

Between awaits, the log and the open block agree: what the open block holds is what the events up to `head` said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from turnstream.core.cursor import Cursor
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import (
    BlockDelta,
    BlockReset,
    BlockStart,
    Notice,
    Terminal,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.turnlog.base import ALL, Batch, FrameEncoder
from turnstream.turnlog.open_pieces import SHORT_SIGNATURE, OpenPieces
from turnstream.turnlog.ring import DEFAULT_LIMIT, Ring

logger = logging.getLogger(__name__)

_CACHED_BATCHES = 8
NOTHING = -1
REST_PIECE = 16 * 1024
"""Characters of the open block that a watcher who catches up gets at a time."""
BATCH_LIMIT = 64 * 1024
"""Bytes of recent events that a watcher gets at a time, as the ring estimates them."""


class Fence(NamedTuple):
    """A generation that was lost, and the last seq of it that survived."""

    generation: int
    seq: int


class ResetRecord(NamedTuple):
    """Blocks from `block_index` on were taken back by the event `seq`."""

    seq: int
    block_index: int


class TurnLog:
    """The ordered, bounded record of one turn. Only the turn's executor appends."""

    def __init__(
        self,
        turn_id: str,
        generation: int,
        encoder: FrameEncoder,
        *,
        head: int = 0,
        ring_limit: int = DEFAULT_LIMIT,
    ) -> None:
        self.turn_id = turn_id
        self.generation = generation
        self.encoder = encoder
        self.fences: tuple[Fence, ...] = ()
        self.resets: tuple[ResetRecord, ...] = ()
        self.ring = Ring(encoder, last_seq=head, limit=ring_limit)
        self.start: tuple[int, TurnStart] | None = None
        self.terminal: tuple[int, Terminal] | None = None
        self.open_block: OpenBlock | None = None
        """The block being shown; the executor keeps it in step with what it appends."""
        self.open_first_seq = 0
        self.unstored_from: int | None = None
        """Where a turn has ended that could not be stored: the last seq that the open block's content goes up to."""
        self.stored_seq = 0
        """The last seq of what the store holds: closed blocks and lasting events. Nothing above it need be looked
        for there."""
        self.content_since = 0
        """The last event that changed the open block in any other way than by more text, or more of a long signature."""
        self._pieces: OpenPieces | None = None
        self.made_at = monotonic()
        self.first_block_at: float | None = None
        self.catch_ups = 0
        """How often a watcher began to be caught up."""
        self._batches: dict[int | tuple[int, int, int], Batch] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._followers: set[Callable[[], None]] = set()
        self._telling = False
        self.closed = False
        """The task that writes the turn is gone: watchers are sent away, and find the end when they come again."""

    @property
    def head(self) -> int:
        """The seq of the newest event."""
        return self.ring.last_seq

    @property
    def head_cursor(self) -> Cursor:
        return Cursor(self.generation, self.ring.last_seq)

    @property
    def open_seq(self) -> int:
        """The last event that what the open block holds goes up to."""
        return self.head if self.unstored_from is None else self.unstored_from

    @property
    def watchers_waiting(self) -> int:
        return len(self._waiters) + len(self._followers)

    def append(self, events: Sequence[TurnEvent]) -> None:
        """Number the events, and wake whoever waits: soon, once for several appends. The terminal event is the last ever."""
        if not events:
            return
        self._check_open()
        seq = self.ring.last_seq
        for event in events:
            seq += 1
            if type(event) is not BlockDelta or event.field not in ("text", "partial_json"):
                self._note(seq, event)
        self.ring.append(events)
        self._batches.clear()
        if self._waiters:
            self._wake()
        if self._followers and not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell_followers)

    def grow(self, delta: BlockDelta) -> None:
        """Append more text of the open block, as `append` does, but call the followers before this returns: for a caller
        who knows that nothing else is about to be appended. Nearly all events come this way."""
        if self.terminal is not None:
            self._check_open()
        self.ring.append_text(delta)
        if self._batches:
            self._batches.clear()
        if self._waiters:
            self._wake()
        if self._followers and not self._telling:
            self._tell_followers()

    def close(self) -> None:
        """Send the watchers away: nothing more comes for them here."""
        self.closed = True
        self._wake()
        self._tell_followers()

    def _check_open(self) -> None:
        if self.terminal is not None:
            raise RuntimeError(f"turn {self.turn_id} has ended: nothing may follow its terminal event")

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _note(self, seq: int, event: TurnEvent) -> None:
        if isinstance(event, BlockStart):
            self.open_first_seq = self.content_since = seq
            if self.first_block_at is None:
                self.first_block_at = monotonic()
        elif isinstance(event, BlockDelta):
            block = self.open_block
            if event.field == "content" or block is None or block.signature_length <= SHORT_SIGNATURE:
                self.content_since = seq
        elif isinstance(event, BlockReset):
            self.resets = (*self.resets, ResetRecord(seq, event.block_index))
        elif isinstance(event, TurnStart):
            self.start = (seq, event)
        elif isinstance(event, TurnComplete | TurnError | TurnCancelled):
            self.terminal = (seq, event)

    def is_exact(self, seq: int) -> bool:
        """As `Ring.is_exact`; nothing comes before the first event."""
        return seq == 0 or self.ring.is_exact(seq)

    def batch_after(self, seq: int) -> Batch:
        """Return what follows `seq`, which the ring must cover: all of it, unless that is large. It is made once for all
        watchers at that cursor."""
        batch = self._batches.get(seq)
        if batch is None:
            ring, block = self.ring, self.open_block
            if ring.size > BATCH_LIMIT and (end := ring.within(seq, BATCH_LIMIT)) < ring.last_seq:
                batch = Batch(ring.encode_after(seq, end), end, NOTHING, 0)
            elif block is not None:
                batch = Batch(
                    ring.encode_after(seq),
                    ring.last_seq,
                    block.sequence,
                    block.length,
                    block.signature_length,
                )
            else:
                batch = Batch(ring.encode_after(seq), ring.last_seq, NOTHING, 0)
            self._remember(seq, batch)
        return batch

    def rest_after(self, seq: int, length: int, *, signature: int = 0, contents: int = ALL) -> Batch:
        """Return more of the open block for a watcher at `seq` that has so much of it; or its beginning, if `length` is
        NOTHING.

        A piece that does not reach the end keeps the watcher's own cursor as its id: an id never passes what has not
        been sent. So a slow watcher has one piece in memory, and gets nothing twice.
        """
        block = self.open_block
        if block is None:
            raise RuntimeError("no block is open")
        key = (length, signature, contents)
        batch = self._batches.get(key)
        if batch is None or batch.seq < seq:
            end = max(self.open_seq, seq)
            place = None if length == NOTHING else (length, signature, contents)
            pieces = self._pieces = self._pieces or OpenPieces(self.turn_id, self.encoder, REST_PIECE)
            batch = pieces.piece(block, self.content_since, place, (seq, end))
            if batch.seq == end and batch.held is None:
                self._remember(key, batch)
        return batch

    def _remember(self, key: int | tuple[int, int, int], batch: Batch) -> None:
        if len(self._batches) >= _CACHED_BATCHES:
            self._batches.clear()
        self._batches[key] = batch

    def add_waiter(self, waiter: asyncio.Future[None]) -> None:
        """`waiter` gets its result when something is appended."""
        self._waiters.add(waiter)

    def discard_waiter(self, waiter: asyncio.Future[None]) -> None:
        self._waiters.discard(waiter)

    def add_follower(self, follower: Callable[[], None]) -> None:
        """`follower` is called after each append; once for several that come together. It must not raise."""
        self._followers.add(follower)

    def discard_follower(self, follower: Callable[[], None]) -> None:
        self._followers.discard(follower)

    def _tell_followers(self) -> None:
        self._telling = False
        for follower in tuple(self._followers):
            try:
                follower()
            except Exception:
                logger.exception("turn %s: a watcher could not be told", self.turn_id)

    def frame(self, seq: int, event: TurnEvent) -> bytes:
        return self.encoder.frame(seq, event)

    def fence_of(self, generation: int) -> int | None:
        """The last surviving seq of a lost generation of this turn; None for a generation it never had."""
        for fence in self.fences:
            if fence.generation == generation:
                return fence.seq
        return None

    def reset_since(self, seq: int) -> BlockReset | None:
        """What of it was taken back that who has seen the events up to `seq` may have; None for nothing."""
        indexes = [reset.block_index for reset in self.resets if reset.seq > seq]
        return BlockReset(min(indexes)) if indexes else None

    def truncated_notice(self, block_index: int) -> Notice:
        return Notice(
            "truncated",
            "text seen before the connection was lost may not have survived: drop blocks from block_index on",
            block_index,
        )
