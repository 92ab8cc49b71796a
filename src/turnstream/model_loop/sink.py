"""The seam between the model loop and the destination of its events: a turn's log and store, or memory.

socket ─► take (made by `taker`) ───────────────────────────────────────► watchers, readers
driver ─► show: events, with the block that is open after them ─────────►
       ─► keep: items that must be durable before they are shown ───────►
       ─► wait: the only await that an interrupt can cut short      ready: may more be shown?
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
    UserRedacted,
)
from turnstream.providers.base import Take
from turnstream.telemetry.measures import Histogram

OwnEvent: TypeAlias = Data | Notice | Source | StepStart | StepStop | ToolProgress | UserRedacted
"""Events of a source that do not come from the model."""
Settle: TypeAlias = Callable[[], tuple[TurnEvent, OpenBlock | None]]
Value = TypeVar("Value")


class Progress:
    """Times that show if a source is still active.

    Args:
        last: Time (`time.monotonic`) of the source's last batch, or of the last request to it.
        gaps: Histogram of the seconds between two batches of a stream. May be None.
    """

    __slots__ = ("gaps", "has_begun", "last", "runs_tools")

    def __init__(self, last: float, gaps: Histogram | None = None) -> None:
        self.last = last
        self.gaps = gaps
        self.has_begun = False
        """True once the source has given a batch."""
        self.runs_tools = False
        """True while tools run. Tools have their own deadlines."""


class Sink(Protocol):
    """Takes the events of one turn from its driver, which calls from one task.

    An error that a method raises ends the run. No method may raise ProviderError, because that would count as
    the provider's failure.
    """

    label: str
    """Name of the turn in log lines, such as `turn 0190…`."""
    progress: Progress
    """Signs of life, written by the driver and by `take`."""

    @property
    def is_ready(self) -> bool:
        """True if events may be shown now. The driver reads it before each batch."""
        ...

    async def ready(self) -> None:
        """Wait until events may be shown: rows are committed, the lease is held, there is room.

        Raises if they never will be shown.
        """
        ...

    def taker(self, accumulator: Accumulator, step: int | None) -> Take:
        """Return the function that takes what a stream pushes. Called once per opened stream, before reading.

        The function folds a batch that only adds text to the open block, and shows it. It returns False, and
        does nothing, for any other batch. The socket calls it: no driver code runs between socket and frame.

        Args:
            accumulator: Folds the stream.
            step: Number of the step whose model answers. None for the results of tools.
        """
        ...

    def show(self, events: Sequence[TurnEvent], open_block: OpenBlock | None) -> None:
        """Show events, together with the block that is open after them.

        Called at least once per batch, even if there is nothing to show.
        """
        ...

    async def keep(self, item: Block | BlockReset | OwnEvent, settle: Settle) -> None:
        """Store `item` if it must be durable: a complete block, a reset, or an event of the source's own.

        Then call `settle`, and show its result, without an await between the two. An interrupt does not cut
        this call short.
        """
        ...

    def wait(self, waiting: Awaitable[Value]) -> Awaitable[Value]:
        """Return the awaitable that the driver awaits for `waiting`.

        An interrupt can cut only this await short. The driver completes all others.
        """
        ...
