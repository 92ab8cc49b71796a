"""A watcher's place in a log, and frames that move it."""

from __future__ import annotations

import sys

import msgspec

from turnstream.turnlog.catch_up import BlockPosition, LargeBlock
from turnstream.turnlog.shared_frames import SharedFrame

NOTHING = -1
"""The index of the open block for a watcher of which nothing is known."""
ALL = sys.maxsize
"""The count of a block's parts of content for a watcher that has them all."""


class WatchPosition(msgspec.Struct, frozen=True, gc=False):
    """The place of one watcher in a log. A watcher that is up to date shares it with others.

    Attributes:
        generation: The generation that gave `seq`.
        seq: The last event that the watcher has, with all before it.
        block_index: The open block of which the watcher has a part, or NOTHING.
        length: Characters of that block's text that the watcher has.
        signature: Characters of its signature.
        contents: Parts of its content.
        block_seq: The event as of which the block was so.
        is_behind: True while the watcher is caught up, although the ring may have what follows `seq`.
        next_block: The first stored block that the watcher needs. Those before it were sent, or the watcher has them.
        reset_seq: The watcher has been told of the resets up to this event.
        large: The stored block that is being sent in pieces, or None.
        place: The part of it that was sent; None if that is nothing.
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

    `more`: True if the log has more already. `held`: the frame in `data`, if watchers share it.
    """

    data: bytes
    after: WatchPosition
    more: bool = False
    held: SharedFrame | None = None
