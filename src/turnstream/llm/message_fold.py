"""Folds model calls into the blocks of one message. Nothing is stored."""

from __future__ import annotations

from collections.abc import Sequence

from turnstream.core.accumulator import Accumulator
from turnstream.core.answers import fold_all
from turnstream.core.blocks import Block
from turnstream.core.stream_events import StreamEvent
from turnstream.core.turn_events import TurnEvent
from turnstream.errors import StreamBroken


class MessageFold:
    """Folds one call after another.

    Attributes:
        blocks: Finished blocks of all calls.
        accumulator: Holds the other blocks.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.accumulator = Accumulator()
        self._unshown: list[TurnEvent] = []

    def fold(self, events: Sequence[StreamEvent], now: float | None = None) -> list[TurnEvent]:
        """Fold `events`, and return the events that show them.

        Raises StreamBroken, as `Accumulator.fold`. `cut` then returns the events that were folded before.
        """
        changes: list[TurnEvent] = []
        try:
            fold_all(self.accumulator, events, changes, self.blocks, now)
        except StreamBroken:
            self._unshown = changes
            raise
        return changes

    def end_call(self) -> list[TurnEvent]:
        """End a complete call: stop its open blocks. Return the events to show."""
        self.accumulator.end()
        return self.fold(())

    def cut(self) -> list[TurnEvent]:
        """End a call that failed, and keep its open blocks as partial ones. Return the events to show."""
        events, cuts = self.accumulator.cut()
        self.blocks.extend(cut.block for cut in cuts)
        return [*self._unshown, *events]

    def snapshot(self) -> tuple[Block, ...]:
        """Return all blocks so far. A block that still grows is cut off here (`partial`)."""
        shown = self.accumulator.shown
        if shown is None:
            return tuple(self.blocks)
        return (*self.blocks, shown.finish(partial=self.accumulator.is_cut(shown)))
