"""The contract of a feed. The fixture `make` makes every implementation of `Feed`."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.turnlog.mirroring import SECONDS, G, MakeFeed, entry, pages_feed
from tests.turnlog.scripted import TURN_ID
from turnstream.core.cursor import Cursor
from turnstream.core.turn_events import (
    TurnCancelled,
)
from turnstream.errors import Fenced
from turnstream.store.journal.items import FeedItem, LogEntry, LogSnapshot
from turnstream.store.migrations import upgrade_database
from turnstream.telemetry.measures import Histogram
from turnstream.turnlog import feed as feeds
from turnstream.turnlog.feed import Feed, LocalFeed

END = LogEntry(G, 9, 10, events=(TurnCancelled(0),))


async def collected(feed: Feed, after: Cursor) -> list[FeedItem]:
    async with asyncio.timeout(SECONDS), aclosing(feed.follow(TURN_ID, after)) as items:
        return [item async for item in items]


# -- the feed
# ----------------------------------------------------------------------------------------------------


async def test_a_follower_gets_items_in_order_up_to_the_end(make: MakeFeed) -> None:
    async with make() as feed:
        items = [entry(0, 3, "a"), entry(3, 9, "b"), END]
        following = asyncio.get_running_loop().create_task(collected(feed, Cursor(G, 0)))
        for item in items:
            await asyncio.sleep(0)
            await feed.publish(TURN_ID, [item])
        assert await following == items
        assert await collected(feed, Cursor(G, 0)) == items
        assert await collected(feed, Cursor(G, 3)) == items[1:]
        assert await collected(feed, Cursor(G, 2)) == items


async def test_the_head_is_the_last_item_s_cursor(make: MakeFeed) -> None:
    async with make() as feed:
        assert await feed.head(TURN_ID) is None
        await feed.publish(TURN_ID, [entry(0, 3), entry(3, 4)])
        assert await feed.head(TURN_ID) == Cursor(G, 4)
        assert await feed.head("another") is None


async def test_turns_do_not_mix(make: MakeFeed) -> None:
    async with make() as feed:
        await feed.publish("another", [entry(0, 3, "x"), END])
        await feed.publish(TURN_ID, [END])
        assert await collected(feed, Cursor(G, 0)) == [END]


async def test_a_publication_may_be_repeated(make: MakeFeed) -> None:
    async with make() as feed:
        items = [entry(0, 3, "a"), entry(3, 9, "b")]
        for published in (items, items, [*items, END], [END]):
            await feed.publish(TURN_ID, published)
        assert await collected(feed, Cursor(G, 0)) == [*items, END]


async def test_a_lost_owner_is_fenced(make: MakeFeed) -> None:
    async with make() as feed:
        await feed.publish(TURN_ID, [entry(0, 3, "a"), LogSnapshot(G + 1, 1 << 20, 0)])
        with pytest.raises(Fenced):
            await feed.publish(TURN_ID, [entry(3, 4, "b")])
        assert await feed.head(TURN_ID) == Cursor(G + 1, 1 << 20)


async def test_a_follower_that_does_not_read_holds_up_nobody(make: MakeFeed) -> None:
    """Each received item continues one that the reader lacks, so the reader notices the gap."""
    async with (
        make() as feed,
        asyncio.timeout(SECONDS),
        aclosing(feed.follow(TURN_ID, Cursor(G, 0))) as items,
    ):
        await feed.publish(TURN_ID, [entry(0, 1, "first")])
        assert (await anext(items)).last == 1
        for number in range(1, 2 * feeds.KEPT_ENTRIES):
            await feed.publish(TURN_ID, [entry(number, number + 1, "x" * 500)])
        later = await anext(items)
        assert isinstance(later, LogEntry)
        assert later.after > 1


async def test_a_closed_feed_ends_its_followers(make: MakeFeed) -> None:
    async with make() as feed:
        await feed.publish(TURN_ID, [entry(0, 3, "a")])
        async with asyncio.timeout(SECONDS), aclosing(feed.follow(TURN_ID, Cursor(G, 0))) as items:
            assert await anext(items) == entry(0, 3, "a")
            following = asyncio.get_running_loop().create_task(anext(items, None))
            await asyncio.sleep(0)
            await feed.close()
            assert await following is None


async def test_turns_that_have_ended_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "KEPT_TURNS", 2)
    feed = LocalFeed()
    for number in range(5):
        await feed.publish(f"turn {number}", [END])
        await feed.publish(f"turn {number}", [END])
    heads = [await feed.head(f"turn {number}") for number in range(5)]
    assert heads == [None, None, None, Cursor(G, 10), Cursor(G, 10)]


async def test_a_turn_that_was_only_followed_is_forgotten() -> None:
    feed = LocalFeed()
    following = asyncio.get_running_loop().create_task(collected(feed, Cursor(G, 0)))
    await asyncio.sleep(0)
    following.cancel()
    await asyncio.wait([following])
    assert feed._streams == {}


async def test_the_lag_of_pages_is_measured(tmp_path: Path) -> None:
    url, lag = f"sqlite:///{tmp_path}/feed.sqlite", Histogram((SECONDS,))
    upgrade_database(url)
    async with (
        asyncio.timeout(SECONDS),
        pages_feed(url, lag) as feed,
        aclosing(feed.follow(TURN_ID, Cursor(G, 0))) as items,
    ):
        for item in (entry(0, 3, "a"), entry(3, 9, "b"), entry(9, 12, "c")):
            await feed.publish(TURN_ID, [item])
            assert await anext(items) == item
    assert lag.counts[0] > 0, "the page of the last item came after an earlier read"
    assert 0 < lag.total < SECONDS
