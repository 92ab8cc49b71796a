"""The interface between nodes: a turn's owner publishes what its log gains, and mirrors follow.

    owner's log ─► items_after ─► Feed.publish  …  Feed.follow ─► mirror ─► the mirror's log ─► its watchers

Each entry names the event that it follows. So a mirror skips entries that it has, and detects a gap. A
snapshot follows no event: it closes a gap, or begins a new generation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from turnstream.core.cursor import Cursor
from turnstream.errors import Fenced
from turnstream.store.journal.items import FeedItem, item_length

KEPT_ENTRIES = 1024
"""Entries of one turn that a feed in this process keeps for later mirrors."""
KEPT_LENGTH = 256 * 1024
"""Characters of text in the kept entries of one turn."""
KEPT_TURNS = 1024
"""Ended turns whose entries are kept."""


class Feed(Protocol):
    """Streams of log entries, one stream per turn. Followers may be in other processes."""

    async def publish(self, turn_id: str, items: Sequence[FeedItem]) -> None:
        """Append items to the turn's stream.

        Guarantees: followers get the items in order. Items that the stream already has are skipped, so the
        caller may repeat a call whose answer was lost. Raises Fenced for an item that is older than the
        stream's generation.
        """
        ...

    def follow(self, turn_id: str, after: Cursor) -> AsyncGenerator[FeedItem, None]:
        """Yield the stream's items after a cursor, then new items as they are published.

        Guarantees: items come in order and once. Items that are no longer kept are skipped. The next item
        shows the gap. The iterator ends after the terminal event, or when the feed is closed. A slow follower
        delays no other, and uses no memory.
        """
        ...

    async def head(self, turn_id: str) -> Cursor | None:
        """Return the cursor of the last item, or None if the stream is unknown or lost."""
        ...

    async def close(self) -> None:
        """End all followers. Guarantees: nothing is published or followed afterwards."""
        ...


class _Stream:
    """The kept items of one turn. `first` is the number of the oldest item.

    Numbers rise by one and are never reused.
    """

    def __init__(self) -> None:
        self.items: deque[FeedItem] = deque()
        self.first = 0
        self.length = 0
        self.head: Cursor | None = None
        self.ended = False
        self.followers = 0
        self.grown = asyncio.Event()

    def append(self, item: FeedItem) -> None:
        """Add an item, and drop the oldest items beyond the limits."""
        self.items.append(item)
        self.length += item_length(item)
        self.head = Cursor(item.generation, item.last)
        self.ended = item.ends
        while len(self.items) > KEPT_ENTRIES or (self.length > KEPT_LENGTH and len(self.items) > 1):
            self.length -= item_length(self.items.popleft())
            self.first += 1

    def wake(self) -> None:
        """Wake the followers that wait for new items."""
        self.grown.set()
        self.grown = asyncio.Event()


class LocalFeed:
    """A feed within one process. It keeps the last items of each turn for later mirrors."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._ended: deque[str] = deque()
        self._closed = False

    async def publish(self, turn_id: str, items: Sequence[FeedItem]) -> None:
        """Append items to the turn's stream. See `Feed.publish`.

        Raises RuntimeError if the feed is closed.
        """
        if self._closed:
            raise RuntimeError("the feed is closed")
        stream = self._stream(turn_id)
        was_ended = stream.ended
        for item in items:
            head = stream.head
            if head is not None and item.generation < head.generation:
                raise Fenced(f"turn {turn_id} has another owner, of generation {head.generation}")
            if head is None or (item.generation, item.last) > head:
                stream.append(item)
        stream.wake()
        if stream.ended and not was_ended:
            self._ended.append(turn_id)
            if len(self._ended) > KEPT_TURNS:
                self._streams.pop(self._ended.popleft(), None)

    async def follow(self, turn_id: str, after: Cursor) -> AsyncGenerator[FeedItem, None]:
        """Yield the stream's items after a cursor. See `Feed.follow`."""
        stream = self._stream(turn_id)
        number = stream.first
        stream.followers += 1
        try:
            while not self._closed:
                number = max(number, stream.first)
                if number - stream.first == len(stream.items):
                    if stream.ended:
                        return
                    await stream.grown.wait()
                    continue
                item = stream.items[number - stream.first]
                number += 1
                if (item.generation, item.last) > after:
                    yield item
        finally:
            stream.followers -= 1
            if stream.head is None and not stream.followers:
                self._streams.pop(turn_id, None)

    async def head(self, turn_id: str) -> Cursor | None:
        """Return the cursor of the last item. See `Feed.head`."""
        stream = self._streams.get(turn_id)
        return None if stream is None else stream.head

    async def close(self) -> None:
        """End all followers. See `Feed.close`."""
        self._closed = True
        for stream in self._streams.values():
            stream.wake()
        self._streams.clear()

    def _stream(self, turn_id: str) -> _Stream:
        stream = self._streams.get(turn_id)
        if stream is None:
            stream = self._streams[turn_id] = _Stream()
        return stream
