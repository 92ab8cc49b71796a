"""Interfaces that a turn's log uses, and the facts that a log is made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from turnstream.core.cursor import Fence, ResetRecord
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import TurnEvent, TurnStart


class FrameEncoder(Protocol):
    """Encodes the events of one generation of a turn as frames.

    A frame is encoded when a watcher first needs it, and serves all watchers.
    """

    def frame(self, seq: int, event: TurnEvent) -> bytes:
        """Return the bytes of one event."""
        ...

    def events(self, frames: bytes) -> list[tuple[int, TurnEvent]]:
        """Return the events of whole frames that `frame` made, with their seqs."""
        ...

    def of_generation(self, generation: int) -> FrameEncoder:
        """Return a new encoder of the same turn for `generation`. Threads do not share an encoder."""
        ...


class DialectEncoder(Protocol):
    """Encodes the events of a turn in a dialect whose frames depend on earlier events.

    The encoder holds no state. The caller passes the state at a cursor. States are immutable and compare by
    value.
    """

    name: str
    """Name of the dialect. Frames are shared by name."""

    def begin(self) -> object:
        """Return the state before a turn's first event."""
        ...

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        """Return the bytes of one event, which may be empty, and the state after the event.

        A `block_catchup` of the block that is open in `state` holds only the text that follows, and the whole
        content. Any other begins its block.
        """
        ...

    def is_settled(self, state: object) -> bool:
        """Return True if there is nothing to send before the next event comes."""
        ...

    def settle(self, state: object) -> tuple[bytes, object]:
        """Return the bytes that follow the newest event, and the state after them.

        It is called after the newest event if `is_settled` returns False. Here a dialect sends the snapshot
        that it made of a catch-up's events, and ends the stream of a turn that waits for its client.
        """
        ...

    def needs_replay(self, state: object) -> bool:
        """Return True if the encoder needs the turn's events again, from the first one on.

        A dialect asks for them after text was retracted, to send a snapshot.
        """
        ...

    def is_over(self, state: object) -> bool:
        """Return True if the stream has ended in this dialect: nothing may follow."""
        ...


class DialectBatch(msgspec.Struct, frozen=True, gc=False):
    """Frames in a dialect up to the event `seq`, and the encoder's state after that event."""

    data: bytes
    seq: int
    state: object


Sink: TypeAlias = Callable[[bytes], bool]
"""Function that accepts frames at once and returns True, or returns False and accepts nothing."""


class History(NamedTuple):
    """The facts of a turn that its row keeps.

    Attributes:
        start: The turn's first event with its seq, or None.
        resets: The turn's block resets, in order.
        fences: The generations that were lost.
    """

    start: tuple[int, TurnStart] | None
    resets: tuple[ResetRecord, ...] = ()
    fences: tuple[Fence, ...] = ()


class LogState(NamedTuple):
    """The state from which a log continues without the events before it.

    Attributes:
        generation: The owner's generation.
        base: The last seq that the log skips. The next event is `base + 1`.
        history: The turn's first event, its resets, and all lost generations.
        stored_seq: The last seq that the store holds.
        open_block: The open block, with the content that survived, or None.
        open_first_seq: The seq of that block's first event.
    """

    generation: int
    base: int
    history: History
    stored_seq: int
    open_block: OpenBlock | None = None
    open_first_seq: int = 0
