"""The store in a database: the one-writer lock, the schema, the writers and the readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeVar

from turnstream.errors import NotStarted, StoreError, TurnstreamError
from turnstream.store.base import Operation, Query
from turnstream.store.database import OpenDatabase
from turnstream.store.migrations import bring_up_to_date
from turnstream.store.readers import Readers
from turnstream.store.urls import database_of
from turnstream.store.writers.order import REST, WriteOrder
from turnstream.store.writers.writer import Writer
from turnstream.telemetry.measures import StoreMeasures

Result = TypeVar("Result")

DEFAULT_WRITERS = 2
_READER_THREADS = 4
_CLOSE_TIMEOUT = 30.0


class SqlStore:
    """A `Store` in a database. It belongs to the event loop that opened it.

    Args:
        url: URL of the database. The missing file of a `sqlite:///PATH` is created, with its folder.
        write_timeout: Seconds before a write fails. Default: 5.
        read_timeout: Seconds before a read fails. Default: 5.
        outage: Seconds that writes wait for a server that was lost. Default: 30. The attribute of this name
            may be set before the store is opened.
        capacity: Largest number of waiting writes of each writer, and of waiting reads. Default: 10,000.

    Raises ConfigurationError if the URL does not name a database.
    """

    def __init__(
        self,
        url: str,
        *,
        write_timeout: float = 5.0,
        read_timeout: float = 5.0,
        outage: float = 30.0,
        capacity: int = 10_000,
    ) -> None:
        self.measures = StoreMeasures()
        self.on_change: Callable[[str], None] = lambda _owner: None
        self._write_timeout = write_timeout
        self._read_timeout = read_timeout
        self.outage = outage
        self.writers = DEFAULT_WRITERS
        """Number of transactions that write at once, in a database that several processes may write.

        Any other database has one. The number may be set before the store is opened.
        """
        self._capacity = capacity
        self._database = database_of(url)
        self.is_shared = self._database.is_shared
        """True if any number of processes may write the database."""
        self._open: OpenDatabase | None = None
        self._writers: tuple[Writer, ...] = ()
        """The writers of turns, among which `_order` chooses. Empty if the store is not open."""
        self._lease_writer: Writer | None = None
        """The writer of heartbeats. If only one process uses the database, it is the writer of turns, too."""
        self._order = WriteOrder(1)
        self._readers: Readers | None = None
        self._was_opened = False

    async def open(self) -> None:
        """Take the one-writer lock, upgrade the schema, start the writers and the readers."""
        if self._writers:
            raise StoreError("the store is open already", retryable=False)
        preparing = asyncio.get_running_loop().run_in_executor(None, self._prepare)
        try:
            await asyncio.shield(preparing)
        except asyncio.CancelledError:
            preparing.add_done_callback(self._abandon)
            raise
        self._was_opened = True
        # A write waits for another program's lock on the database for less time than its own deadline.
        count = self.writers if self.is_shared else 1
        self._open = database = self._database.open(self._write_timeout * 0.8, _READER_THREADS, count + 1)
        self._order = WriteOrder(count)
        self._writers = tuple(
            self._start_writer(database, f"turnstream-writer-{number}") for number in range(count)
        )
        self._lease_writer = (
            self._start_writer(database, "turnstream-lease") if self.is_shared else self._writers[REST]
        )
        self._readers = Readers(
            database,
            threads=_READER_THREADS,
            timeout=self._read_timeout,
            capacity=self._capacity,
            measures=self.measures,
        )

    async def close(self) -> None:
        """Commit the queued writes, then release all resources. Closing again does nothing.

        Raises StoreError if the last writes take over 30 s. The lock is kept then.
        """
        self._open = None
        lease_writer, self._lease_writer = self._lease_writer, None
        writers = dict.fromkeys(each for each in (*self._writers, lease_writer) if each is not None)
        self._writers = ()
        readers, self._readers = self._readers, None
        if readers is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._shut_down, tuple(writers), readers)

    def health(self) -> str | None:
        """Return the reason if new writes would be lost, else None. The reason is logged once."""
        return None if self._open is None else self._open.health()

    def outage_reason(self) -> str | None:
        """Return the reason if writes wait for a database that is lost, else None."""
        is_waiting = any(writer.is_waiting for writer in self._writers)
        return "writes wait for the database" if is_waiting else None

    async def write(self, operation: Operation[Result]) -> Result:
        """Apply an operation durably. See `Store.write`.

        After a timeout the operation may still be applied.
        """
        lease_writer = self._lease_writer
        if lease_writer is None:
            raise self._not_open()
        if operation.renews_lease:
            return await lease_writer.submit(operation)
        writer = self._writers[self._order.place(operation)]
        try:
            answer = writer.submit(operation)
        except StoreError:
            self._order.answered(operation)
            raise
        return await answer

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        """Return the query's answer. It includes all writes committed before this call. See `Store.read`."""
        if self._readers is None:
            raise self._not_open()
        return await self._readers.fetch(query, seconds=seconds)

    def _start_writer(self, database: OpenDatabase, thread: str) -> Writer:
        """Return a new writer with a thread and a connection of its own."""
        return Writer(
            database,
            thread=thread,
            timeout=self._write_timeout,
            outage=self.outage if self._database.is_shared else 0.0,
            capacity=self._capacity,
            measures=self.measures,
            on_answer=self._note_answer,
        )

    def _note_answer(self, operation: Operation[Any]) -> None:
        self._order.answered(operation)
        if (owner := operation.changed_owner) is not None:
            self.on_change(owner)

    def _not_open(self) -> TurnstreamError:
        if self._was_opened:
            return StoreError("the store was closed", retryable=False)
        return NotStarted(
            "the engine was not started: start it in the lifespan of the application (`async with engine:`); "
            "a mounted application gets no lifespan events of its own"
        )

    def _prepare(self) -> None:
        self._database.lock()
        try:
            bring_up_to_date(self._database)
        except BaseException:
            self._database.unlock()
            raise

    def _abandon(self, preparing: asyncio.Future[None]) -> None:
        if not preparing.cancelled() and preparing.exception() is None:
            self._database.unlock()

    def _shut_down(self, writers: Sequence[Writer], readers: Readers) -> None:
        for writer in writers:
            writer.stop()
        until = monotonic() + _CLOSE_TIMEOUT
        have_ended = [writer.has_ended(max(0.0, until - monotonic())) for writer in writers]
        readers.close()
        if not all(have_ended):
            raise StoreError(f"the writes still queued were not committed within {_CLOSE_TIMEOUT:g} s")
        self._database.unlock()
