"""Block indexes for sources that have names of their own for what they build."""

from __future__ import annotations

from collections.abc import Hashable

from turnstream.core.blocks import BlockType, Content
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop


class BlockIndexes:
    """One index for each block of a turn, in the order in which they begin. Holds only those that are open."""

    def __init__(self) -> None:
        self._next = 0
        self._open: dict[Hashable, int] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._open

    def __getitem__(self, key: Hashable) -> int:
        return self._open[key]

    def take(self) -> int:
        """An index for a block that begins and ends at once."""
        index = self._next
        self._next += 1
        return index

    def start(
        self, key: Hashable, block_type: BlockType, content: Content | None = None
    ) -> ContentBlockStart:
        """The block `key` begins."""
        index = self._open[key] = self.take()
        return ContentBlockStart(index, block_type, content)

    def stop(self, key: Hashable) -> ContentBlockStop:
        """The block `key` ends. Raises KeyError where it is not open."""
        return ContentBlockStop(self._open.pop(key))

    def stop_all(self) -> list[ContentBlockStop]:
        """All that are open end."""
        stops = [ContentBlockStop(index) for index in self._open.values()]
        self._open.clear()
        return stops
