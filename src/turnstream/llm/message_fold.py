"""Model calls folded to the blocks of one message: the accumulator's loop for a reader that keeps everything."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block
from turnstream.core.stream_events import StreamEvent
from turnstream.core.turn_events import TurnEvent
from turnstream.errors import StreamBroken

logger = logging.getLogger(__name__)


class MessageFold:
    """Folds one call after another; `blocks` are those that are finished, of all calls, `accumulator` has the rest."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.accumulator = Accumulator()
        self._unshown: list[TurnEvent] = []

    def fold(self, events: Sequence[StreamEvent], now: float | None = None) -> list[TurnEvent]:
        """Fold all of `events`: what to show for them. Raises StreamBroken, as `Accumulator.fold`; what was folded before
        is then shown by `cut`."""
        accumulator = self.accumulator
        changes: list[TurnEvent] = []
        position = 0
        try:
            while True:
                position = accumulator.fold(events, position, now)
                changes += accumulator.take_changes()
                if accumulator.finished is None:
                    return changes
                block = accumulator.finished
                logger.debug("block %d (%s) is whole", block.sequence, block.block_type)
                self.blocks.append(block)
                changes.append(accumulator.release())
        except StreamBroken:
            self._unshown = changes
            raise

    def end_call(self) -> list[TurnEvent]:
        """The call is whole: blocks that were never stopped stop now."""
        self.accumulator.end()
        return self.fold(())

    def cut(self) -> list[TurnEvent]:
        """The call broke off: keep what there is of its blocks."""
        events, cuts = self.accumulator.cut()
        self.blocks.extend(cut.block for cut in cuts)
        return [*self._unshown, *events]

    def snapshot(self) -> tuple[Block, ...]:
        """All blocks as of now; one that still grows as if it were cut off here (`partial`)."""
        shown = self.accumulator.shown
        if shown is None:
            return tuple(self.blocks)
        return (*self.blocks, shown.finish(partial=self.accumulator.is_cut(shown)))
