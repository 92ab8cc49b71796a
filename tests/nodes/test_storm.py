"""Watchers join and leave a turn on two nodes, while it runs on one of them."""

from __future__ import annotations

import asyncio
import os
import random
from itertools import pairwise
from statistics import quantiles
from time import monotonic

import aiohttp
import pytest

from tests.faults.watching import Api, Frame, Watcher, stored_blocks
from tests.nodes.cluster import Cluster

WATCHERS = 100
EVENTS_PER_SECOND = 50
RUN_SECONDS = 10 if os.environ.get("CI") else 20
SECONDS = 120.0
REPEATS_ITS_ID = {"block_delta", "block_catchup", "block_reset"}
"""Frames that may have the id of the frame before: pieces of a catch-up, and resets with which it begins."""


class Visitor:
    """A watcher that leaves and joins again at random moments and nodes, until the turn has ended."""

    def __init__(self, number: int, turn: str, nodes: tuple[Api, ...]) -> None:
        self.watcher = Watcher(turn)
        self.visits = 0
        self._random = random.Random(number)
        self._nodes = nodes

    async def run(self, stays_until: float) -> None:
        watcher = self.watcher
        while not watcher.ended:
            leaves_at = monotonic() + self._random.uniform(0.05, 1.0)
            stays = monotonic() > stays_until

            def has_left(_: Frame, leaves_at: float = leaves_at, *, stays: bool = stays) -> bool:
                return not stays and monotonic() > leaves_at

            before = len(watcher.frames)
            await watcher.watch(self._random.choice(self._nodes), until=has_left)
            self.visits += 1
            self._check_ids(watcher.frames[before:])

    def _check_ids(self, connection: list[Frame]) -> None:
        for last, frame in pairwise(connection):
            known, seq = number_of(last), number_of(frame)
            assert seq > known or (seq == known and frame.name in REPEATS_ITS_ID), (last, frame)


def number_of(frame: Frame) -> int:
    return int(frame.id.partition("-")[2])


def latencies(owner: Watcher, mirror: Watcher) -> list[float]:
    """Seconds by which each event of the owner's watcher came later to the mirror's."""
    later = iter(mirror.frames)
    seen = next(later)
    found: list[float] = []
    for frame in owner.frames:
        while number_of(seen) < number_of(frame):
            seen = next(later)
        found.append(seen.at - frame.at)
    return found


@pytest.mark.requirement("C3", "Q2")
async def test_a_storm_of_watchers_on_two_nodes_ends_with_the_stored_blocks(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as one, cluster.node() as two:
        first, second = nodes = Api(one.url, session), Api(two.url, session)
        events = RUN_SECONDS * EVENTS_PER_SECOND
        model = f"sim/story:events={events},pace={1 / EVENTS_PER_SECOND}"
        turn = await first.start(await first.create_chat(), "hello", model)
        began = monotonic()
        here, there = Watcher(turn), Watcher(turn)
        visitors = [Visitor(number, turn, nodes) for number in range(WATCHERS)]
        await asyncio.gather(
            here.watch(first),
            there.watch(second),
            *(visitor.run(began + RUN_SECONDS - 1) for visitor in visitors),
        )
        expected = stored_blocks(await second.turn(turn))
        watchers = [here, there, *(visitor.watcher for visitor in visitors)]
        for watcher in watchers:
            assert watcher.fold.blocks == expected
            assert watcher.terminal_events() == ["turn_complete"]
        found = latencies(here, there)
        steps = quantiles(found, n=100)
        visits = sum(visitor.visits for visitor in visitors)
        assert visits > 5 * WATCHERS
        print(
            f"{len(watchers)} watchers, {visits} visits, {len(here.frames)} events; "
            f"the feed's latency: p50 {1000 * steps[49]:.0f} ms, p99 {1000 * steps[98]:.0f} ms"
        )


async def test_the_feed_s_latency_is_measured(cluster: Cluster, session: aiohttp.ClientSession) -> None:
    """One turn, one watcher on each node. The first second, in which the owner learns of it, is left out."""
    async with asyncio.timeout(SECONDS), cluster.node() as one, cluster.node() as two:
        first, second = Api(one.url, session), Api(two.url, session)
        turn = await first.start(await first.create_chat(), "hello", "sim/story:events=300,pace=0.02")
        here, there = Watcher(turn), Watcher(turn)
        await asyncio.gather(here.watch(first), there.watch(second))
        found = latencies(here, there)[50:]
        steps = quantiles(found, n=100)
        print(f"the feed's latency: p50 {1000 * steps[49]:.0f} ms, p99 {1000 * steps[98]:.0f} ms")
        assert here.fold.blocks == there.fold.blocks == stored_blocks(await second.turn(turn))
