"""The seams around a turn's log, and the facts that a log is made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import TurnEvent, TurnStart


class FrameEncoder(Protocol):
    """Makes the frames of a turn's events in one generation. A frame is made on first need, and serves all watchers."""

    def frame(self, seq: int, event: TurnEvent) -> bytes:
        """Return the bytes of one event."""
        ...

    def of_generation(self, generation: int) -> FrameEncoder:
        """Return a new encoder of the turn's frames in another generation, or for another thread."""
        ...


class DialectEncoder(Protocol):
    """Makes the frames of a turn's events in a dialect whose frames depend on the events before them.

    The encoder itself remembers nothing: what it has to know is a state at a cursor. States are immutable, and equal by
    value.
    """

    @property
    def name(self) -> str:
        """Name of the dialect. Frames are shared by name."""
        ...

    def begin(self) -> object:
        """Return the state before a turn's first event."""
        ...

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        """Return the bytes of one event, which may be none, and the state after it."""
        ...


class DialectBatch(NamedTuple):
    """Frames in a dialect, up to `seq`, and the encoder's state there."""

    data: bytes
    seq: int
    state: object


Sink: TypeAlias = Callable[[bytes], bool]
"""Takes frames at once, or answers False and takes nothing: then they have to be waited with."""


class Fence(NamedTuple):
    """A generation that was lost, and the last seq of it that survived."""

    generation: int
    seq: int


class ResetRecord(NamedTuple):
    """Blocks from `block_index` on were taken back by the event `seq`."""

    seq: int
    block_index: int


class History(NamedTuple):
    """The facts of a turn that its row keeps: its first event with its seq, its resets, its lost generations."""

    start: tuple[int, TurnStart] | None
    resets: tuple[ResetRecord, ...] = ()
    fences: tuple[Fence, ...] = ()


class LogState(NamedTuple):
    """The state from which a log continues, without the events before it.

    Attributes:
        generation: The owner's generation.
        base: The last seq that is passed over. The next event is `base + 1`.
        history: The turn's first event, its resets, and all lost generations.
        stored_seq: The last seq of what the store holds.
        open_block: The block that is open, with all that survived of it; or None.
        open_first_seq: The seq of that block's first event.
    """

    generation: int
    base: int
    history: History
    stored_seq: int
    open_block: OpenBlock | None = None
    open_first_seq: int = 0
