"""Watchers of a turn that another node has taken over. They get the rest over the same connection."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import Pair, check, codes_of, engines, read, taken_over
from tests.turnlog.watching import Client
from turnstream.core.identifiers import new_id
from turnstream.errors import NotFound
from turnstream.store.operations.nodes import ClaimTurn

STORY = "sim/story:events=150,pace=0.01"


@pytest.fixture
async def pair(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    async with engines(cluster, monkeypatch, options={}) as pair:
        yield pair


@pytest.mark.requirement("Q3")
async def test_the_log_of_a_fenced_owner_becomes_a_mirror_of_the_new_one(pair: Pair) -> None:
    """The owner notices the claim when its next write is refused. Text that it showed meanwhile is lost."""
    turn = await pair.one.send("hello", model=STORY)
    client, late = Client(), Client()
    subscription = await pair.one.subscribe(turn.id)
    await read(subscription, client, frames=20)
    executor = pair.one.commands.registry.executor(turn.id)
    assert executor is not None
    async with taken_over(pair, turn.id):
        pass
    while executor.task is not None and not executor.superseded:
        await read(subscription, client, frames=1)
    await executor.ended.wait()
    joined = await pair.one.subscribe(turn.id)
    assert joined.log is subscription.log is executor.log
    await read(joined, late)
    await read(subscription, client)
    await check(pair, turn.id, client, late)
    assert {"truncated", "recovered"} <= set(codes_of(client))
    assert "truncated" not in codes_of(late)


@pytest.mark.requirement("Q3")
async def test_watchers_of_a_fenced_owner_see_that_another_node_has_cancelled_the_turn(pair: Pair) -> None:
    turn = await pair.one.send("hello", model=STORY)
    client = Client()
    subscription = await pair.one.subscribe(turn.id)
    await read(subscription, client, frames=20)
    stored, _ = await pair.end_of(turn.id)
    claim = ClaimTurn(turn_id=turn.id, node=pair.two._node.id, generation=stored.generation)
    await pair.two.commands.recovery.cancel(await pair.store.write(claim))
    await read(subscription, client)
    stored, blocks = await pair.end_of(turn.id)
    assert stored.status == "cancelled"
    assert client.frames[-1].name == "turn_cancelled"
    assert client.now.blocks == blocks


@pytest.mark.requirement("Q3")
async def test_no_other_node_knows_a_turn_without_rows(pair: Pair) -> None:
    """Its watchers get a typed error there. It has a code of its own once the turn's node is lost."""
    turn = await pair.one.send("hello", model=STORY, store=False)
    client = Client()
    subscription = await pair.one.subscribe(turn.id)
    await read(subscription, client, frames=5)
    assert await code_elsewhere(pair, turn.id) == "not_found"
    await pair.one.drain(0.0)
    await read(subscription, client)
    assert client.frames[-1].data["code"] == "server_shutdown"
    assert await code_elsewhere(pair, turn.id) == "not_found"
    await pair.one._background._heartbeats.end()
    assert await code_elsewhere(pair, turn.id) == "turn_lost"
    assert await code_elsewhere(pair, new_id()) == "not_found"


async def code_elsewhere(pair: Pair, turn_id: str) -> str:
    """Return the code that a watcher on the second node gets."""
    with pytest.raises(NotFound) as refused:
        await pair.two.subscribe(turn_id)
    return refused.value.code
