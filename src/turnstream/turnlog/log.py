"""The log of one turn: numbers events, keeps the recent ones, wakes watchers.

Each verb (method) covers one thing that can happen to a turn, and updates all fields of the log together. So
between awaits:

- the open block holds the content of all its events up to `open_seq`;
- the store holds all closed blocks and durable events up to `stored_seq`;
- no event follows a terminal event, unless another generation takes the turn over.

The owner's log and the log of a mirror, which another node feeds, both use this class.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

from turnstream.core.cursor import ResetRecord
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Terminal,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.turnlog.base import History, LogState
from turnstream.turnlog.open_pieces import SHORT_SIGNATURE
from turnstream.turnlog.ring import Ring
from turnstream.turnlog.view import LogView


class TurnLog(LogView):
    """The ordered, bounded record of one turn.

    Only the turn's owner, or the mirror of the log, calls the verbs.
    """

    def show(self, events: Sequence[TurnEvent], open_block: OpenBlock | None) -> None:
        """Append events, and set the block that is open after them.

        Guarantees: the events get consecutive numbers. No watcher sees the events without the block, or the
        block without the events. Watchers are woken soon, once for several calls. Raises RuntimeError after
        the terminal event.
        """
        if events:
            self._check_open()
            seq = self._ring.last_seq
            for event in events:
                seq += 1
                if type(event) is not BlockDelta or event.field not in ("text", "partial_json"):
                    self._note(seq, event)
            self._ring.append(events)
            self._batches.clear()
            if self._waiters:
                self._wake()
            if self._followers and not self._notifies:
                self._notifies = True
                asyncio.get_running_loop().call_soon(self._notify_followers)
        self._open_block = open_block

    def append(self, events: Sequence[TurnEvent]) -> None:
        """Append events that do not change which block is open. Guarantees: see `show`."""
        self.show(events, self._open_block)

    def grow(self, delta: BlockDelta) -> None:
        """Append more text of the open block. The block holds the text already.

        Nearly all events come this way.

        Guarantees: see `show`. Followers are called before this returns. A caller that appends several
        events at once uses `show`.
        """
        if self._terminal is not None:
            self._check_open()
        self._ring.append((delta,))
        if self._batches:
            self._batches.clear()
        if self._waiters:
            self._wake()
        if self._followers and not self._notifies:
            self._notify_followers()

    def grow_joined(self, delta: BlockDelta, count: int) -> None:
        """Append the text of `count` events of another log as one event with the last number.

        Guarantees: see `grow`. A cursor at one of the other events is not exact: its watcher gets the open
        block again.
        """
        self._check_open()
        self._ring.skip(count - 1)
        self.grow(delta)

    def block_stored(self, stop: BlockStop, open_block: OpenBlock | None) -> None:
        """Append the end of the open block, whose row the store holds with the number of `stop`.

        Guarantees: at every moment each block is in the store or open here. A catch-up finds it in one of the
        two.

        Args:
            open_block: The block that opens next, before any of its events is shown, or None.
        """
        self.show([stop], open_block)
        self._stored_seq = self._ring.last_seq

    def event_stored(self, *events: TurnEvent) -> None:
        """Append durable events, whose rows the store holds with the numbers that the events get here.

        Guarantees: a catch-up sends the events from the store after the ring has evicted them.
        """
        self.show(events, self._open_block)
        self._stored_seq = self._ring.last_seq

    def retracted(self, reset: BlockReset, open_block: OpenBlock | None) -> None:
        """Append a reset, after its blocks are deleted from the store.

        Guarantees: a watcher that may have one of the blocks gets the reset before any later block, even
        after the ring has evicted the reset. A catch-up that begins later has no retracted block. No watcher
        gets more of blocks that the provider withdrew.

        Args:
            open_block: The block that stays open because it comes before the reset, or None.
        """
        if reset.is_withdrawal:
            self._ring.withdraw(reset.block_index)
            self._pieces = None
        self.show([reset], open_block)
        self._stored_seq = self._ring.last_seq

    def ended(self, events: Sequence[TurnEvent], terminal: Terminal) -> None:
        """Append the last events and the terminal event of an end that the store holds.

        Guarantees: the store holds all blocks before a watcher sees the end. No event follows.
        """
        self.show([*events, terminal], None)
        self._stored_seq = self._ring.last_seq - 1

    def ended_unstored(self, events: Sequence[TurnEvent], terminal: Terminal) -> None:
        """Append the terminal event of an end that the store refused.

        Guarantees: the open block stays readable here as it was before the end. No event follows the end.
        """
        head = self._ring.last_seq
        self.show([*events, terminal], self._open_block)
        if self._unstored_from is None:
            self._unstored_from = head

    def end_stored(self) -> None:
        """Note that the end is stored now, or that the turn is deleted. Guarantees: see `ended`."""
        self._open_block = self._unstored_from = None
        self._stored_seq = self._ring.last_seq - 1

    def rebuilt(self, history: History, terminal: Terminal, ring: Ring | None = None) -> None:
        """Fill a new log with a turn whose end is stored.

        Guarantees: watchers get the same blocks and the same end as from the log that wrote the turn.

        Args:
            history: The facts that the turn's row keeps.
            terminal: The terminal event. It is appended if `ring` is None.
            ring: The turn's last events with the terminal event, or None if they are not in memory.
        """
        self._start, self._resets, self._fences = history
        if ring is None:
            self.show([terminal], None)
        else:
            self._ring, self._terminal = ring, (ring.last_seq, terminal)
        self._stored_seq = self._ring.last_seq - 1

    def taken_over(self, state: LogState) -> None:
        """Continue as the log of another owner's generation.

        Guarantees: no number is used twice. A watcher above its generation's fence gets the notice of the
        loss before any later event. Other watchers miss nothing. An end of the old generation is void.

        Raises ValueError if the generation is not newer than this log's.
        """
        if state.generation <= self._generation:
            raise ValueError(f"turn {self.turn_id}: generation {state.generation} is not newer")
        self._generation = state.generation
        self._encoder = self._encoder.of_generation(state.generation)
        self._terminal = self._unstored_from = None
        self._restart(state)

    def skipped_to(self, state: LogState) -> None:
        """Continue after a gap in what a mirror received.

        Guarantees: watchers get the missed blocks from the store, and the open block again.

        Raises ValueError if the state is not ahead of this log, or belongs to another generation.
        """
        if state.generation != self._generation or state.base < self._ring.last_seq:
            raise ValueError(f"turn {self.turn_id}: the state is not ahead of {self.head_cursor}")
        self._check_open()
        self._restart(state)

    def unwatched(self) -> TurnLog:
        """Return a new log without watchers, at the same position. This one gets another writer."""
        return TurnLog(self.turn_id, self.generation, self._encoder, head=self.head)

    def close(self) -> None:
        """Disconnect all watchers. Guarantees: no watcher waits for events that this log will not get."""
        self._closed = True
        self._wake()
        self._notify_followers()

    def count_catch_up(self) -> None:
        """Count a watcher that begins to catch up."""
        self._catch_ups += 1

    def _restart(self, state: LogState) -> None:
        self._start, self._resets, self._fences = state.history
        self._ring.restart(self._encoder, state.base)
        self._open_block, self._open_first_seq = state.open_block, state.open_first_seq
        self._stored_seq, self._content_since = state.stored_seq, state.base
        self._other_seq = state.base
        self._pieces = None
        self._batches.clear()
        self._wake()
        self._notify_followers()

    def _check_open(self) -> None:
        if self._terminal is not None:
            raise RuntimeError(f"turn {self.turn_id} has ended: no event may follow its terminal event")

    def _note(self, seq: int, event: TurnEvent) -> None:
        self._other_seq = seq
        if isinstance(event, BlockStart):
            self._open_first_seq = self._content_since = seq
            if self._first_block_at is None:
                self._first_block_at = monotonic()
        elif isinstance(event, BlockDelta):
            block = self._open_block
            if event.field == "content" or block is None or block.signature_length <= SHORT_SIGNATURE:
                self._content_since = seq
        elif isinstance(event, BlockCatchup):
            # A block that no watcher has seen, from an end that is not stored.

            if self._unstored_from is None:
                self._unstored_from = seq - 1
        elif isinstance(event, BlockReset):
            self._resets = (*self._resets, ResetRecord(seq, event.block_index))
        elif isinstance(event, TurnStart):
            self._start = (seq, event)
        elif isinstance(event, TurnComplete | TurnError | TurnCancelled):
            self._terminal = (seq, event)
