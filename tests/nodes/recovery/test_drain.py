"""A node that drains: turns that show nothing move at once, and the others have the drain time to end."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf
from typing import Any

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import (
    LEASE,
    SECONDS,
    Held,
    Pair,
    check,
    codes_of,
    engines,
    read,
    read_until,
    resume,
    taken_over,
)
from tests.turnlog.watching import Client
from turnstream.config import EngineSettings
from turnstream.core.native_fold import TERMINAL_NAMES
from turnstream.errors import StoreError
from turnstream.process_signals import SignalledDrain
from turnstream.store.base import Operation
from turnstream.store.journal.operations import AppendJournal
from turnstream.store.nodes import ListNodes
from turnstream.store.operations.nodes import ClaimReleased, ClaimTurns, ReleaseTurn, ResumeClaimed
from turnstream.store.portions import HistoryBeginning
from turnstream.store.queries import GetTurn
from turnstream.tools import tool
from turnstream.tools.asking import ApprovalAnswer

MODEL = "sim/tools:pace=0.001"
STORY = "sim/story:events=150,pace=0.01"
SILENT = "sim/story:first=1.5,events=20,pace=0.001"


class Bench:
    """The tools of both engines. One waits for `gate`, one does not, and one asks first."""

    def __init__(self) -> None:
        self.gate, self.began = asyncio.Event(), asyncio.Event()

    @property
    def functions(self) -> list[Any]:
        @tool
        async def hold(thing: str) -> str:
            """Hold a thing."""
            self.began.set()
            await self.gate.wait()
            return f"{thing} is held"

        @tool
        def look(thing: str) -> str:
            """Look at a thing."""
            return f"{thing} is there"

        @tool(ask="always")
        def delete(path: str) -> str:
            """Delete a file."""
            return f"{path} is gone"

        return [hold, look, delete]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
async def pair(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, bench: Bench) -> AsyncIterator[Pair]:
    async with engines(cluster, monkeypatch, options={"tools": bench.functions}) as pair:
        yield pair


def names_of(client: Client) -> list[str]:
    return [frame.name for frame in client.frames]


async def in_a_tool(pair: Pair, bench: Bench) -> str:
    """Start a turn on the first engine, whose tool runs until the gate opens."""
    turn = await pair.one.send("go", model=MODEL, tools=("hold",))
    await bench.began.wait()
    return turn.id


@pytest.mark.requirement("Q6")
async def test_turns_that_show_nothing_move_at_once_and_the_others_finish(pair: Pair, bench: Bench) -> None:
    """One turn is between two steps, the model of another has not answered, and the tool of a third runs."""
    held = pair.stores[0].after_read = Held(
        lambda query: isinstance(query, HistoryBeginning) and names_of(client).count("block_stop") > 2
    )
    client = Client()
    between = await pair.one.send("go", model=MODEL, tools=("look",))
    await read_until(
        pair.one,
        between.id,
        client,
        lambda client: any(block.block_type == "tool_result" for block in client.now.blocks),
    )
    await held.began.wait()
    running = await in_a_tool(pair, bench)
    silent = await pair.one.send("hello", model=SILENT)
    of_silent, of_running = Client(), Client()
    await read_until(pair.one, silent.id, of_silent, lambda client: bool(client.frames))
    draining = asyncio.create_task(pair.one.drain(SECONDS))
    await resume(pair, silent.id, of_silent)
    held.go.set()
    await resume(pair, between.id, client)
    assert not draining.done(), "the tool still runs"
    bench.gate.set()
    await read(await pair.one.subscribe(running), of_running)
    await draining
    for moved, seen in ((silent.id, of_silent), (between.id, client)):
        await check(pair, moved, seen)
        assert "block_reset" not in names_of(seen)
        assert codes_of(seen)[-1] == "moved"
    await check(pair, running, of_running)
    assert "moved" not in codes_of(of_running)
    assert not pair.store.times_of(ClaimTurns), "the other node is too young to claim lost turns"
    assert pair.store.times_of(ClaimReleased)


@pytest.mark.requirement("Q6", "G7")
async def test_a_draining_node_lets_the_watchers_of_waiting_turns_go_and_stores_answers(
    pair: Pair, bench: Bench
) -> None:
    """The other node continues the turn, although it does not get the answer."""
    asked = await pair.one.send("go", model=MODEL, tools=("delete",))
    client = Client()
    subscription = await pair.one.subscribe(asked.id)
    while "approval_request" not in names_of(client):
        await read(subscription, client, frames=1)
    await pair.one.commands.ended(asked.id)
    await in_a_tool(pair, bench)
    draining = asyncio.create_task(pair.one.drain(SECONDS))
    await read(subscription, client)
    assert not draining.done()
    approvals = await pair.one.commands.approvals.pending(asked.id)
    for approval in approvals:
        await pair.one.commands.approvals.answer("local", asked.id, approval.id, ApprovalAnswer(True))
    await resume(pair, asked.id, client)
    assert not draining.done()
    await check(pair, asked.id, client)
    bench.gate.set()
    await draining


@pytest.mark.requirement("Q6")
async def test_a_released_turn_is_watched_and_stopped_before_a_node_has_claimed_it(pair: Pair) -> None:
    held = pair.store.before = Held(ClaimReleased)
    watched, stopped = [await pair.one.send("hello", model=SILENT) for _ in range(2)]
    draining = asyncio.create_task(pair.one.drain(SECONDS))
    await held.began.wait()
    await draining
    joining = asyncio.create_task(pair.two.subscribe(watched.id))
    await pair.two.commands.interrupt("local", stopped.id)
    assert (await pair.end_of(stopped.id))[0].status == "cancelled"
    held.go.set()
    client = Client()
    await read(await joining, client)
    await check(pair, watched.id, client)


@pytest.mark.requirement("Q6")
@pytest.mark.parametrize("held_write", [AppendJournal, ReleaseTurn])
async def test_a_second_signal_does_not_keep_stopped_turns_from_being_released(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, held_write: type[Operation[Any]]
) -> None:
    """The signal comes after the turns were stopped, and before they are released."""
    settings = EngineSettings(journal_interval=SECONDS)
    async with engines(cluster, monkeypatch, options={"settings": settings}) as pair:
        silent = [await pair.one.send("hello", model=SILENT) for _ in range(2)]
        clients = [Client() for _ in silent]
        for turn, client in zip(silent, clients, strict=True):
            await read_until(pair.one, turn.id, client, lambda client: bool(client.frames))
        ended = asyncio.Event()
        signals = SignalledDrain(pair.one.drain, SECONDS, ended.set)
        held = pair.stores[0].before = Held(held_write)
        signals.signalled()
        await held.began.wait()
        executors = pair.one.commands.registry.running()
        await asyncio.gather(*(executor.ended.wait() for executor in executors))
        signals.signalled()
        await asyncio.sleep(0)  # the first drain is cancelled
        await asyncio.sleep(0)
        assert not ended.is_set()
        held.go.set()
        await signals.wait()
        assert ended.is_set()
        for turn, client in zip(silent, clients, strict=True):
            await resume(pair, turn.id, client)
            await check(pair, turn.id, client)
            assert codes_of(client)[-1] == "moved"
            assert "block_reset" not in names_of(client)


@pytest.mark.requirement("Q6")
async def test_watchers_of_a_turn_that_moves_in_mid_text_lose_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drain is 0, and nothing else writes the journal."""
    settings = EngineSettings(journal_interval=SECONDS)
    async with engines(cluster, monkeypatch, options={"settings": settings}) as pair:
        client, late = Client(), Client()
        turn = await pair.one.send("hello", model=STORY)
        subscription = await pair.one.subscribe(turn.id)
        await read(subscription, client, frames=20)
        await pair.one.drain(0.0)
        await read(subscription, client)
        await resume(pair, turn.id, client)
        await resume(pair, turn.id, late)
        await check(pair, turn.id, client, late)
        assert codes_of(client) == ["draining", "moved"], "none is truncated"
        stored, _ = await pair.end_of(turn.id)
        ((_, fence),) = stored.fences
        assert fence > 20


@pytest.mark.requirement("Q6", "Q7")
async def test_a_node_that_stops_without_its_lease_leaves_its_turns_to_others(
    pair: Pair, cluster: Cluster
) -> None:
    """The leases of both nodes have lapsed, as they do while the database is away."""
    client = Client()
    turn = await pair.one.send("hello", model=STORY)
    subscription = await pair.one.subscribe(turn.id)
    await read(subscription, client, frames=20)
    pair.one._node.lease.deadline = -inf
    await cluster.execute("UPDATE turnstream_nodes SET heartbeat_at = 0")
    await pair.one.drain(0.0)
    await read(subscription, client)
    await resume(pair, turn.id, client)
    await check(pair, turn.id, client)


@pytest.mark.requirement("Q6", "Q7")
async def test_a_node_that_stops_while_its_database_fails_ends_no_turn(pair: Pair) -> None:
    async def fail(query: object) -> None:
        if isinstance(query, ListNodes):
            raise StoreError("the database is away")

    client = Client()
    turn = await pair.one.send("hello", model=STORY)
    subscription = await pair.one.subscribe(turn.id)
    await read(subscription, client, frames=20)
    pair.stores[0].after_read = fail
    await pair.one.drain(0.0)
    await read(subscription, client)
    assert names_of(client)[-1] not in TERMINAL_NAMES
    stored = await pair.store.read(GetTurn(owner=None, turn_id=turn.id))
    assert (stored.status, stored.node) == ("streaming", pair.one._node.id)
    async with taken_over(pair, turn.id):
        pass
    await resume(pair, turn.id, client)
    await check(pair, turn.id, client)


@pytest.mark.requirement("Q3")
@pytest.mark.parametrize("lost_write", [ClaimReleased, ResumeClaimed])
async def test_a_turn_whose_takeover_had_no_answer_has_an_owner_all_the_same(
    pair: Pair, lost_write: type[Operation[Any]]
) -> None:
    """The write is committed, and its answer is lost. The node looks at its own turns again."""
    lost: list[Operation[Any]] = []

    async def lose(operation: Operation[Any]) -> None:
        if isinstance(operation, lost_write) and not lost:
            lost.append(operation)
            raise StoreError("the answer is lost")

    pair.store.after = lose
    turn = await pair.one.send("hello", model=SILENT)
    client = Client()
    await read_until(pair.one, turn.id, client, lambda client: bool(client.frames))
    await pair.one.drain(SECONDS)
    async with asyncio.timeout(LEASE / 3):  # a node searches for turns without an owner only after a lease
        await resume(pair, turn.id, client)
    await check(pair, turn.id, client)
    assert lost
