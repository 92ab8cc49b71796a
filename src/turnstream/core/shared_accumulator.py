"""An accumulator for several threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from turnstream.core.accumulator import DEFAULT_MAX_LENGTH, Accumulator, CutBlock, Statistics
from turnstream.core.answers import fold_all
from turnstream.core.blocks import Block
from turnstream.core.stream_events import StreamEvent
from turnstream.core.turn_events import BlockDelta, BlockStop, TurnEvent


class SharedAccumulator(Accumulator):
    """An accumulator that several threads may feed. Each call holds its lock.

    Threads call `feed`. The single steps of the base class are for one reader, because steps of two readers
    would interleave.
    """

    def __init__(self, first_sequence: int = 0, *, max_length: int = DEFAULT_MAX_LENGTH) -> None:
        super().__init__(first_sequence, max_length=max_length)
        self._lock = threading.RLock()

    def feed(
        self, events: Sequence[StreamEvent], now: float | None = None
    ) -> tuple[list[TurnEvent], list[Block]]:
        """Fold all `events`. Return the events to show, block_stops included, and the blocks that finished.

        Raises StreamBroken as `fold` does.
        """
        changes: list[TurnEvent] = []
        blocks: list[Block] = []
        with self._lock:
            fold_all(self, events, changes, blocks, now)
        return changes, blocks

    @property
    def statistics(self) -> Statistics:
        with self._lock:
            return super().statistics

    def fold(self, events: Sequence[StreamEvent], position: int = 0, now: float | None = None) -> int:
        with self._lock:
            return super().fold(events, position, now)

    def extend_shown(self, events: Sequence[StreamEvent]) -> list[BlockDelta] | None:
        with self._lock:
            return super().extend_shown(events)

    def take_changes(self) -> list[TurnEvent]:
        with self._lock:
            return super().take_changes()

    def release(self) -> BlockStop:
        with self._lock:
            return super().release()

    def end(self) -> None:
        with self._lock:
            super().end()

    def cut(self) -> tuple[list[TurnEvent], list[CutBlock]]:
        with self._lock:
            return super().cut()
