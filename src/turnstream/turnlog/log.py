"""The log of one turn: numbers events, keeps the recent ones, wakes watchers.

A verb for each thing that happens to a turn keeps the log's fields in step. So between awaits they agree:

- the open block holds what the events up to `open_seq` say of it;
- the store holds all closed blocks and lasting events up to `stored_seq`;
- nothing follows a terminal event, unless another generation takes the turn over.

The owner's log and the log of a mirror, which another node feeds, are of this one class.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

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
from turnstream.turnlog.base import History, LogState, ResetRecord
from turnstream.turnlog.open_pieces import SHORT_SIGNATURE
from turnstream.turnlog.ring import Ring
from turnstream.turnlog.view import LogView


class TurnLog(LogView):
    """The ordered, bounded record of one turn. Only its owner, or the feed of its mirror, uses the verbs."""

    def show(self, events: Sequence[TurnEvent], open_block: OpenBlock | None) -> None:
        """Append changes together with the block that is open after them.

        Guarantees: the events get consecutive numbers. No watcher sees them without the block, or the block without
        them. Watchers are woken soon, once for several calls. Raise RuntimeError after the terminal event.
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
            if self._followers and not self._telling:
                self._telling = True
                asyncio.get_running_loop().call_soon(self._tell_followers)
        self._open_block = open_block

    def append(self, events: Sequence[TurnEvent]) -> None:
        """Append events that do not change which block is open. Guarantees: see `show`."""
        self.show(events, self._open_block)

    def grow(self, delta: BlockDelta) -> None:
        """Append more text of the open block, which holds it already. Nearly all events come this way.

        Guarantees: see `show`. Followers are called before this returns: use it if nothing else is about to be
        appended.
        """
        if self._terminal is not None:
            self._check_open()
        self._ring.append((delta,))
        if self._batches:
            self._batches.clear()
        if self._waiters:
            self._wake()
        if self._followers and not self._telling:
            self._tell_followers()

    def grow_joined(self, delta: BlockDelta, count: int) -> None:
        """Append text of the open block that `count` events of another log said, as one event with the last's number.

        Guarantees: see `grow`. A cursor of one of the others is not exact: its watcher gets the open block anew.
        """
        self._check_open()
        self._ring.pass_over(count - 1)
        self.grow(delta)

    def block_stored(self, stop: BlockStop, open_block: OpenBlock | None) -> None:
        """Append the end of the open block, whose row is in the store with the number of `stop`.

        Guarantees: each block is in the store, or open here, at every moment. A catch-up finds it in one of the two.

        Args:
            open_block: The block that is open next, before any of its events is shown; or None.
        """
        self.show([stop], open_block)
        self._stored_seq = self._ring.last_seq

    def event_stored(self, event: TurnEvent) -> None:
        """Append a lasting event, whose row is in the store with the number that it gets here.

        Guarantees: a catch-up sends it from the store after the ring has evicted it.
        """
        self.show([event], self._open_block)
        self._stored_seq = self._ring.last_seq

    def retracted(self, reset: BlockReset, open_block: OpenBlock | None) -> None:
        """Append a reset, whose blocks are deleted from the store.

        Guarantees: a watcher that may have one of the blocks gets the reset before any later block, even after the
        ring has evicted it.

        Args:
            open_block: The block that is open still, if it comes before the reset; or None.
        """
        self.show([reset], open_block)

    def ended(self, events: Sequence[TurnEvent], terminal: Terminal) -> None:
        """Append the last events and the terminal event of an end that is stored.

        Guarantees: all blocks are in the store before a watcher sees the end. Nothing follows it.
        """
        self.show([*events, terminal], None)
        self._stored_seq = self._ring.last_seq - 1

    def ended_unstored(self, events: Sequence[TurnEvent], terminal: Terminal) -> None:
        """Append the terminal event of an end that storage refused.

        Guarantees: the open block stays readable here, with what it held before the end. Nothing follows the end.
        """
        head = self._ring.last_seq
        self.show([*events, terminal], self._open_block)
        if self._unstored_from is None:
            self._unstored_from = head

    def end_stored(self) -> None:
        """Note that the end is stored after all, or that its turn is gone. Guarantees: see `ended`."""
        self._open_block = self._unstored_from = None
        self._stored_seq = self._ring.last_seq - 1

    def rebuilt(self, history: History, terminal: Terminal, ring: Ring | None = None) -> None:
        """Make a new log the log of a turn whose end is stored.

        Guarantees: watchers get the same blocks and the same end as from the log that wrote the turn.

        Args:
            history: The facts that the turn's row keeps.
            terminal: The terminal event. It is appended, unless a ring holds it.
            ring: The turn's last events, the terminal event included; or None if they are gone.
        """
        self._start, self._resets, self._fences = history
        if ring is None:
            self.show([terminal], None)
        else:
            self._ring, self._terminal = ring, (ring.last_seq, terminal)
        self._stored_seq = self._ring.last_seq - 1

    def taken_over(self, state: LogState) -> None:
        """Continue as the log of another owner's generation.

        Guarantees: no number is given twice. A watcher above its generation's fence is told that text is gone before
        it gets any later event; others miss nothing. An end of the old generation is void.

        Raise ValueError if the generation is not newer than this log's.
        """
        if state.generation <= self._generation:
            raise ValueError(f"turn {self.turn_id}: generation {state.generation} is not newer")
        self._generation = state.generation
        self._encoder = self._encoder.of_generation(state.generation)
        self._terminal = self._unstored_from = None
        self._restart(state)

    def moved_on(self, state: LogState) -> None:
        """Continue beyond a gap in what a mirror was fed.

        Guarantees: watchers get what they missed from the store, and the open block anew.

        Raise ValueError if the state is not ahead of this log, or is of another generation.
        """
        if state.generation != self._generation or state.base < self._ring.last_seq:
            raise ValueError(f"turn {self.turn_id}: the state is not ahead of {self.head_cursor}")
        self._check_open()
        self._restart(state)

    def close(self) -> None:
        """Send the watchers away. Guarantees: no watcher waits for events that this log will not get."""
        self._closed = True
        self._wake()
        self._tell_followers()

    def count_catch_up(self) -> None:
        """Count a watcher that begins to be caught up."""
        self._catch_ups += 1

    def _restart(self, state: LogState) -> None:
        self._start, self._resets, self._fences = state.history
        self._ring.restart(self._encoder, state.base)
        self._open_block, self._open_first_seq = state.open_block, state.open_first_seq
        self._stored_seq, self._content_since = state.stored_seq, state.base
        self._pieces = None
        self._batches.clear()
        self._wake()
        self._tell_followers()

    def _check_open(self) -> None:
        if self._terminal is not None:
            raise RuntimeError(f"turn {self.turn_id} has ended: nothing may follow its terminal event")

    def _note(self, seq: int, event: TurnEvent) -> None:
        if isinstance(event, BlockStart):
            self._open_first_seq = self._content_since = seq
            if self._first_block_at is None:
                self._first_block_at = monotonic()
        elif isinstance(event, BlockDelta):
            block = self._open_block
            if event.field == "content" or block is None or block.signature_length <= SHORT_SIGNATURE:
                self._content_since = seq
        elif isinstance(
            event, BlockCatchup
        ):  # a block that no watcher has seen, of an end that is not stored
            if self._unstored_from is None:
                self._unstored_from = seq - 1
        elif isinstance(event, BlockReset):
            self._resets = (*self._resets, ResetRecord(seq, event.block_index))
        elif isinstance(event, TurnStart):
            self._start = (seq, event)
        elif isinstance(event, TurnComplete | TurnError | TurnCancelled):
            self._terminal = (seq, event)
