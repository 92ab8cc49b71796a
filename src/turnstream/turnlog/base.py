"""The seams around a turn's log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from turnstream.core.turn_events import TurnEvent
from turnstream.store.base import Annotation, StoredBlock


class FrameEncoder(Protocol):
    """Makes the bytes of one event for watchers; a frame is made on first need and serves them all."""

    def frame(self, seq: int, event: TurnEvent) -> bytes: ...


class Archive(Protocol):
    """Where a subscription finds what has left the log: the closed blocks and lasting events of a turn."""

    async def blocks_after(self, seq: int, *, from_block: int, limit: int) -> Sequence[StoredBlock]:
        """Blocks whose last seq is above `seq`, in order, at most `limit`. Raises StoreError."""
        ...

    async def annotations_after(self, seq: int, *, limit: int) -> Sequence[Annotation]: ...


Sink: TypeAlias = Callable[[bytes], bool]
"""Takes frames at once, or answers False and takes nothing: then they have to be waited with."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Frames of everything after some cursor, up to `seq`; shared by all watchers at that cursor.

    `block_index` and `block_length` say how much of the open block the watcher has after it (-1: none is open).
    """

    data: bytes
    seq: int
    block_index: int
    block_length: int
