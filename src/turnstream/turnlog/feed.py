"""The seam between nodes: the owner of a turn publishes what its log gains, and mirrors of that log follow.

    owner's log ─► entries_after ─► Feed.publish  …  Feed.follow ─► mirror ─► the mirror's log ─► its watchers

An entry follows on another, so a mirror skips what it has and notices a gap. A snapshot follows on nothing: it closes a
gap, and begins a new generation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, TypeAlias

import msgspec

from turnstream.core.cursor import Cursor
from turnstream.core.turn_events import (
    BlockCatchup,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.errors import Fenced
from turnstream.turnlog.base import Fence, ResetRecord

KEPT_ENTRIES = 1024
"""Entries of one turn that a feed in this process keeps for mirrors that come later."""
KEPT_LENGTH = 256 * 1024
"""Characters of text in them."""
KEPT_TURNS = 1024
"""Ended turns of which it keeps entries."""


class LogEntry(msgspec.Struct, frozen=True, tag="entry", omit_defaults=True):
    """Events of a log that follow on the event `after`, up to `last`.

    Attributes:
        text: What the open block gained, joined. As many events said it as the numbers leave for it. It comes first.
        events: The other events, one number each.
    """

    generation: int
    after: int
    last: int
    text: str = ""
    events: tuple[TurnEvent, ...] = ()

    @property
    def texts(self) -> int:
        """Number of events that said `text`."""
        return self.last - self.after - len(self.events)

    @property
    def ends(self) -> bool:
        """True if the turn's terminal event is the last one."""
        return bool(self.events) and isinstance(self.events[-1], TurnComplete | TurnError | TurnCancelled)


class LogSnapshot(msgspec.Struct, frozen=True, tag="snapshot", omit_defaults=True):
    """All that a log needs to continue after the event `last` with nothing before it.

    Attributes:
        stored_seq: The last seq of what the store holds.
        start_seq: The seq of `start`.
        open_block: The open block with all of its text, or None.
        open_first_seq: The seq of its first event.
    """

    generation: int
    last: int
    stored_seq: int
    start: TurnStart | None = None
    start_seq: int = 0
    resets: tuple[ResetRecord, ...] = ()
    fences: tuple[Fence, ...] = ()
    open_block: BlockCatchup | None = None
    open_first_seq: int = 0

    @property
    def ends(self) -> bool:
        """False: a terminal event comes in an entry."""
        return False


FeedItem: TypeAlias = LogEntry | LogSnapshot


class Feed(Protocol):
    """The streams of all turns' entries, one for each turn. Followers may be in other processes."""

    async def publish(self, turn_id: str, items: Sequence[FeedItem]) -> None:
        """Append items to the turn's stream.

        Guarantees: followers get them in order. Items that the stream has already are skipped, so a call whose answer
        was lost may be repeated. After an item of a newer generation, no older one is taken: raise Fenced.
        """
        ...

    def follow(self, turn_id: str, after: Cursor) -> AsyncGenerator[FeedItem, None]:
        """Yield what the turn's stream has after a cursor, and what it gets from then on.

        Guarantees: items come in order and once. Items that are not kept any more are left out, which their successor
        shows. The iterator ends after the terminal event, and when the feed is closed. A follower that does not read
        holds up nobody, and takes no memory.
        """
        ...

    async def head(self, turn_id: str) -> Cursor | None:
        """Return the cursor of the last item; or None if the stream is unknown, or lost."""
        ...

    async def close(self) -> None:
        """End all followers. Guarantees: nothing is published or followed afterwards."""
        ...


class _Stream:
    """The kept items of one turn. `first` is the number of the oldest: numbers rise by one and are never given twice."""

    def __init__(self) -> None:
        self.items: deque[FeedItem] = deque()
        self.first = 0
        self.length = 0
        self.head: Cursor | None = None
        self.ended = False
        self.followers = 0
        self.grown = asyncio.Event()

    def append(self, item: FeedItem) -> None:
        self.items.append(item)
        self.length += _length(item)
        self.head = Cursor(item.generation, item.last)
        self.ended = item.ends
        while len(self.items) > KEPT_ENTRIES or (self.length > KEPT_LENGTH and len(self.items) > 1):
            self.length -= _length(self.items.popleft())
            self.first += 1

    def wake(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()


class LocalFeed:
    """A feed within one process. It keeps the last items of each turn, for mirrors that come later."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._ended: deque[str] = deque()
        self._closed = False

    async def publish(self, turn_id: str, items: Sequence[FeedItem]) -> None:
        """As `Feed.publish`."""
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
        """As `Feed.follow`."""
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
        """As `Feed.head`."""
        stream = self._streams.get(turn_id)
        return None if stream is None else stream.head

    async def close(self) -> None:
        """As `Feed.close`."""
        self._closed = True
        for stream in self._streams.values():
            stream.wake()
        self._streams.clear()

    def _stream(self, turn_id: str) -> _Stream:
        stream = self._streams.get(turn_id)
        if stream is None:
            stream = self._streams[turn_id] = _Stream()
        return stream


def _length(item: FeedItem) -> int:
    if isinstance(item, LogSnapshot):
        block = item.open_block
        return 0 if block is None else len(block.accumulated_text or block.input_partial or "")
    return len(item.text)
