"""The feed between nodes that share a database: followers read the journal's pages of a turn's owner.

    owner's journal ─► a page every 50 ms while a node follows  …  OwnerPages ─► the streams of its turns

A node has one reader for each owner that it follows, whatever the number of turns and watchers. The owner is
not notified, and notifies no follower.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from time import monotonic

from turnstream.core.cursor import Cursor
from turnstream.errors import Fenced, StoreError
from turnstream.store.base import StoreReader
from turnstream.store.journal.following import PagesAfter, PagesWith
from turnstream.store.journal.items import FeedItem, TurnItems, item_length
from turnstream.store.journal.pages import NOT_JSON, items_in
from turnstream.store.journal.queries import LastPage
from turnstream.telemetry.measures import Histogram
from turnstream.turnlog.feed import KEPT_ENTRIES, KEPT_LENGTH, KEPT_TURNS

logger = logging.getLogger(__name__)

READ_INTERVAL = 0.05
"""Seconds between two reads of an owner's pages."""
RETRY_PAUSE = 0.5
"""Seconds before a failed read is retried."""
PAGES_AT_ONCE = 64
"""Pages that one read takes. If there are more, the next read follows at once."""


class _TurnStream:
    """The items of one turn that a follower has not taken yet. The oldest are dropped beyond the limits."""

    def __init__(self) -> None:
        self.items: deque[FeedItem] = deque()
        self.length = 0
        self.grown = asyncio.Event()
        self.has_moved = False
        """True if another node may own the turn now."""

    def add(self, items: Iterable[FeedItem]) -> None:
        """Add items, and wake the follower."""
        for item in items:
            self.items.append(item)
            self.length += item_length(item)
            while len(self.items) > KEPT_ENTRIES or (self.length > KEPT_LENGTH and len(self.items) > 1):
                self.length -= item_length(self.items.popleft())
        self.grown.set()

    def add_before(self, items: Sequence[FeedItem]) -> None:
        """Add items that were published before those in the stream."""
        self.items.extendleft(reversed(items))
        self.length += sum(map(item_length, items))

    def take(self) -> FeedItem:
        """Remove the oldest item and return it."""
        item = self.items.popleft()
        self.length -= item_length(item)
        return item


class OwnerPages:
    """Reads the pages of one owner while a stream of its turns exists."""

    def __init__(self, store: StoreReader, owner: str, interval: float, lag: Histogram | None = None) -> None:
        self.owner = owner
        self._lag = lag
        self._read_at: float | None = None
        """Time at which the last read began. Pages that it did not find were committed later."""
        self._store = store
        self._interval = interval
        self._page: int | None = None
        """Number of the last page that was read."""
        self._streams: dict[str, list[_TurnStream]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def is_used(self) -> bool:
        """True if there are streams."""
        return bool(self._streams)

    def streams(self, turn_id: str) -> Sequence[_TurnStream]:
        """Return the streams of a turn."""
        return self._streams.get(turn_id, ())

    async def join(self, turn_id: str, stream: _TurnStream) -> None:
        """Add the items of all pages from now on to `stream`. Raises StoreError.

        A page that was committed before this returns may be missing.
        """
        self._streams.setdefault(turn_id, []).append(stream)
        if self._page is None:
            last = await self._store.read(LastPage(owner=self.owner))
            self._page = last if self._page is None else self._page
        if self._task is None and self._streams:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"pages of {self.owner}")

    def leave(self, turn_id: str, stream: _TurnStream) -> None:
        """Remove a stream. The reader ends with the last one."""
        streams = self._streams.get(turn_id, [])
        if stream in streams:
            streams.remove(stream)
        if not streams:
            self._streams.pop(turn_id, None)
        if not self._streams and self._task is not None:
            self._task.cancel()
            self._task = self._page = self._read_at = None

    async def close(self) -> None:
        """End the reader, and wake all streams."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        for streams in self._streams.values():
            for stream in streams:
                stream.grown.set()

    async def _run(self) -> None:
        """Read new pages at each interval, until cancelled."""
        while True:
            try:
                has_more = await self._read()
            except StoreError as error:
                logger.warning("the pages of node %s cannot be read, next try soon: %s", self.owner, error)
                await asyncio.sleep(RETRY_PAUSE)
            except Exception:
                logger.exception("a read of the pages of node %s failed, next try soon", self.owner)
                await asyncio.sleep(RETRY_PAUSE)
            else:
                await asyncio.sleep(0 if has_more else self._interval)

    async def _read(self) -> bool:
        """Read the next pages. Return True if there may be more."""
        after, began, before = self._page or 0, monotonic(), self._read_at
        pages = await self._store.read(PagesAfter(owner=self.owner, page=after, most=PAGES_AT_ONCE))
        self._read_at = began
        if pages and before is not None and self._lag is not None:
            self._lag.observe(monotonic() - before)
        for number, page in pages:
            self._page = number
            try:
                for found in items_in(page, self._streams):
                    for stream in self._streams[found.turn_id]:
                        stream.add(found.items)
            except NOT_JSON as error:  # the next items of its turns show the gap
                logger.error("page %d of node %s cannot be read: %s", number, self.owner, error)
        return len(pages) == PAGES_AT_ONCE


class PagesFeed:
    """A feed over the journal's pages in a shared database.

    Args:
        owner_of: Returns the node that writes a turn, or None if no node does. May raise StoreError.
        interval: Seconds between two reads of an owner's pages.
        lag: Histogram of upper bounds of the seconds from a page's commit to its read here. None: none is
            kept.
    """

    def __init__(
        self,
        store: StoreReader,
        owner_of: Callable[[str], Awaitable[str | None]],
        *,
        interval: float = READ_INTERVAL,
        lag: Histogram | None = None,
    ) -> None:
        self.append: Callable[[Sequence[TurnItems]], Awaitable[None]] = _no_pages
        """Writes items as a page of this node. May raise StoreError."""
        self._store = store
        self._owner_of = owner_of
        self._interval = interval
        self._lag = lag
        self._owners: dict[str, OwnerPages] = {}
        self._heads: OrderedDict[str, Cursor] = OrderedDict()
        """The last items that were published here, by turn. The oldest are dropped."""
        self._closed = False

    @property
    def followed(self) -> tuple[str, ...]:
        """The owners whose pages are read here."""
        return tuple(self._owners)

    async def publish(self, turn_id: str, items: Sequence[FeedItem]) -> None:
        """Append items to the turn's stream, as a page. See `Feed.publish`.

        Raises StoreError, and RuntimeError if the feed is closed.
        """
        if self._closed:
            raise RuntimeError("the feed is closed")
        head = self._heads.get(turn_id)
        new: list[FeedItem] = []
        for item in items:
            if head is not None and item.generation < head.generation:
                raise Fenced(f"turn {turn_id} has another owner, of generation {head.generation}")
            if head is None or (item.generation, item.last) > head:
                new.append(item)
                head = Cursor(item.generation, item.last)
        if not new or head is None:
            return
        await self.append([TurnItems(turn_id, tuple(new))])
        self._heads[turn_id] = head
        self._heads.move_to_end(turn_id)
        if len(self._heads) > KEPT_TURNS:
            self._heads.popitem(last=False)

    async def follow(self, turn_id: str, after: Cursor) -> AsyncGenerator[FeedItem, None]:
        """Yield the stream's items after a cursor. See `Feed.follow`. Raises StoreError.

        After `moved`, it continues with the pages of the next owner. It ends if no node writes the turn.
        """
        while not self._closed and (owner := await self._owner_of(turn_id)) is not None:
            pages = self._owners.get(owner)
            if pages is None:
                pages = self._owners[owner] = OwnerPages(self._store, owner, self._interval, self._lag)
            stream = _TurnStream()
            try:
                await pages.join(turn_id, stream)
                stream.add_before(await self._kept(owner, turn_id))
                while not self._closed and not stream.has_moved:
                    if not stream.items:
                        stream.grown.clear()
                        await stream.grown.wait()
                        continue
                    item = stream.take()
                    if (item.generation, item.last) <= after:
                        continue
                    after = Cursor(item.generation, item.last)
                    yield item
                    if item.ends:
                        return
            finally:
                pages.leave(turn_id, stream)
                if not pages.is_used and self._owners.get(owner) is pages:
                    del self._owners[owner]

    def moved(self, turn_id: str) -> None:
        """Note that another node may own the turn. Followers look up the owner again."""
        for pages in self._owners.values():
            for stream in pages.streams(turn_id):
                stream.has_moved = True
                stream.grown.set()

    async def head(self, turn_id: str) -> Cursor | None:
        """Return the cursor of the last item. See `Feed.head`. Raises StoreError."""
        if (head := self._heads.get(turn_id)) is not None:
            return head
        owner = await self._owner_of(turn_id)
        kept = [] if owner is None else await self._kept(owner, turn_id)
        return Cursor(kept[-1].generation, kept[-1].last) if kept else None

    async def close(self) -> None:
        """End all followers. See `Feed.close`."""
        self._closed = True
        await asyncio.gather(*(pages.close() for pages in list(self._owners.values())))

    async def _kept(self, owner: str, turn_id: str) -> list[FeedItem]:
        """Return the items of a turn in the pages that an owner has stored."""
        items: list[FeedItem] = []
        for page in await self._store.read(PagesWith(owner=owner, turn_id=turn_id)):
            try:
                for found in items_in(page, (turn_id,)):
                    items.extend(found.items)
            except NOT_JSON as error:
                logger.error("a page of node %s cannot be read: %s", owner, error)
        return items


async def _no_pages(_: Sequence[TurnItems]) -> None:
    raise RuntimeError("the feed of this node has no journal to publish in")
