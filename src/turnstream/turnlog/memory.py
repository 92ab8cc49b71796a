"""The log of one turn, in this process: numbers events, keeps the recent ones, wakes watchers.

Between awaits, the log and the open block agree: what the open block holds is what the events up to `head` said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from turnstream.core.accumulator import OpenBlock
from turnstream.core.cursor import Cursor
from turnstream.core.turn_events import (
    BlockDelta,
    BlockStart,
    Data,
    Notice,
    Source,
    Terminal,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.turnlog.base import Batch, FrameEncoder
from turnstream.turnlog.ring import DEFAULT_LIMIT, Ring

_CACHED_BATCHES = 8
REST_PIECE = 32 * 1024
"""Characters of one delta to a watcher that catches up within the open block."""


class Fence(NamedTuple):
    """A generation that was lost, and the last seq of it that survived."""

    generation: int
    seq: int


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
        self.plain_since = 0
        """The last event that is not a text delta: after it there is only more text of the open block."""
        self._batches: dict[int, Batch] = {}
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def head(self) -> int:
        """The seq of the newest event."""
        return self.ring.last_seq

    @property
    def head_cursor(self) -> Cursor:
        return Cursor(self.generation, self.ring.last_seq)

    @property
    def watchers_waiting(self) -> int:
        return len(self._waiters)

    def append(self, events: Sequence[TurnEvent]) -> None:
        """Number the events, and wake whoever waits. The terminal event is the last ever."""
        if not events:
            return
        if self.terminal is not None:
            raise RuntimeError(f"turn {self.turn_id} has ended: nothing may follow its terminal event")
        seq = self.ring.last_seq
        for event in events:
            seq += 1
            if type(event) is not BlockDelta or event.field not in ("text", "partial_json"):
                self._note(seq, event)
        self.ring.append(events)
        self._batches.clear()
        if self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    def _note(self, seq: int, event: TurnEvent) -> None:
        self.plain_since = seq
        if isinstance(event, BlockStart):
            self.open_first_seq = seq
        elif isinstance(event, TurnStart):
            self.start = (seq, event)
        elif isinstance(event, TurnComplete | TurnError | TurnCancelled):
            self.terminal = (seq, event)

    def is_exact(self, seq: int) -> bool:
        """Whether a client whose last event is `seq` surely has all that came before it. Not so at a lasting event in
        the middle of a block: a catch-up sends it before the block."""
        event = self.ring.event_at(seq)
        return seq == 0 or (event is not None and not isinstance(event, Notice | Source | Data))

    def batch_after(self, seq: int) -> Batch:
        """Everything after `seq`, which the ring must cover; made once for all watchers at that cursor."""
        batch = self._batches.get(seq)
        if batch is None:
            block = self.open_block
            index, length = (block.sequence, block.length) if block is not None else (-1, 0)
            batch = Batch(self.ring.encode_after(seq), self.ring.last_seq, index, length)
            self._remember(seq, batch)
        return batch

    def rest_after(self, seq: int, length: int) -> Batch:
        """For a watcher that fell off the ring with `length` characters of the open block: more of it as one delta.

        Sound only where nothing but text of the open block came after `seq` (`plain_since`). A piece that does not
        reach the head keeps the watcher's own cursor as its id: an id never passes what has not been sent.
        """
        key = -length - 1
        batch = self._batches.get(key)
        block = self.open_block
        if batch is None and block is not None:
            text = block.text()[length : length + REST_PIECE]
            reached = length + len(text)
            at = self.head if reached == block.length else seq
            delta = BlockDelta(block.sequence, block.block_type, block.field, text)
            batch = Batch(self.encoder.frame(at, delta), at, block.sequence, reached)
            if at == self.head:
                self._remember(key, batch)
        if batch is None:
            raise RuntimeError("no block is open")
        return batch

    def _remember(self, key: int, batch: Batch) -> None:
        if len(self._batches) >= _CACHED_BATCHES:
            self._batches.clear()
        self._batches[key] = batch

    def add_waiter(self, waiter: asyncio.Future[None]) -> None:
        """`waiter` gets its result when something is appended."""
        self._waiters.add(waiter)

    def discard_waiter(self, waiter: asyncio.Future[None]) -> None:
        self._waiters.discard(waiter)

    def frame(self, seq: int, event: TurnEvent) -> bytes:
        return self.encoder.frame(seq, event)

    def fence_of(self, generation: int) -> int | None:
        """The last surviving seq of a lost generation of this turn; None for a generation it never had."""
        for fence in self.fences:
            if fence.generation == generation:
                return fence.seq
        return None

    def truncated_notice(self, block_index: int) -> Notice:
        return Notice(
            "truncated",
            "text seen before the connection was lost did not survive: drop blocks from block_index on",
            block_index,
        )
