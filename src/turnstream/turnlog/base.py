"""The seams around a turn's log, and the facts that a log is made from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import TurnEvent, TurnStart
from turnstream.turnlog.shared import SharedFrame

ALL = sys.maxsize
"""The count of a block's parts of content where a watcher has them all."""


class FrameEncoder(Protocol):
    """Makes the bytes of one event for watchers; a frame is made on first need and serves them all."""

    def frame(self, seq: int, event: TurnEvent) -> bytes: ...


Sink: TypeAlias = Callable[[bytes], bool]
"""Takes frames at once, or answers False and takes nothing: then they have to be waited with."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Frames of everything after some cursor, up to `seq`; shared by all watchers at that cursor.

    The rest says how much of the open block the watcher has after it (`block_index` -1: nothing is known): characters of
    its text and of its signature, and parts of its content. `held`: the frame in `data`, if it is shared.
    """

    data: bytes
    seq: int
    block_index: int
    block_length: int
    block_signature: int = 0
    block_contents: int = ALL
    held: SharedFrame | None = None


class Fence(NamedTuple):
    """A generation that was lost, and the last seq of it that survived."""

    generation: int
    seq: int


class ResetRecord(NamedTuple):
    """Blocks from `block_index` on were taken back by the event `seq`."""

    seq: int
    block_index: int


class History(NamedTuple):
    """The facts of an ended turn that its row keeps: its first event with its seq, its resets, its lost generations."""

    start: tuple[int, TurnStart] | None
    resets: tuple[ResetRecord, ...] = ()
    fences: tuple[Fence, ...] = ()


class NewGeneration(NamedTuple):
    """The state with which another owner takes a turn over.

    Attributes:
        generation: The new owner's generation.
        base: The seq that the new generation starts from. Its first event is `base + 1`.
        fences: All lost generations, the one before this among them.
        stored_seq: The last seq of what the store holds.
        open_block: The block that was open and survived, or None.
        open_first_seq: The seq of that block's first event.
    """

    generation: int
    base: int
    fences: tuple[Fence, ...]
    stored_seq: int
    open_block: OpenBlock | None = None
    open_first_seq: int = 0
