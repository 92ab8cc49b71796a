"""Entries of a feed, and logs that they feed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from tests.turnlog.scripted import TURN_ID
from turnstream.core.cursor import Cursor, first_generation
from turnstream.core.turn_events import Notice
from turnstream.nodes.node import OwnNode
from turnstream.store.journal.items import LogEntry
from turnstream.store.journal.pages import JournalPart
from turnstream.store.sql import SqlStore
from turnstream.telemetry.measures import Histogram
from turnstream.turnlog.feed import Feed, LocalFeed
from turnstream.turnlog.pages_feed import PagesFeed
from turnstream.turnlog.publishing import items_after
from turnstream.turnlog.view import LogView
from turnstream.turns.journal import JournalKeeper

G = first_generation(TURN_ID)
SECONDS = 20.0
MakeFeed: TypeAlias = Callable[[], AbstractAsyncContextManager[Feed]]


@asynccontextmanager
async def local_feed() -> AsyncIterator[Feed]:
    feed = LocalFeed()
    yield feed
    await feed.close()


@asynccontextmanager
async def pages_feed(url: str, lag: Histogram | None = None) -> AsyncIterator[Feed]:
    """A feed over the pages of a node, in a database that is there already."""
    node = OwnNode(is_shared=True, lease_seconds=SECONDS)
    node.begin()
    async with opened(SqlStore(url)) as store:

        async def owner_of(turn_id: str) -> str:
            del turn_id
            return node.id

        keeper = JournalKeeper(store, _nothing, node=node)
        feed = PagesFeed(store, owner_of, interval=0.002, lag=lag)
        feed.append = keeper.append
        yield feed
        await feed.close()


def _nothing(*, whole: bool) -> Iterable[JournalPart]:
    del whole
    return ()


@asynccontextmanager
async def opened(store: SqlStore) -> AsyncIterator[SqlStore]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def entry(after: int, last: int, text: str = "", generation: int = G) -> LogEntry:
    """Return an entry of text, and of passing notices for the numbers without text."""
    count = last - after - (1 if text else 0)
    return LogEntry(generation, after, last, text, tuple(Notice("passing", "on") for _ in range(count)))


async def publish_gained(log: LogView, feed: Feed, cursor: Cursor) -> Cursor:
    """Publish what the owner's log has gained after `cursor`, and return the next cursor."""
    items, head = items_after(log, cursor), log.head_cursor
    if items:
        await feed.publish(log.turn_id, items)
    return head
