"""Watchers of a turn that their own node takes over: before, during and after its recovery."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple, TypeVar

import pytest

import turnstream.engine
from tests.nodes.cluster import Cluster
from tests.turnlog.watching import Client
from tests.turns.world import RecordingStore
from turnstream.config import NodeSettings
from turnstream.core.blocks import Block
from turnstream.core.cursor import first_generation, parse_cursor
from turnstream.core.native_fold import TERMINAL_NAMES
from turnstream.core.stream_events import ContentBlockStart, StreamEvent, TextDelta
from turnstream.engine import Engine
from turnstream.store.base import Operation, Query
from turnstream.store.journal.following import ReadUnfinished
from turnstream.store.operations.nodes import ClaimTurn, ResumeClaimed
from turnstream.turnlog.subscription import Subscription

SECONDS = 60.0
STORY = "sim/story:events=150,pace=0.01"
LEASE = 60.0
"""Seconds. Within it no engine claims by itself."""
Result = TypeVar("Result")


class HeldStore(RecordingStore):
    """A store that can hold the answer of a read, too."""

    after_read: Callable[[Query[Any]], Awaitable[None]] | None = None

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        answer = await super().read(query, seconds=seconds)
        if self.after_read is not None:
            await self.after_read(query)
        return answer


class Held:
    """Holds the first call of one kind, until `go` is set."""

    def __init__(self, kind: type[Operation[Any] | Query[Any]]) -> None:
        self._kind = kind
        self.began, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, call: Operation[Any] | Query[Any]) -> None:
        if isinstance(call, self._kind) and not self.began.is_set():
            self.began.set()
            await self.go.wait()


class Pair(NamedTuple):
    """Two engines of this process on one database."""

    one: Engine
    two: Engine
    store: HeldStore
    """The store of the second."""


@pytest.fixture
async def pair(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setattr(turnstream.engine, "SqlStore", HeldStore)
    nodes = NodeSettings(lease=LEASE)
    async with (
        asyncio.timeout(SECONDS),
        Engine(cluster.url, nodes=nodes) as one,
        Engine(cluster.url, nodes=nodes) as two,
    ):
        assert isinstance(two._store, HeldStore)
        yield Pair(one, two, two._store)


@asynccontextmanager
async def taken_over(pair: Pair, turn_id: str) -> AsyncIterator[asyncio.Task[int]]:
    """The task in which the second engine takes over a turn of the first, which is as good as lost."""
    claim = ClaimTurn(turn_id=turn_id, node=pair.two._node.id, generation=first_generation(turn_id))
    claimed = await pair.store.write(claim)
    task = asyncio.create_task(pair.two.commands.recovery.recover([claimed]))
    yield task
    assert await task == 1


async def read(subscription: Subscription, client: Client, *, frames: int | None = None) -> None:
    """Read until the client has so many frames more, or to the end."""
    most = None if frames is None else len(client.frames) + frames
    while most is None or len(client.frames) < most:
        if (data := await subscription.next()) is None:
            return
        client.receive(data)


async def begun(pair: Pair) -> tuple[str, Client]:
    """A turn of the first engine, and a client that has seen its first text."""
    turn = await pair.one.send("hello", model=STORY)
    client = Client()
    subscription = await pair.one.subscribe(turn.id)
    await read(subscription, client, frames=20)
    subscription.close()
    return turn.id, client


async def check(pair: Pair, turn_id: str, *clients: Client) -> None:
    """The turn is complete, and all clients have its blocks and one end."""
    turn, rows, *_ = await pair.two.commands.state("local", turn_id)
    blocks: list[Block] = [row.block for row in rows]
    assert turn.status == "complete"
    for client in clients:
        assert client.now.blocks == blocks
        ends = [frame.name for frame in client.frames if frame.name in TERMINAL_NAMES]
        assert ends == ["turn_complete"]


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
