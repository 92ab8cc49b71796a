"""Watchers that come from a turn's own node to another one, whose mirror has not reached their cursor."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import SECONDS, Held, Pair, check, cursor_of, engines, read
from tests.turnlog.watching import Client
from turnstream.core.cursor import Cursor
from turnstream.store.journal.operations import AppendJournal
from turnstream.turnlog.subscription import Subscription

STORY = "sim/story:events=150,pace=0.01"


@pytest.fixture
async def pair(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    async with engines(cluster, monkeypatch, options={}) as pair:
        yield pair


@pytest.mark.requirement("C3", "Q2")
async def test_a_watcher_that_is_ahead_of_a_mirror_gets_each_event_once(pair: Pair) -> None:
    """The mirror cannot have the watcher's last event: its page is held back until the watcher waits."""
    turn = await pair.one.send("hello", model=STORY)
    client = Client()
    subscription = await pair.one.subscribe(turn.id)
    await read(subscription, client, frames=10)
    held = pair.stores[0].before = Held(AppendJournal)
    await held.began.wait()
    head = subscription.log.head
    while client.frames[-1].seq <= head:
        await read(subscription, client, frames=1)
    subscription.close()
    after = cursor_of(client)
    joining = asyncio.create_task(
        pair.two._watching.subscribe("local", turn.id, after=after, patience=SECONDS)
    )
    while (log := pair.two.commands.mirrors.known(turn.id)) is None or not log.watchers_waiting:
        await asyncio.sleep(0)
        assert not joining.done()
    assert after is not None
    assert log.head < after.seq
    held.go.set()
    await read(await joining, client)
    ids = [(frame.generation, frame.seq) for frame in client.frames]
    assert all(one < other for one, other in pairwise(ids))
    assert [frame.name for frame in client.frames].count("turn_start") == 1
    await check(pair, turn.id, client)


@pytest.mark.requirement("C3", "Q2")
async def test_a_cursor_of_no_event_gets_a_full_snapshot_from_a_mirror(pair: Pair) -> None:
    turn = await pair.one.send("hello", model=STORY)
    generation = turn.beginning.generation
    ahead, foreign = Client(), Client()
    watching: list[tuple[Subscription, Client]] = []
    for client, cursor, patience in (
        (ahead, Cursor(generation, 10**9), 0.05),
        (foreign, Cursor(generation + 10**6, 5), SECONDS),
    ):
        subscription = await pair.two._watching.subscribe("local", turn.id, after=cursor, patience=patience)
        assert pair.two.commands.mirrors.known(turn.id) is subscription.log
        await read(subscription, client, frames=1)
        assert client.frames[0].name == "turn_start"
        watching.append((subscription, client))
    await asyncio.gather(*(read(subscription, client) for subscription, client in watching))
    await check(pair, turn.id, ahead, foreign)
