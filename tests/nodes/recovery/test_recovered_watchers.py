"""Watchers of a turn that their own node takes over: before, during and after its recovery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import LEASE, Held, Pair, check, engines, read, taken_over
from tests.server.test_metrics import values
from tests.turnlog.watching import Client
from turnstream.core.cursor import parse_cursor
from turnstream.core.stream_events import ContentBlockStart, StreamEvent, TextDelta
from turnstream.store.journal.following import ReadUnfinished
from turnstream.store.nodes import ListNodes
from turnstream.store.operations.nodes import ResumeClaimed

STORY = "sim/story:events=300,pace=0.01"


@pytest.fixture
async def pair(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    async with engines(cluster, monkeypatch, options={}) as pair:
        yield pair


async def begun(pair: Pair) -> tuple[str, Client]:
    """Start a turn on the first engine. Return its id, and a client that has seen its first text."""
    turn = await pair.one.send("hello", model=STORY)
    client = Client()
    subscription = await pair.one.subscribe(turn.id)
    await read(subscription, client, frames=20)
    subscription.close()
    return turn.id, client


@pytest.mark.requirement("Q3")
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_watchers_that_come_while_the_recovery_is_committed_see_the_new_answer(
    pair: Pair, moment: Literal["before", "after"]
) -> None:
    turn_id, client = await begun(pair)
    held = Held(ResumeClaimed)
    setattr(pair.store, moment, held)
    late = Client()
    async with taken_over(pair, turn_id):
        await held.began.wait()
        after = parse_cursor(client.reconnect() or "")
        assert after is not None
        resumed = await pair.two.subscribe(turn_id, after=after)
        new = await pair.two.subscribe(turn_id)
        held.go.set()
    await asyncio.gather(read(resumed, client), read(new, late))
    await check(pair, turn_id, client, late)
    assert late.frames[0].name == "turn_start"
    executions = [type(operation) for _, operation in pair.store.writes].count(ResumeClaimed)
    assert executions == 1, "no watcher has claimed the turn again"


@pytest.mark.requirement("Q3")
async def test_the_watchers_of_a_mirror_go_on_with_the_answer_of_their_own_node(pair: Pair) -> None:
    turn_id, _ = await begun(pair)
    client = Client()
    subscription = await pair.two.subscribe(turn_id)
    await read(subscription, client, frames=10)
    async with taken_over(pair, turn_id):
        pass
    executor = pair.two.commands.registry.executor(turn_id)
    assert executor is not None
    assert subscription.log is executor.log
    while (
        client.frames[-1].name != "block_delta" or client.frames[-1].generation == client.frames[0].generation
    ):
        await read(subscription, client, frames=1)
    assert executor.outcome is None, "it is shown live"
    await read(subscription, client)
    await check(pair, turn_id, client)
    measured = [values(engine.metrics.render()[0].decode()) for engine in (pair.one, pair.two)]
    assert [metrics["node_recoveries_total"] for metrics in measured] == [0, 1]
    assert measured[1]["node_feed_lag_seconds_count"] > 0, "the second has read pages of the first"
    nodes = await pair.store.read(ListNodes())
    assert len(nodes) == 2
    for metrics in measured:
        assert 0 < metrics["node_lease_seconds"] < LEASE
        assert metrics["node_lease_lapses_total"] == 0
        assert metrics["store_write_seconds_count"] > 0
        assert metrics["store_read_seconds_count"] > 0
        (info,) = [name for name in metrics if name.startswith("node_info{")]
        assert sum(f"node={node.record.id}" in info for node in nodes) == 1, (
            "it has the id of a node in the table"
        )


@pytest.mark.requirement("Q3")
async def test_a_mirror_that_is_being_made_during_the_recovery_is_not_used(pair: Pair) -> None:
    turn_id, client = await begun(pair)
    held = pair.store.after_read = Held(ReadUnfinished)
    after = parse_cursor(client.reconnect() or "")
    joining = asyncio.create_task(pair.two.subscribe(turn_id, after=after))
    await held.began.wait()
    async with taken_over(pair, turn_id):
        pass
    held.go.set()
    subscription = await joining
    executor = pair.two.commands.registry.executor(turn_id)
    assert executor is not None
    assert subscription.log is executor.log
    await read(subscription, client)
    await check(pair, turn_id, client)


@pytest.mark.requirement("Q3")
async def test_a_turn_of_a_host_applications_source_ends_with_an_error_of_its_own(pair: Pair) -> None:
    more = asyncio.Event()

    async def source() -> AsyncIterator[StreamEvent]:
        yield ContentBlockStart(0, "text")
        yield TextDelta(0, "half an ")
        await more.wait()

    turn = await pair.one.start(source())
    client = Client()
    subscription = await pair.one.subscribe(turn.id)
    while not client.now.blocks:
        await read(subscription, client, frames=1)
    async with taken_over(pair, turn.id):
        pass
    more.set()
    stored, *_ = await pair.two.commands.state("local", turn.id)
    assert (stored.status, stored.error_code) == ("error", "source_lost")
