"""The store on SQLite: the one-writer lock, the schema, the writer and the readers, put together."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TypeVar

from turnstream.errors import NotStarted, StoreError, TurnstreamError
from turnstream.store.base import Operation, Query
from turnstream.store.checkpoint import Checkpointer, ReadGate
from turnstream.store.connections import database_path, prepare_folder, reader_engine, writer_engine
from turnstream.store.lock import WriterLock
from turnstream.store.migrations import bring_up_to_date
from turnstream.store.readers import Readers
from turnstream.store.writer import Writer
from turnstream.telemetry.measures import StoreMeasures

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

_READER_THREADS = 4
_CLOSE_TIMEOUT = 30.0


class SqlStore:
    """A `Store` in the SQLite file that `url` (`sqlite:///PATH`) names; its folder is made when it is missing.

    `write_timeout` and `read_timeout` are in seconds; `capacity` bounds the writes, and the reads, that wait at once.
    It belongs to the event loop that opened it. Raises ConfigurationError for a URL that names no file.
    """

    def __init__(
        self, url: str, *, write_timeout: float = 5.0, read_timeout: float = 5.0, capacity: int = 10_000
    ) -> None:
        self.path: Path = database_path(url).absolute()
        self.measures = StoreMeasures()
        self._write_timeout = write_timeout
        self._read_timeout = read_timeout
        self._capacity = capacity
        self._lock = WriterLock(self.path)
        self._file: tuple[int, int] | None = None
        """Device and inode of the file that is open."""
        self._is_replaced = False
        self._writer: Writer | None = None
        self._readers: Readers | None = None
        self._was_opened = False

    async def open(self) -> None:
        """Take the one-writer lock, bring the schema up to date, start the writer and the readers."""
        if self._writer is not None:
            raise StoreError("the store is open already", retryable=False)
        preparing = asyncio.get_running_loop().run_in_executor(None, self._prepare)
        try:
            await asyncio.shield(preparing)
        except asyncio.CancelledError:
            preparing.add_done_callback(self._abandon)
            raise
        self._was_opened = True
        self._file = _identity(self.path)
        # Another program's lock on the file is waited for, but not as long as the write itself may take.
        busy_timeout = self._write_timeout * 0.8
        gate = ReadGate()
        self._writer = Writer(
            writer_engine(self.path, busy_timeout),
            timeout=self._write_timeout,
            capacity=self._capacity,
            measures=self.measures,
            checkpointer=Checkpointer(self.path, gate),
        )
        self._readers = Readers(
            reader_engine(self.path, busy_timeout, _READER_THREADS),
            gate=gate,
            threads=_READER_THREADS,
            timeout=self._read_timeout,
            capacity=self._capacity,
            measures=self.measures,
        )

    async def close(self) -> None:
        """Commit what was given to `write`, then let go of everything. Closing again does nothing.

        Raises StoreError when the last writes take over 30 s; the lock is kept then.
        """
        self._file = None
        writer, self._writer = self._writer, None
        readers, self._readers = self._readers, None
        if writer is not None and readers is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._shut_down, writer, readers)

    def health(self) -> str | None:
        """Return why nothing that is written now can be kept, or None. It is logged once."""
        if self._file is None or _identity(self.path) == self._file:
            return None
        reason = (
            f"the database file {self.path} was deleted or replaced while it was open: what is written now is lost; "
            "restart the server"
        )
        if not self._is_replaced:
            self._is_replaced = True
            logger.critical("%s", reason)
        return reason

    async def write(self, operation: Operation[Result]) -> Result:
        """Apply durably; see `Store.write`. After a timeout the operation may still be applied."""
        if self._writer is None:
            raise self._not_open()
        return await self._writer.submit(operation)

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        """Fetch from a state that holds everything committed before this call; see `Store.read`."""
        if self._readers is None:
            raise self._not_open()
        return await self._readers.fetch(query, seconds=seconds)

    def _not_open(self) -> TurnstreamError:
        if self._was_opened:
            return StoreError("the store was closed", retryable=False)
        return NotStarted(
            "the engine was not started: enter it in the lifespan of the application (`async with engine:`); a "
            "mounted application gets no lifespan events of its own"
        )

    def _prepare(self) -> None:
        prepare_folder(self.path)
        self._lock.acquire()
        try:
            bring_up_to_date(self.path)
        except BaseException:
            self._lock.release()
            raise

    def _abandon(self, preparing: asyncio.Future[None]) -> None:
        if not preparing.cancelled() and preparing.exception() is None:
            self._lock.release()

    def _shut_down(self, writer: Writer, readers: Readers) -> None:
        try:
            writer.close(_CLOSE_TIMEOUT)
        finally:
            readers.close()
        self._lock.release()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
