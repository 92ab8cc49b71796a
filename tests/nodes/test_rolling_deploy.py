"""Nodes that are stopped one after another: their answers begin again on those that remain."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

import aiohttp
import pytest

from tests.faults.watching import GONE, Api, Watcher, stored_blocks
from tests.nodes.cluster import Cluster

SECONDS = 120.0
TURNS = 5


@pytest.mark.requirement("Q6")
async def test_without_time_to_drain_the_answers_begin_again_on_another_node(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as two, cluster.node() as one:
        first, second = Api(one.url, session), Api(two.url, session)
        watchers: list[Watcher] = []
        for number in range(TURNS):
            model = f"sim/story:events=300,pace=0.02,seed={number}"
            watchers.append(Watcher(await first.start(await first.create_chat(), "hello", model)))
        watching = [asyncio.create_task(watcher.watch(first)) for watcher in watchers]
        while not all(len(watcher.frames) > 10 for watcher in watchers):  # noqa: ASYNC110 - frames of five watchers
            await asyncio.sleep(0.02)
        os.kill(one.pid, signal.SIGTERM)
        assert await one.ended() == 0
        for task in watching:
            with suppress(*GONE):
                await task
        assert not any(watcher.ended for watcher in watchers)
        for watcher in watchers:
            while not watcher.ended:  # a takeover may disconnect it once more
                await watcher.watch(second)
            row = await second.turn(watcher.turn_id)
            assert (row["status"], watcher.terminal_events()) == ("complete", ["turn_complete"])
            assert watcher.fold.blocks == stored_blocks(row)
        resets = sum(frame.name == "block_reset" for watcher in watchers for frame in watcher.frames)
        print(f"{TURNS} turns moved: 0 failed, {resets} began again")
