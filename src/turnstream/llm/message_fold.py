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
        self._taken = 0
        self._unshown: list[TurnEvent] = []

    def begin_call(self) -> None:
        """What is folded from now on is another call's, or what tools answered."""
        self.accumulator = Accumulator(self.accumulator.next_sequence)

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

    @property
    def has_finished(self) -> bool:
        """Whether `take_finished` would give any."""
        return len(self.blocks) > self._taken

    def take_finished(self) -> list[Block]:
        """The blocks that were finished since the last call."""
        finished = self.blocks[self._taken :]
        self._taken = len(self.blocks)
        return finished

    def end_call(self) -> list[TurnEvent]:
        """The call is whole: blocks that were never stopped stop now."""
        self.accumulator.end()
        return self.fold(())

    def cut(self) -> list[TurnEvent]:
        """The call broke off: keep what there is of its blocks."""
        events, cuts = self.accumulator.cut()
        self.blocks.extend(cut.block for cut in cuts)
        return [*self._unshown, *events]

    def resume(self) -> None:
        """The call broke off, and another takes its place: what was shown stays, and can be gone on with."""
        self._unshown = []
        self.accumulator.resume()

    def take_back(self, index: int) -> None:
        """Blocks from `index` on are no more; the next block will be `index`."""
        self.blocks = [block for block in self.blocks if block.sequence < index]
        self._taken = min(self._taken, len(self.blocks))
        self.accumulator.take_back(index)

    def snapshot(self) -> tuple[Block, ...]:
        """All blocks as of now; one that still grows as if it were cut off here (`partial`)."""
        shown = self.accumulator.shown
        if shown is None:
            return tuple(self.blocks)
        return (*self.blocks, shown.finish(partial=self.accumulator.is_cut(shown)))
