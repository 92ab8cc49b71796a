"""The seams around a turn's log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from turnstream.core.turn_events import TurnEvent
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
