"""Turns that a test feeds, and their watchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from tests.turnlog.scripted import (
    START,
    TURN_ID,
    ListArchive,
    ListStore,
    Ticks,
    new_log,
    turn_row,
)
from tests.turnlog.watching import Client
from turnstream.core.blocks import Block
from turnstream.core.cursor import SEQ_STRIDE, Cursor, Fence, first_generation
from turnstream.core.identifiers import new_id
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    TextDelta,
)
from turnstream.core.turn_events import SourceEvent, TurnError
from turnstream.dialects.native import NativeEncoder
from turnstream.model_loop.sources import ForeignSource
from turnstream.store.base import BlockRecord
from turnstream.turnlog.base import History
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.subscription import Subscription
from turnstream.turns.executor import Executor

GENERATION = first_generation(TURN_ID)
SECONDS = 10.0


class FedTurn:
    """A turn whose source yields the events that the test gives, at the times that the test chooses."""

    def __init__(self, *, ring_limit: int = 64 * 1024) -> None:
        self.store = ListStore(Ticks())
        self.log = new_log(ring_limit=ring_limit)
        self.archive = ListArchive(self.store, Ticks())
        self.executor = Executor(turn_row(), self.log, self.store)
        self._events: asyncio.Queue[Sequence[SourceEvent] | None] = asyncio.Queue()
        self._taken = asyncio.Event()

    async def __aenter__(self) -> FedTurn:
        self.task = self.executor.start(ForeignSource(self._source()))
        self.executor.begin(START)
        await self.feed()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._events.put_nowait(None)
        async with asyncio.timeout(SECONDS):
            await self.task

    async def feed(self, *events: SourceEvent) -> None:
        """Return when the executor has taken the events, and waits for more."""
        self._taken.clear()
        self._events.put_nowait(events)
        async with asyncio.timeout(SECONDS):
            await self._taken.wait()

    def watch(self, after: Cursor | None = None, *, from_block: int = 0) -> Subscription:
        return Subscription(self.log, self.archive, after=after, from_block=from_block)

    async def _source(self) -> AsyncIterator[Sequence[SourceEvent]]:
        while (events := await self._events.get()) is not None:
            yield events
            self._taken.set()


async def drained(subscription: Subscription, client: Client | None = None) -> Client:
    """Return the frames that the subscription has ready. A live subscription is left waiting for more."""
    client = client or Client()
    async with asyncio.timeout(SECONDS):
        while subscription.cursor.seq < subscription.log.head:
            client.receive(await subscription.next() or b"")
    return client


def at(seq: int) -> Cursor:
    return Cursor(GENERATION, seq)


def text_block(index: int, text: str) -> tuple[SourceEvent, ...]:
    return ContentBlockStart(index, "text"), TextDelta(index, text), ContentBlockStop(index)


def lost_and_recovered() -> tuple[TurnLog, ListArchive]:
    """A turn whose first executor died at seq 30, of which 20 survived: block 0, and half of block 1."""
    store = ListStore(Ticks())
    partial = Block(1, "text", "half", partial=True)
    store.blocks = [
        BlockRecord(new_id(), TURN_ID, Block(0, "text", "whole"), 3, 10, 0),
        BlockRecord(new_id(), TURN_ID, partial, 11, SEQ_STRIDE, 0),
    ]
    log = TurnLog(TURN_ID, GENERATION + 1, NativeEncoder(TURN_ID, GENERATION + 1), head=SEQ_STRIDE)
    log.rebuilt(History((1, START), (), (Fence(GENERATION, 20),)), TurnError("lost", "orphaned", 1))
    return log, ListArchive(store, Ticks())


async def to_the_end(subscription: Subscription) -> Client:
    client = Client()
    async with asyncio.timeout(SECONDS):
        while (data := await subscription.next()) is not None:
            client.receive(data)
    return client
