"""Everything below the HTTP routes, on a real SQLite file: the engine's parts, with deadlines for tests."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, event

from tests.turnlog.watching import Client
from turnstream.core.blocks import Block
from turnstream.core.cursor import parse_cursor
from turnstream.core.identifiers import new_id
from turnstream.core.turn_events import SourceEvent
from turnstream.dialects.native import NativeEncoder
from turnstream.model_loop.sources import ForeignSource, TurnSource
from turnstream.providers.catalog import Catalog
from turnstream.providers.circuit import CircuitPolicy, Circuits
from turnstream.providers.decisions import RetryPolicy
from turnstream.providers.plan import Planner
from turnstream.providers.pricing import Pricing
from turnstream.simulator.registration import SIMULATOR
from turnstream.store.base import BlockRecord, Operation, Query
from turnstream.store.queries import AllBlocks
from turnstream.store.sql import SqlStore
from turnstream.store.transient.store import LayeredStore
from turnstream.tools import ToolRunner
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.subscription import Subscription
from turnstream.turns.commands import Commands, StartedTurn, TurnRequest
from turnstream.turns.ending import StopCause
from turnstream.turns.executor import Executor
from turnstream.turns.journal import JournalKeeper
from turnstream.turns.model_turns import ExecutorOptions
from turnstream.turns.new_turns import TurnState
from turnstream.turns.registry import Registry
from turnstream.turns.watching import SubscriptionMaker

SECONDS = 15.0
OWNER = "local"
Result = TypeVar("Result")
Batch = Sequence[SourceEvent]


class RecordingStore(SqlStore):
    """The real store. It records the time of each write, and can hold a write before or after its commit."""

    def __init__(self, url: str, **limits: Any) -> None:
        super().__init__(url, **limits)
        self.writes: list[tuple[float, Operation[Any]]] = []
        self.reads: list[type[Query[Any]]] = []
        self.before: Callable[[Operation[Any]], Awaitable[None]] | None = None
        self.after: Callable[[Operation[Any]], Awaitable[None]] | None = None

    async def write(self, operation: Operation[Result]) -> Result:
        self.writes.append((asyncio.get_running_loop().time(), operation))
        if self.before is not None:
            await self.before(operation)
        answer = await super().write(operation)
        if self.after is not None:
            await self.after(operation)
        return answer

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        self.reads.append(type(query))
        return await super().read(query, seconds=seconds)

    def times_of(self, kind: type[Operation[Any]]) -> list[float]:
        return [at for at, operation in self.writes if isinstance(operation, kind)]


class World:
    """The turns of one process. A model is called once unless `retry` differs. Leaving the context ends the
    turns; `crash` leaves it like SIGKILL."""

    def __init__(
        self,
        path: Path,
        *,
        store_timeout: float = 5.0,
        ring_limit: int = 64 * 1024,
        debug: bool = False,
        tools: ToolRunner | None = None,
        pricing: Pricing | None = None,
        retry: RetryPolicy | None = None,
        **limits: Any,
    ) -> None:
        self.path = path
        self.store = RecordingStore(f"sqlite:///{path}", write_timeout=store_timeout)
        turns = LayeredStore(self.store)
        self.registry = Registry(transient=turns.transient, **limits)
        self.catalog = Catalog({}, in_process=SIMULATOR, environ={})
        self.planner = Planner(retry or RetryPolicy(attempts=1), Circuits(CircuitPolicy(failures=1000)))
        self.commands = Commands(
            turns,
            self.registry,
            self.catalog,
            NativeEncoder,
            ExecutorOptions(
                ring_limit,
                debug,
                tools or ToolRunner({}),
                pricing,
                planner=self.planner,
            ),
        )
        self.watching = SubscriptionMaker(self.commands, NativeEncoder)
        self.journal = JournalKeeper(self.store, self.registry.journal_parts)
        self.recovered = 0

    async def __aenter__(self) -> Self:
        await self.store.open()
        self.recovered = await self.commands.recovery.end_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with asyncio.timeout(SECONDS):
            await self.registry.stop_all()
            await self.commands.approvals.close()
            await self.commands.recovery.close()
            await self.catalog.close()
            await self.store.close()

    async def crash(self) -> None:
        """Drop everything without an end, so that only the file is left."""
        tasks = [executor.task for executor in self.registry._active.values() if executor.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks) if tasks else None
        self.registry._lost.clear()
        await self.store.close()

    async def chat(self, owner: str = OWNER) -> str:
        return (await self.commands.chats.create(owner)).id

    async def ask(self, text: str, *, chat_id: str | None = None, **options: Any) -> StartedTurn:
        chat_id = chat_id or await self.chat()
        request = TurnRequest(chat_id=chat_id, blocks=(Block(0, "text", text),), **options)
        return await self.commands.send(OWNER, request)

    async def start(self, source: TurnSource, **options: Any) -> Executor:
        request = TurnRequest(chat_id=options.pop("chat_id", None) or await self.chat(), **options)
        started = await self.commands.start(OWNER, request, source)
        return self.executor(started.assistant_turn.id)

    async def start_foreign(self, events: AsyncIterator[Any], **options: Any) -> Executor:
        return await self.start(ForeignSource(events), **options)

    def executor(self, turn_id: str) -> Executor:
        executor = self.registry.get(turn_id)
        assert executor is not None
        return executor

    async def state(self, turn_id: str) -> TurnState:
        return await self.commands.state(OWNER, turn_id)

    async def ended(self, turn_id: str) -> TurnState:
        async with asyncio.timeout(SECONDS):
            await self.commands.ended(turn_id)
        return await self.state(turn_id)

    async def stored(self, turn_id: str) -> list[BlockRecord]:
        """Return the rows of the file, regardless of the state of the process."""
        return await self.store.read(AllBlocks(turn_id=turn_id))

    async def watch(self, turn_id: str, cursor: str | None = None) -> Subscription:
        after = parse_cursor(cursor) if cursor is not None else None
        return await self.watching.subscribe(OWNER, turn_id, after=after)

    async def watched(self, turn_id: str, client: Client | None = None) -> Client:
        """Return a client at the turn's end. A given client resumes."""
        client = client or Client()
        subscription = await self.watch(turn_id, client.reconnect())
        async with asyncio.timeout(SECONDS):
            while (data := await subscription.next()) is not None:
                client.receive(data)
        return client


class Feed:
    """A foreign stream with the events and the times of the test."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._items: asyncio.Queue[Batch | BaseException | None] = asyncio.Queue()
        self._wants_more = asyncio.Event()

    def put(self, *events: SourceEvent) -> None:
        self._items.put_nowait(events)

    async def say(self, *events: SourceEvent) -> None:
        """Return when the executor has taken all events that it can take without waiting, and asks for
        more."""
        self._wants_more.clear()
        self._items.put_nowait(events)
        async with asyncio.timeout(SECONDS):
            await self._wants_more.wait()

    def end(self, error: BaseException | None = None) -> None:
        self._items.put_nowait(error)

    async def events(self) -> AsyncIterator[Batch]:
        try:
            while True:
                if self._items.empty():
                    self._wants_more.set()
                item = await self._items.get()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.closed.set()


@contextmanager
def write_lock(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that holds the database's write lock."""
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    finally:
        connection.close()


class FullDisk:
    """Fills the database of a store: it may take no further page."""

    def __init__(self, store: SqlStore) -> None:
        assert store._open is not None
        self.full = False
        event.listen(store._open.writer, "begin", self._limit)

    def _limit(self, connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        (pages,) = driver.execute("PRAGMA page_count").fetchone()
        driver.execute(f"PRAGMA max_page_count = {pages if self.full else 1 << 30}").fetchone()


async def ticks(count: int) -> None:
    """Let other tasks of the loop run `times` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def logged(executor: Executor, condition: Callable[[TurnLog], bool]) -> None:
    """Wait until the turn's log satisfies a condition."""
    async with asyncio.timeout(SECONDS):
        while not condition(executor.log):
            waiter = asyncio.get_running_loop().create_future()
            executor.log.add_waiter(waiter)
            await waiter


async def shows_text(executor: Executor) -> None:
    """Wait until the open block has text."""
    await logged(executor, lambda log: log.open_block is not None and log.open_block.length > 0)


def stop_of(executor: Executor) -> asyncio.Event:
    """Return an event that is set once the executor has been asked to stop."""
    asked = asyncio.Event()
    stop = executor.stop

    def stop_and_tell(cause: StopCause) -> None:
        stop(cause)
        asked.set()

    executor.stop = stop_and_tell  # type: ignore[method-assign]
    return asked


def unknown_id() -> str:
    return new_id()
