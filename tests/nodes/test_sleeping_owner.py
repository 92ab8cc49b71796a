"""A node that sleeps beyond its lease: another takes its turns over, and it shows no more of them."""

from __future__ import annotations

import asyncio
import os
import signal
from time import monotonic

import aiohttp
import pytest

from tests.faults.watching import Api, Watcher, stored_blocks
from tests.nodes.cluster import LEASE, Cluster

SECONDS = 120.0
STORY = "sim/story:events=400,pace=0.01"


async def ended_elsewhere(api: Api, turn_id: str) -> float:
    """Wait until another node has ended a turn. Return the seconds."""
    began = monotonic()
    while (await api.turn(turn_id))["status"] == "streaming":  # noqa: ASYNC110 - a poll of a row
        await asyncio.sleep(0.05)
    return monotonic() - began


@pytest.mark.requirement("Q3")
async def test_a_node_that_slept_shows_no_end_of_a_turn_that_was_taken_over(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as two, cluster.node() as one:
        first, second = Api(one.url, session), Api(two.url, session)
        turn = await first.start(await first.create_chat(), "hello", STORY)
        watcher = Watcher(turn)
        await watcher.watch(first, until=lambda _: len(watcher.frames) > 10)
        watching = asyncio.create_task(watcher.watch(first))
        os.kill(one.pid, signal.SIGSTOP)
        passed = await ended_elsewhere(second, turn)
        row = await second.turn(turn)
        os.kill(one.pid, signal.SIGCONT)
        await watching
        print(f"completed elsewhere {passed:.2f} s after the owner fell asleep, with a lease of {LEASE:g} s")
        assert row["status"] == "complete"
        assert watcher.ended, "the old owner is a mirror now, on the same connection"
        for api in (first, second):
            again = await api.turn(turn)
            assert again == row, "the old owner changes nothing"
        assert watcher.fold.blocks == stored_blocks(row)
        assert watcher.terminal_events() == ["turn_complete"]
        ids = [tuple(map(int, frame.id.split("-"))) for frame in watcher.frames if frame.id]
        assert ids == sorted(ids), "ids only grow"
        fresh = await first.start(await first.create_chat(), "hello", "sim/story:events=20,pace=0.001")
        assert (await first.watched(fresh)).terminal_events() == ["turn_complete"], "it takes new turns"


async def test_a_node_that_dozes_within_its_lease_goes_on(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as two, cluster.node() as one:
        first, second = Api(one.url, session), Api(two.url, session)
        turn = await first.start(await first.create_chat(), "hello", "sim/story:events=300,pace=0.01")
        watcher = Watcher(turn)
        await watcher.watch(first, until=lambda _: len(watcher.frames) > 10)
        os.kill(one.pid, signal.SIGSTOP)
        await asyncio.sleep(LEASE / 4)  # the sleep is the case
        os.kill(one.pid, signal.SIGCONT)
        await watcher.watch(first)
        assert watcher.terminal_events() == ["turn_complete"]
        assert watcher.fold.blocks == stored_blocks(await second.turn(turn))
