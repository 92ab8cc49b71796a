"""A watcher's position in a log, and the frames that move it."""

from __future__ import annotations

import sys

import msgspec

from turnstream.turnlog.catch_up import BlockPosition, LargeBlock
from turnstream.turnlog.shared_frames import SharedFrame

NOTHING = -1
"""The `block_index` of a watcher that has no known part of an open block."""
ALL = sys.maxsize
"""The `contents` of a watcher that has all parts of the block's content."""


class WatchPosition(msgspec.Struct, frozen=True, gc=False):
    """The position of one watcher in a log. Watchers that are up to date share one object.

    Attributes:
        generation: The generation that `seq` belongs to.
        seq: The last event that the watcher has, with all earlier events.
        block_index: The open block that the watcher has a part of, or NOTHING.
        length: Characters of that block's text that the watcher has.
        signature: Characters of its signature.
        contents: Number of parts of its content.
        block_seq: The newest event of that block that the watcher has.
        is_behind: True while the watcher catches up, even if the ring has the events after `seq`.
        next_block: The first stored block that the watcher needs. It has the earlier ones.
        reset_seq: The watcher has received all resets up to this event.
        large: The stored block that is being sent in pieces, or None.
        place: The part of `large` that was sent, or None if no part was sent.
    """

    generation: int
    seq: int
    block_index: int = NOTHING
    length: int = 0
    signature: int = 0
    contents: int = ALL
    block_seq: int = 0
    is_behind: bool = False
    next_block: int = 0
    reset_seq: int = 0
    large: LargeBlock | None = None
    place: BlockPosition | None = None


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Frames for all watchers at one position, and the position after them.

    Attributes:
        more: True if the log already has more events.
        held: The frame in `data` if watchers share it, else None.
    """

    data: bytes
    after: WatchPosition
    more: bool = False
    held: SharedFrame | None = None
