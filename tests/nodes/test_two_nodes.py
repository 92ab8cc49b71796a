"""Two nodes on one database: each runs its turns, and leaves those of the other alone while it lives."""

from __future__ import annotations

import asyncio
from time import monotonic

import aiohttp
import psycopg
import pytest

from tests.faults.watching import Api, Watcher, stored_blocks
from tests.nodes.cluster import LEASE, Cluster
from turnstream.config import EngineSettings, NodeSettings

SECONDS = 120.0
LONG = "sim/story:events=40000,pace=0.005"
_OWNED = "SELECT node, generation FROM turnstream_turns WHERE id = %s"


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


@pytest.mark.requirement("Q3", "Q7")
async def test_a_write_that_waits_for_a_lock_costs_its_node_no_lease(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    """Another program locks the row of a turn for two leases, while the turn's end is written."""
    nodes = NodeSettings(lease=3.0)
    async with asyncio.timeout(SECONDS), cluster.node(nodes=nodes), cluster.node(nodes=nodes) as one:
        first = Api(one.url, session)
        watched, locked = [await first.start(await first.create_chat(), "hello", LONG) for _ in range(2)]
        watcher = await watch_some(first, watched)
        (before,) = await cluster.rows(_OWNED, watched)
        async with await psycopg.AsyncConnection.connect(cluster.url) as outsider:
            await outsider.execute("SELECT 1 FROM turnstream_turns WHERE id = %s FOR UPDATE", (locked,))
            stopping = asyncio.create_task(first.call("POST", f"/api/turns/{locked}/interrupt"))
            await outsider.execute("SELECT pg_sleep(%s)", (2 * nodes.lease,))
            waits = await cluster.rows("SELECT 1 FROM pg_locks WHERE NOT granted")
            await outsider.rollback()
        await stopping
        assert waits, "the write has waited all the time"
        assert await cluster.rows(_OWNED, watched) == [before], "no other node has claimed the turn"
        seen = len(watcher.frames)
        await watcher.watch(first, until=lambda _: len(watcher.frames) > seen + 10)
        assert {frame.id.partition("-")[0] for frame in watcher.frames} == {str(before[1])}
        await first.call("POST", f"/api/turns/{watched}/interrupt")


async def next_page(cluster: Cluster) -> None:
    """Wait until the journal has all text that was shown before this call."""
    query = "SELECT max(page) FROM turnstream_journal"
    ((seen,),) = await cluster.rows(query)
    while (await cluster.rows(query))[0][0] in {None, seen}:  # noqa: ASYNC110 - a poll of a table
        await asyncio.sleep(0.02)


@pytest.mark.requirement("Q3")
@pytest.mark.parametrize("is_journalled", [True, False], ids=["journalled", "lost"])
async def test_the_answer_of_a_killed_node_begins_again_on_another(
    cluster: Cluster, session: aiohttp.ClientSession, *, is_journalled: bool
) -> None:
    settings = EngineSettings() if is_journalled else EngineSettings(journal_interval=SECONDS)
    async with asyncio.timeout(SECONDS), cluster.node() as two, cluster.node(engine=settings) as one:
        first, second = Api(one.url, session), Api(two.url, session)
        turn = await first.start(await first.create_chat(), "hello", "sim/story:events=400,pace=0.01")
        watcher = await watch_some(first, turn)
        if is_journalled:
            await next_page(cluster)
        await one.kill()
        killed = monotonic()
        while not await cluster.rows(
            "SELECT 1 FROM turnstream_turns WHERE id = %s AND taken_from IS NULL AND fences <> '[]'", turn
        ):
            assert monotonic() - killed < SECONDS / 2
            await asyncio.sleep(0.05)
        passed = monotonic() - killed
        print(f"recovered {passed:.2f} s after the kill, with a lease of {LEASE:g} s")
        assert passed < LEASE + 1.0 or passed < 2 * LEASE + 1.0, "or the other node waits for its own lease"
        await watcher.watch(second)
        row = await second.turn(turn)
        assert (row["status"], watcher.terminal_events()) == ("complete", ["turn_complete"])
        assert watcher.fold.blocks == stored_blocks(row)
        names = [frame.name for frame in watcher.frames]
        codes = [frame.data.get("code") for frame in watcher.frames if frame.name == "notice"]
        if is_journalled:
            assert "block_reset" in names, "what was shown is retracted"
        else:
            assert "truncated" in codes, "the watcher is told that what it has is lost"
        assert "recovered" in codes, "the watcher is told"
        assert (await second.watched(turn)).fold.blocks == stored_blocks(row), "a late watcher gets the same"
