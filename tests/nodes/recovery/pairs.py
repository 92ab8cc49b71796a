"""Two engines of this process on one database. The second takes over turns of the first."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import pytest

import turnstream.engine
from tests.nodes.cluster import Cluster
from tests.turnlog.watching import Client
from tests.turns.world import RecordingStore
from turnstream.config import NodeSettings
from turnstream.core.blocks import Block
from turnstream.core.cursor import Cursor, parse_cursor
from turnstream.core.native_fold import TERMINAL_NAMES
from turnstream.engine import Engine
from turnstream.store.base import Operation, Query, TurnRecord
from turnstream.store.operations.nodes import ClaimTurn
from turnstream.turnlog.subscription import Subscription

SECONDS = 60.0
LEASE = 60.0
"""Seconds of a lease. No engine claims turns by itself within this time."""
Result = TypeVar("Result")


class HeldStore(RecordingStore):
    """A store that can delay the answer of a read, too."""

    after_read: Callable[[Query[Any]], Awaitable[None]] | None = None

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        answer = await super().read(query, seconds=seconds)
        if self.after_read is not None:
            await self.after_read(query)
        return answer


class Held:
    """Delays the first call that counts, until `go` is set.

    Args:
        counts: A kind of call, or a function that tells if a call counts.
    """

    def __init__(self, counts: type[Any] | Callable[[Any], bool]) -> None:
        self._counts = (lambda call: isinstance(call, counts)) if isinstance(counts, type) else counts
        self.began, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, call: Operation[Any] | Query[Any]) -> None:
        if not self.began.is_set() and self._counts(call):
            self.began.set()
            await self.go.wait()


class Pair(NamedTuple):
    """Two engines on one database, and their stores."""

    one: Engine
    two: Engine
    stores: tuple[HeldStore, HeldStore]

    @property
    def store(self) -> HeldStore:
        """The store of the second."""
        return self.stores[1]

    async def end_of(self, turn_id: str) -> tuple[TurnRecord, list[Block]]:
        """Wait for the end of a turn. Return the stored turn, with its blocks."""
        turn, rows, *_ = await self.two.commands.state("local", turn_id)
        return turn, [row.block for row in rows]


@asynccontextmanager
async def engines(
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    *,
    options: dict[str, Any],
    other: dict[str, Any] | None = None,
) -> AsyncIterator[Pair]:
    """Yield two engines with `options`. `other`: the options of the second, if they differ."""
    monkeypatch.setattr(turnstream.engine, "SqlStore", HeldStore)
    nodes = NodeSettings(lease=LEASE)
    async with (
        asyncio.timeout(SECONDS),
        Engine(cluster.url, nodes=nodes, **options) as one,
        Engine(cluster.url, nodes=nodes, **(options if other is None else other)) as two,
    ):
        assert isinstance(one._store, HeldStore)
        assert isinstance(two._store, HeldStore)
        yield Pair(one, two, (one._store, two._store))


@asynccontextmanager
async def taken_over(
    pair: Pair, turn_id: str, *, by: Engine | None = None
) -> AsyncIterator[asyncio.Task[int]]:
    """Return the task in which the engine `by` takes over a turn of the other engine, as if that were lost.

    `by`: None for the second engine.
    """
    engine = by or pair.two
    turn, _ = await pair.end_of(turn_id)
    claim = ClaimTurn(turn_id=turn_id, node=engine._node.id, generation=turn.generation)
    claimed = await engine._store.write(claim)
    task = asyncio.create_task(engine.commands.recovery.recover([claimed]))
    yield task
    assert await task == 1


async def read(subscription: Subscription, client: Client, *, frames: int | None = None) -> None:
    """Read until the client has `frames` more frames, or to the end."""
    most = None if frames is None else len(client.frames) + frames
    while most is None or len(client.frames) < most:
        if (data := await subscription.next()) is None:
            return
        client.receive(data)


async def read_until(engine: Engine, turn_id: str, client: Client, reached: Callable[[Client], bool]) -> None:
    """Watch a turn on an engine until the client has seen enough."""
    subscription = await engine.subscribe(turn_id, after=cursor_of(client))
    try:
        while not reached(client):
            data = await subscription.next()
            assert data is not None, "the turn has ended"
            client.receive(data)
    finally:
        subscription.close()


async def resume(pair: Pair, turn_id: str, client: Client) -> None:
    """Watch a turn on the second engine from the client's position to the turn's end."""
    subscription = await pair.two.subscribe(turn_id, after=cursor_of(client))
    await read(subscription, client)


def cursor_of(client: Client) -> Cursor | None:
    """Return the position at which the client reconnects."""
    return parse_cursor(client.reconnect() or "")


async def check(pair: Pair, turn_id: str, *clients: Client, status: str = "complete") -> list[Block]:
    """Check that the turn has ended, and that all clients have its blocks and one end. Return the blocks."""
    turn, blocks = await pair.end_of(turn_id)
    assert turn.status == status, (turn.error_code, turn.error_message)
    end = "turn_complete" if status == "complete" else "turn_error"
    for client in clients:
        assert client.now.blocks == blocks
        assert [frame.name for frame in client.frames if frame.name in TERMINAL_NAMES] == [end]
    return blocks


def codes_of(client: Client) -> list[str]:
    """Return the codes of the client's notices."""
    return [frame.data["code"] for frame in client.frames if frame.name == "notice"]
