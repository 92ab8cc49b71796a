"""A log that a feed keeps: watchers of the owner and of the mirror get the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.turnlog.mirroring import SECONDS, G, MakeFeed, entry, publish_gained
from tests.turnlog.scripted import START, TURN_ID, ListStore, ScriptedTurn, Ticks, new_log
from tests.turnlog.test_subscription_properties import (
    ACTIONS,
    BATCHES,
    ENDS,
    LIMITS,
    TICKS,
    Action,
    End,
    Limits,
    Watcher,
    act,
    check,
    patched,
    resume,
    scripted,
)
from tests.turnlog.test_taken_over import LiveWatcher, OwnedTurn, until
from tests.turnlog.watching import Client
from turnstream.core.cursor import Cursor
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockStart,
    BlockStop,
    Source,
    TurnCancelled,
    TurnError,
)
from turnstream.errors import Fenced
from turnstream.model_loop.sources import SourceEvent
from turnstream.store.journal.items import FeedItem, LogEntry, LogSnapshot
from turnstream.turnlog.feed import Feed
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.mirror import Mirror, follow
from turnstream.turnlog.publishing import items_after, snapshot_of

# -- the format
# --------------------------------------------------------------------------------------------------


def two_blocks() -> OwnedTurn:
    """1 turn_start, 2 to 5 block 0, 6 a lasting source, 7 the start of block 1, 8 to 10 its text."""
    turn = OwnedTurn()
    turn.open(0)
    turn.say("one", " more")
    turn.store_block()
    turn.log.event_stored(Source("s1"))
    turn.open(1)
    turn.say("a", "b", "c")
    return turn


def test_adjacent_texts_are_joined_and_other_events_follow() -> None:
    log = two_blocks().log
    assert items_after(log, Cursor(G, 0)) == [
        LogEntry(G, 0, 2, "", (START, BlockStart(0, "text"))),
        LogEntry(G, 2, 7, "one more", (BlockStop(0, "text"), Source("s1"), BlockStart(1, "text"))),
        LogEntry(G, 7, 10, "abc"),
    ]
    assert [item.texts for item in items_after(log, Cursor(G, 0)) if isinstance(item, LogEntry)] == [0, 2, 3]
    assert items_after(log, Cursor(G, 8), until=9) == [LogEntry(G, 8, 9, "b")]
    assert items_after(log, Cursor(G, 10)) == []


def test_what_the_ring_has_evicted_is_published_as_a_snapshot() -> None:
    turn = OwnedTurn(ring_limit=0)
    turn.open(0)
    turn.say("one", " two")
    (snapshot,) = items_after(turn.log, Cursor(G, 1))
    assert snapshot == snapshot_of(turn.log)
    assert isinstance(snapshot, LogSnapshot)
    assert snapshot.open_block == BlockCatchup(0, "text", False, "one two")
    turn.store_block()
    turn.log.ended([], TurnCancelled(1))
    (snapshot, end) = items_after(turn.log, Cursor(G, 1))
    assert (snapshot.last, end.last, end.ends) == (5, 6, True)


@pytest.mark.parametrize("items", [items_after(two_blocks().log, Cursor(g, 0)) for g in (G, G - 1)])
def test_items_may_be_written_as_json(items: list[FeedItem]) -> None:
    for item in items:
        assert msgspec.json.decode(msgspec.json.encode(item), type=FeedItem) == item


# -- the mirror
# --------------------------------------------------------------------------------------------------


def mirrored(items: Sequence[FeedItem]) -> Mirror:
    mirror = Mirror(new_log())
    for item in items:
        assert mirror.take(item)
    return mirror


def test_a_mirror_s_log_has_the_owner_s_state() -> None:
    owner = two_blocks().log
    log = mirrored(items_after(owner, Cursor(G, 0))).log
    assert log.open_block is not None
    assert owner.open_block is not None
    assert log.open_block.finish() == owner.open_block.finish()
    for name in (
        "head_cursor",
        "start",
        "terminal",
        "open_first_seq",
        "open_seq",
        "content_since",
        "stored_seq",
    ):
        assert getattr(log, name) == getattr(owner, name), name


def test_a_mirror_skips_what_it_has() -> None:
    owner = two_blocks().log
    mirror = mirrored(items_after(owner, Cursor(G, 0)))
    before = snapshot_of(mirror.log)
    for seq in (0, 2, 5, 6, 7):
        for item in items_after(owner, Cursor(G, seq)):
            assert mirror.take(item)
    assert mirror.take(snapshot_of(owner))
    assert snapshot_of(mirror.log) == before


@pytest.mark.parametrize("have", range(11))
def test_a_mirror_takes_the_part_of_an_entry_that_it_has_not(have: int) -> None:
    """Joined text cannot be divided. The mirror then reports a gap, and takes the whole from a snapshot."""
    owner = two_blocks().log
    for after in range(have + 1):
        mirror = mirrored(items_after(owner, Cursor(G, 0), until=have))
        for item in items_after(owner, Cursor(G, after)):
            if not mirror.take(item):
                assert isinstance(item, LogEntry)
                assert item.after < mirror.log.head < item.after + item.texts
                assert mirror.take(snapshot_of(owner))
        assert snapshot_of(mirror.log) == snapshot_of(owner)


def test_a_mirror_knows_a_gap() -> None:
    owner = two_blocks().log
    mirror = mirrored(items_after(owner, Cursor(G, 0), until=2))
    before = snapshot_of(mirror.log)
    for item in (entry(4, 5), entry(2, 3, "x", generation=G + 1), entry(3, 4, "y")):
        assert not mirror.take(item)
    assert snapshot_of(mirror.log) == before
    assert not Mirror(new_log()).take(LogEntry(G, 0, 1, "text of no block"))


def test_a_mirror_takes_nothing_of_an_older_generation() -> None:
    mirror = mirrored([LogSnapshot(G + 1, 1 << 20, 0)])
    assert mirror.take(entry(0, (1 << 20) + 5))
    assert mirror.log.head_cursor == Cursor(G + 1, 1 << 20)


@pytest.mark.requirement("C3")
def test_a_cursor_within_a_joined_text_gets_the_block_anew() -> None:
    """The owner gave the event. In the mirror's ring it is within another event."""
    owner = two_blocks().log
    log = mirrored(items_after(owner, Cursor(G, 0))).log
    assert [owner.is_exact(seq) for seq in (8, 9, 10)] == [True, True, True]
    assert [log.is_exact(seq) for seq in (8, 9, 10)] == [False, False, True]


class Published(NamedTuple):
    """One publication of `count` events, which are lost on the way, or arrive twice."""

    events: int
    fate: str


PUBLISHED = st.lists(
    st.builds(Published, st.integers(1, 4), st.sampled_from(["whole", "whole", "whole", "lost", "twice"])),
    max_size=60,
)


@dataclass
class Shown:
    """A turn as a watcher needs it: its log, and the store that all nodes share."""

    log: TurnLog
    store: ListStore


class Nodes:
    """An owner, its feed, and a mirror of its log on another node."""

    def __init__(self, turn: ScriptedTurn, feed: Feed, ring_limit: int) -> None:
        self.turn = turn
        self.feed = feed
        self.mirror = Mirror(new_log(ring_limit=ring_limit))
        self.shown = (Shown(turn.log, turn.store), Shown(self.mirror.log, turn.store))

    async def run(self, published: Sequence[Published]) -> None:
        """Publish the growth of the owner's log, cut by `published` and then at every event, until both have
        ended."""
        following = asyncio.get_running_loop().create_task(
            follow(self.feed, Cursor(G, 0), lambda: self.mirror.log, self._state)
        )
        cuts, log, cursor = iter(published), self.turn.log, Cursor(G, 0)
        while log.terminal is None or cursor != log.head_cursor:
            cut = next(cuts, Published(1, "whole"))
            until = min(cursor.seq + cut.events, log.head)
            items = items_after(log, cursor, max(until, log.ring.first_seq)) if until > cursor.seq else []
            if items and (cut.fate != "lost" or items[-1].ends):
                for _ in range(2 if cut.fate == "twice" else 1):
                    await self.feed.publish(TURN_ID, items)
            cursor = Cursor(G, items[-1].last if items else cursor.seq)
            await asyncio.sleep(0)
        await following

    async def _state(self) -> list[FeedItem]:
        """Return the rows of the store and the journal: here the whole log of the owner."""
        return [snapshot_of(self.turn.log)]


@pytest.mark.requirement("C1", "C2", "C3", "C4", "D7")
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(BATCHES, LIMITS, st.tuples(TICKS, TICKS, TICKS), ACTIONS, ENDS, PUBLISHED)
def test_watchers_of_owner_and_mirror_end_with_the_stored_blocks(
    make: MakeFeed,
    batches: list[list[SourceEvent]],
    limits: Limits,
    ticks: tuple[list[int], list[int], list[int]],
    actions: list[Action],
    end: End,
    published: list[Published],
) -> None:
    async def example() -> None:
        async with asyncio.timeout(SECONDS), make() as feed:
            turn = scripted(batches, limits, (ticks[0], ticks[1]), end)
            nodes = Nodes(turn, feed, limits.ring)
            watchers = [
                Watcher(Client(), cast("Any", shown), Ticks(ticks[2]))
                for shown in (*nodes.shown, nodes.shown[1])
            ]
            task = turn.begin()
            publishing = asyncio.get_running_loop().create_task(nodes.run(published))
            await act(watchers, actions)
            await task
            await publishing
            for watcher in watchers:
                await watcher.read_to_the_end()
            await check_all(nodes, watchers)

    async def check_all(nodes: Nodes, watchers: list[Watcher]) -> None:
        """A watcher in any state can continue at either node."""
        turn = nodes.turn
        endings = []
        for watcher in watchers:
            check(turn, watcher.client.now)
            assert len(watcher.client.terminal_events()) <= 1
            endings.append(watcher.client.now.fold.ending)
        assert all(ending == endings[0] for ending in endings)
        for known in [known for watcher in watchers for known in watcher.client.past]:
            for shown in nodes.shown:
                check(turn, (await resume(turn, shown.log, known)).now)

    with ExitStack() as stack:
        patched(stack, limits)
        asyncio.run(example())


# -- a mirror under live watchers
# --------------------------------------------------------------------------------


@asynccontextmanager
async def live(
    owner: OwnedTurn, make: MakeFeed
) -> AsyncIterator[tuple[Feed, TurnLog, LiveWatcher, LiveWatcher]]:
    """A mirror that follows, with a watcher of the owner's log and a watcher of the mirror's. Both logs have
    ended afterwards."""

    async def state() -> list[FeedItem]:
        return [snapshot_of(owner.log)]

    async with asyncio.timeout(SECONDS), make() as feed:
        other = OwnedTurn(store=owner.store, log=new_log())
        following = asyncio.get_running_loop().create_task(
            follow(feed, Cursor(G, 0), lambda: other.log, state)
        )
        watchers = LiveWatcher(owner), LiveWatcher(other)
        yield feed, other.log, *watchers
        await following
        for watcher in watchers:
            await watcher.task


@pytest.mark.requirement("C3", "P3")
async def test_a_generation_that_changes_reaches_the_mirror_s_watchers(make: MakeFeed) -> None:
    owner = OwnedTurn()
    async with live(owner, make) as (feed, log, here, there):
        owner.open(0)
        owner.say("one", " two", " lost")
        cursor = await publish_gained(owner.log, feed, Cursor(G, 0))
        await until(lambda: here.texts == there.texts == ["one two lost"])
        owner.take_over(4, text="one two")
        cursor = await publish_gained(owner.log, feed, cursor)
        await until(lambda: here.texts == there.texts == ["one two"])
        assert log.head_cursor == owner.log.head_cursor
        with pytest.raises(Fenced):  # the owner that was lost comes back
            await feed.publish(TURN_ID, [entry(5, 6, " late")])
        owner.say(" three")
        owner.store_block()
        owner.log.ended([], TurnCancelled(1))
        await publish_gained(owner.log, feed, cursor)
    for watcher in (here, there):
        assert watcher.names.count("notice") == 1
        assert watcher.client.now.blocks == [row.block for row in owner.store.blocks]


async def test_an_end_that_storage_refused_shows_the_open_block_in_the_mirror_too(
    make: MakeFeed,
) -> None:
    owner = OwnedTurn()
    async with live(owner, make) as (feed, log, here, there):
        owner.open(0)
        owner.say("one")
        owner.log.ended_unstored(
            [BlockCatchup(1, "text", True, "unseen", partial=True)], TurnError("lost", "database_error", 0)
        )
        await publish_gained(owner.log, feed, Cursor(G, 0))
    assert here.texts == there.texts == ["one", "unseen"]
    assert log.open_block is not None
    late = LiveWatcher(OwnedTurn(store=owner.store, log=log))
    await late.task
    assert late.texts == ["one", "unseen"]


async def test_a_mirror_that_lost_all_entries_reads_the_store(make: MakeFeed) -> None:
    owner = OwnedTurn()
    owner.open(0)
    owner.say("one", " more")
    owner.store_block()
    owner.open(1)
    owner.say("two")
    async with live(owner, make) as (feed, _, here, there):
        cursor = owner.log.head_cursor
        owner.say(" and")
        await publish_gained(owner.log, feed, cursor)
        await until(lambda: here.texts == there.texts == ["one more", "two and"])
        owner.store_block()
        owner.log.ended([], TurnCancelled(2))
        await publish_gained(owner.log, feed, Cursor(G, cursor.seq + 1))
    assert here.client.now.blocks == there.client.now.blocks
