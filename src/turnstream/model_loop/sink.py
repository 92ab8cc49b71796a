"""The seam between the model loop and what becomes of its events: a turn's log and store, or a stream's memory.

socket ─► take (made by `taker`) ────────────────────────────────────────► watchers, readers
driver ─► show: events, with the block that is open after them ──────────►
       ─► keep: what must be durable first, then shown ──────────────────►
       ─► wait: the only place where an interrupt cuts      ready: may more be shown?
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import (
    BlockReset,
    Data,
    Notice,
    Source,
    StepStart,
    StepStop,
    ToolProgress,
    TurnEvent,
)
from turnstream.providers.base import Take
from turnstream.telemetry.measures import Histogram

OwnEvent: TypeAlias = Data | Notice | Source | StepStart | StepStop | ToolProgress
"""Events that a source gives beside the model's."""
Settle: TypeAlias = Callable[[], tuple[TurnEvent, OpenBlock | None]]
Value = TypeVar("Value")


class Progress:
    """The signs of life of a source.

    Args:
        last: The time (`time.monotonic`) at which the source last gave a batch, or was last asked to.
        gaps: Counts the seconds between two batches of a stream; or None.
    """

    __slots__ = ("gaps", "has_begun", "last", "runs_tools")

    def __init__(self, last: float, gaps: Histogram | None = None) -> None:
        self.last = last
        self.gaps = gaps
        self.has_begun = False
        """True once the source has given a batch."""
        self.runs_tools = False
        """True while tools run. They have deadlines of their own."""


class Sink(Protocol):
    """Takes the events of one turn from its driver, which calls from one task.

    An error that a method raises ends the run. It is never taken for the provider's failure, unless it is a
    ProviderError: no sink may raise that.
    """

    label: str
    """The name of the turn in log lines, such as `turn 0190…`."""
    progress: Progress
    """Written by the driver and by `take`."""

    @property
    def is_ready(self) -> bool:
        """True if events may be shown now. The driver reads it before each batch."""
        ...

    async def ready(self) -> None:
        """Wait until events may be shown: rows are committed, the lease is held, there is room. Raises if that will
        never be."""
        ...

    def taker(self, accumulator: Accumulator, step: int | None) -> Take:
        """Return the function that takes what a stream pushes. Called once per opened stream, before it is read.

        The function folds a batch that only adds text to the open block, and shows it. It returns False, and does
        nothing, for any other batch. The socket calls it: the driver is not called between socket and frame.

        Args:
            accumulator: It folds the stream.
            step: The number of the step whose model answers; None for the results of tools.
        """
        ...

    def show(self, events: Sequence[TurnEvent], open_block: OpenBlock | None) -> None:
        """Show events, together with the block that is open after them. Called at least once per batch, also if there
        is nothing to show."""
        ...

    async def keep(self, item: Block | BlockReset | OwnEvent, settle: Settle) -> None:
        """Make `item` durable if it is to last: a whole block, a reset, an event of the source's own. Then call
        `settle`, and show what it returns, all without an await. An interrupt does not cut it short."""
        ...

    def wait(self, waiting: Awaitable[Value]) -> Awaitable[Value]:
        """Return `waiting` as the driver is to await it. It is the only place where an interrupt cuts: what else the
        driver awaits is finished."""
        ...
