"""An accumulator for several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from turnstream.core.accumulator import DEFAULT_MAX_LENGTH, Accumulator, Statistics
from turnstream.core.answers import fold_all
from turnstream.core.blocks import Block
from turnstream.core.stream_events import StreamEvent
from turnstream.core.turn_events import TurnEvent

Step = TypeVar("Step", bound=Callable[..., Any])


def _locked(step: Step) -> Step:
    @wraps(step)
    def locked(self: SharedAccumulator, *args: Any, **named: Any) -> Any:
        with self.lock:
            return step(self, *args, **named)

    return cast("Step", locked)


class SharedAccumulator(Accumulator):
    """An accumulator that several threads may feed. Each call holds its lock.

    Threads call `feed`. The single steps of the base class are for one reader, because steps of two readers
    would interleave.
    """

    def __init__(self, first_sequence: int = 0, *, max_length: int = DEFAULT_MAX_LENGTH) -> None:
        super().__init__(first_sequence, max_length=max_length)
        self.lock = threading.RLock()

    @_locked
    def feed(
        self, events: Sequence[StreamEvent], now: float | None = None
    ) -> tuple[list[TurnEvent], list[Block]]:
        """Fold all `events`. Return the events to show, block_stops included, and the blocks that finished.

        Raises StreamBroken as `fold` does.
        """
        changes: list[TurnEvent] = []
        blocks: list[Block] = []
        fold_all(self, events, changes, blocks, now)
        return changes, blocks

    @property
    def statistics(self) -> Statistics:
        with self.lock:
            return super().statistics

    fold = _locked(Accumulator.fold)
    extend_shown = _locked(Accumulator.extend_shown)
    take_changes = _locked(Accumulator.take_changes)
    release = _locked(Accumulator.release)
    end = _locked(Accumulator.end)
    cut = _locked(Accumulator.cut)
