"""Watchers of all turns of an owner, while two nodes start turns of this owner at the same moments."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import SECONDS, engines
from tests.turns.many_turns.following import ManyClient
from turnstream import Engine

ROUNDS = 6
AT_ONCE = 8
"""Turns that each node starts in a round."""


async def watch(engine: Engine, client: ManyClient, begun: asyncio.Event, turns: int) -> None:
    """Read the events of all turns of the owner until this many have ended."""
    subscription = await engine._events.watch("local")
    try:
        while sum(frame.name == "turn_complete" for frame in client.frames) < turns:
            data = await subscription.next()
            assert data is not None
            client.receive(bytes(data))
            begun.set()
    finally:
        subscription.close()


@pytest.mark.requirement("N8")
async def test_watchers_see_each_turn_once_that_two_nodes_start_at_the_same_moment(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engines(cluster, monkeypatch, options={}) as pair, asyncio.timeout(SECONDS):
        clients = [ManyClient(), ManyClient()]
        begun = [asyncio.Event(), asyncio.Event()]
        count = ROUNDS * AT_ONCE * 2
        watching = [
            asyncio.create_task(watch(engine, client, event, count))
            for engine, client, event in zip((pair.one, pair.two), clients, begun, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in begun))
        started: list[str] = []
        for _ in range(ROUNDS):
            turns = [
                engine.send("hi", model="sim/echo") for _ in range(AT_ONCE) for engine in (pair.one, pair.two)
            ]
            started += [turn.id for turn in await asyncio.gather(*turns)]
        await asyncio.gather(*watching)
        for client in clients:
            seen = Counter(frame.turn_id for frame in client.frames if frame.name == "turn_started")
            assert seen == Counter(started)
