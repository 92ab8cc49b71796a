"""Two nodes on one database: each runs its turns, and leaves those of the other alone while it lives."""

from __future__ import annotations

import asyncio
from time import monotonic

import aiohttp
import pytest

from tests.faults.watching import Api, Watcher, stored_blocks
from tests.nodes.cluster import LEASE, Cluster

SECONDS = 120.0
LONG = "sim/story:events=40000,pace=0.005"


async def watch_some(api: Api, turn_id: str) -> Watcher:
    watcher = Watcher(turn_id)
    await watcher.watch(api, until=lambda _: len(watcher.frames) > 10)
    return watcher


async def test_each_node_runs_its_turns_and_ends_none_of_the_other(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as one:
        first = Api(one.url, session)
        turn = await first.start(await first.create_chat(), "hello", LONG)
        watcher = await watch_some(first, turn)
        async with cluster.node() as two:
            second = Api(two.url, session)
            other = await second.start(await second.create_chat(), "hello", "sim/story:events=200,pace=0.005")
            ended = Watcher(other)
            await ended.watch(second)
            assert ended.terminal_events() == ["turn_complete"]
            assert (await second.turn(turn))["status"] == "streaming", "its state is known on the other node"
            nodes = await cluster.rows("SELECT id, state FROM turnstream_nodes")
            assert [state for _, state in nodes] == ["running", "running"]
            owners = {
                owner for (owner,) in await cluster.rows("SELECT DISTINCT owner FROM turnstream_journal")
            }
            assert owners <= {node for node, _ in nodes}
            assert owners, "the long turn is in the journal"
        seen = len(watcher.frames)
        await watcher.watch(first, until=lambda _: len(watcher.frames) > seen + 10)
        assert not watcher.ended, "the end of the second node has not ended it"
        _, stopped = await first.call("POST", f"/api/turns/{turn}/interrupt")
        assert stopped["status"] == "cancelled"


@pytest.mark.requirement("Q3")
async def test_the_turns_of_a_killed_node_are_recovered_after_its_lease(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as two, cluster.node() as one:
        first, second = Api(one.url, session), Api(two.url, session)
        chat = await first.create_chat()
        turn = await first.start(chat, "hello", LONG)
        watcher = await watch_some(first, turn)
        await one.kill()
        killed = monotonic()
        while (row := await second.turn(turn))["status"] == "streaming":
            assert monotonic() - killed < LEASE + 5
            await asyncio.sleep(0.05)
        passed = monotonic() - killed
        print(f"recovered {passed:.2f} s after the kill, with a lease of {LEASE:g} s")
        await watcher.watch(second)
        assert watcher.fold.blocks == stored_blocks(row)
        assert watcher.terminal_events() == ["turn_error"]
        (fences,) = await cluster.rows("SELECT generation, fences FROM turnstream_turns WHERE id = %s", turn)
        assert fences[1].count("[") == 2, "one fence"
