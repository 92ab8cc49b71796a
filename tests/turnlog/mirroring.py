"""Entries of a feed, and logs that they feed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.turnlog.scripted import TURN_ID
from turnstream.core.cursor import Cursor, first_generation
from turnstream.core.turn_events import (
    Notice,
)
from turnstream.store.journal.items import LogEntry
from turnstream.turnlog.feed import Feed, LocalFeed
from turnstream.turnlog.publishing import items_after
from turnstream.turnlog.view import LogView

G = first_generation(TURN_ID)
SECONDS = 20.0
FEEDS: list[Callable[[], Feed]] = [LocalFeed]
every_feed = pytest.mark.parametrize("make", FEEDS, ids=lambda make: make.__name__)


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
