"""A turn of one node is interrupted, deleted, approved and started once through another node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import aiohttp
import pytest

from tests.faults.watching import Api, Watcher, stored_blocks
from tests.nodes.cluster import Cluster
from tests.nodes.process_control import paused
from turnstream.store.operations.deleting import DeleteBlocks
from turnstream.store.sql import SqlStore

SECONDS = 120.0
LONG = "sim/story:events=40000,pace=0.005"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlStore]:
    """The store of a node that serves no watcher."""
    store = SqlStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def begun(api: Api, turn_id: str) -> Watcher:
    """A watcher that has seen the turn's first text."""
    watcher = Watcher(turn_id)
    await watcher.watch(api, until=lambda _: len(watcher.frames) > 10)
    return watcher


@pytest.mark.requirement("Q5")
async def test_an_interrupt_from_another_node_stops_the_turn_within_a_second(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as one, cluster.node() as two:
        first, second = Api(one.url, session), Api(two.url, session)
        turn = await first.start(await first.create_chat(), "hello", LONG)
        watcher = await begun(second, turn)
        asked = monotonic()
        status, stopped = await second.call("POST", f"/api/turns/{turn}/interrupt")
        took = monotonic() - asked
        assert (status, stopped["status"]) == (200, "cancelled")
        await watcher.watch(second)
        assert watcher.fold.blocks == stored_blocks(await second.turn(turn))
        assert watcher.terminal_events() == ["turn_cancelled"]
        assert await cluster.rows("SELECT fences FROM turnstream_turns WHERE id = %s", turn) == [("[]",)]
        print(f"the interrupt took {took:.2f} s")
        assert await cluster.rows("SELECT * FROM turnstream_stop_requests") == []


@pytest.mark.requirement("Q5")
async def test_a_node_that_does_not_answer_loses_the_turn(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as one, cluster.node() as two:
        first, second = Api(one.url, session), Api(two.url, session)
        turn = await first.start(await first.create_chat(), "hello", LONG)
        watcher = await begun(second, turn)
        with paused(one.pid):
            asked = monotonic()
            status, stopped = await second.call("POST", f"/api/turns/{turn}/interrupt")
            took = monotonic() - asked
        assert (status, stopped["status"]) == (200, "cancelled")
        await watcher.watch(second)
        expected = stored_blocks(await second.turn(turn))
        assert watcher.fold.blocks == expected
        assert watcher.terminal_events() == ["turn_cancelled"]
        late = Watcher(turn)
        while not late.ended:  # once the node that slept knows, it cuts its watchers, and they resume
            await late.watch(first)
        assert late.fold.blocks == expected
        assert late.terminal_events() == ["turn_cancelled"]
        print(f"the interrupt took {took:.2f} s while the turn's node slept")


@pytest.mark.requirement("Q5")
async def test_a_chat_is_deleted_on_another_node_while_its_turns_run(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as one, cluster.node() as two:
        first, second = Api(one.url, session), Api(two.url, session)
        chat = await first.create_chat()
        turns = [await first.start(chat, "hello", LONG), await second.start(chat, "hello", LONG)]
        watchers = [await begun(first, turn) for turn in turns]
        status, _ = await second.call("DELETE", f"/api/chats/{chat}")
        assert status == 204
        assert await cluster.rows("SELECT id FROM turnstream_turns WHERE status = 'streaming'") == []
        for watcher in watchers:
            await watcher.watch(first)
            assert watcher.ended or watcher.status == 404
        for api in (first, second):
            assert (await api.call("GET", f"/api/chats/{chat}"))[0] == 404
            assert (await api.call("GET", f"/api/turns/{turns[0]}"))[0] == 404


@pytest.mark.requirement("Q5")
async def test_one_key_on_two_nodes_starts_one_turn_and_calls_the_model_once(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as one, cluster.node() as two:
        nodes = Api(one.url, session), Api(two.url, session)
        chats = [await nodes[0].create_chat() for _ in range(20)]

        async def post(chat: str) -> None:
            answers = await asyncio.gather(
                *(
                    api.post_turn(chat, "hello", "sim/story:events=20,pace=0.001", key="the key")
                    for api in (*nodes, *nodes)
                )
            )
            started = {answer["assistant_turn"]["id"] for _, answer in answers}
            assert len(started) == 1, answers
            assert [status for status, _ in answers] == [201] * 4
            (turn,) = started
            watchers = await asyncio.gather(*(api.watched(turn) for api in nodes))
            assert watchers[0].fold.blocks == watchers[1].fold.blocks != []

        await asyncio.gather(*map(post, chats))
        rows = await cluster.rows("SELECT chat_id FROM turnstream_turns WHERE role = 'assistant'")
        assert sorted(chat for (chat,) in rows) == sorted(chats)
        calls = await cluster.rows("SELECT count(*) FROM turnstream_attempts")
        assert calls == [(len(chats),)]


@pytest.mark.requirement("Q5")
async def test_an_ended_turn_is_shown_without_what_another_node_deletes(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    """The node that wrote the turn still has its last events in memory."""
    async with asyncio.timeout(SECONDS), cluster.node() as one, cluster.node() as two:
        first, second = Api(one.url, session), Api(two.url, session)
        chat = await first.create_chat()
        turn = await first.start(chat, "hello", "sim/thinking:pace=0.001")
        whole = Watcher(turn)
        await whole.watch(first)
        assert whole.fold.blocks == stored_blocks(await second.turn(turn))
        async with opened(cluster.url) as store:
            (owner,) = (await cluster.rows("SELECT owner FROM turnstream_chats WHERE id = %s", chat))[0]
            await store.write(DeleteBlocks(turn_id=turn, owner=owner, sequences=(0,)))
        late = await first.watched(turn)
        assert late.fold.blocks == whole.fold.blocks[1:] != []
        assert (await second.call("DELETE", f"/api/chats/{chat}"))[0] == 204
        for api in (first, second):
            late = Watcher(turn)
            await late.watch(api)
            assert (late.status, late.frames) == (404, [])
