"""Nodes that are stopped one after another: their answers begin again on those that remain."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, suppress

import aiohttp
import pytest

from tests.faults.watching import GONE, Api, Watcher, stored_blocks
from tests.nodes.cluster import Cluster
from turnstream.turns.takeover.restarting import MOST_RECOVERIES

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


@pytest.mark.requirement("Q6")
async def test_planned_stops_do_not_count_toward_the_recoveries(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    """More nodes are stopped under one answer than may be lost."""
    stops = MOST_RECOVERIES + 1
    async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(cluster.node()) for _ in range(stops + 1)]
        apis = [Api(node.url, session) for node in nodes]
        turn = await apis[0].start(await apis[0].create_chat(), "hello", "sim/story:events=400,pace=0.02")
        watcher = Watcher(turn)
        for _ in range(stops):
            ((address,),) = await cluster.rows(
                "SELECT address FROM turnstream_nodes JOIN turnstream_turns ON node = turnstream_nodes.id"
                " WHERE turnstream_turns.id = %s",
                turn,
            )
            pid = int(address.rpartition("pid ")[2].rstrip(")"))
            owner = next(node for node in nodes if node.pid == pid)
            seen = len(watcher.frames)
            await watcher.watch(
                Api(owner.url, session), until=lambda _, seen=seen: len(watcher.frames) > seen + 15
            )
            os.kill(owner.pid, signal.SIGTERM)
            assert await owner.ended() == 0
            nodes.remove(owner)
            while not await cluster.rows(  # noqa: ASYNC110 - a poll of a row
                "SELECT 1 FROM turnstream_turns WHERE id = %s AND taken_from IS NULL AND node IS NOT NULL",
                turn,
            ):
                await asyncio.sleep(0.05)
        (last,) = nodes
        while not watcher.ended:
            await watcher.watch(Api(last.url, session))
        row = await Api(last.url, session).turn(turn)
        assert (row["status"], watcher.terminal_events()) == ("complete", ["turn_complete"])
        assert watcher.fold.blocks == stored_blocks(row)
        codes = [frame.data.get("code") for frame in watcher.frames if frame.name == "notice"]
        assert codes.count("moved") == stops
        assert "recovered" not in codes
