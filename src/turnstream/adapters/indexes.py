"""Block indexes for sources that name their blocks differently."""

from __future__ import annotations

from collections.abc import Hashable

from turnstream.core.blocks import BlockType, Content
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop


class BlockIndexes:
    """Assigns an index to each block of a turn, in order of their starts. Keeps only open blocks."""

    def __init__(self) -> None:
        self._next = 0
        self._open: dict[Hashable, int] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._open

    def __getitem__(self, key: Hashable) -> int:
        return self._open[key]

    def take(self) -> int:
        """Return an index for a block that starts and stops at once."""
        index = self._next
        self._next += 1
        return index

    def start(
        self, key: Hashable, block_type: BlockType, content: Content | None = None
    ) -> ContentBlockStart:
        """Start the block `key`."""
        index = self._open[key] = self.take()
        return ContentBlockStart(index, block_type, content)

    def stop(self, key: Hashable) -> ContentBlockStop:
        """Stop the block `key`. Raises KeyError if it is not open."""
        return ContentBlockStop(self._open.pop(key))

    def stop_all(self) -> list[ContentBlockStop]:
        """Stop all open blocks."""
        stops = [ContentBlockStop(index) for index in self._open.values()]
        self._open.clear()
        return stops
