"""Reads in a few threads. Each query has its own transaction, on a connection that cannot write."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from turnstream.errors import RequestError, StoreError, Unreadable
from turnstream.store.base import Query
from turnstream.store.database import OpenDatabase, describe_failure
from turnstream.telemetry.measures import StoreMeasures

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_INTERRUPTION_SECONDS = 0.02
"""Seconds between two interruptions of a read that continues."""
_RECONNECT_SECONDS = 0.1
"""Seconds between two attempts of a read whose database is lost."""
_CLOSE_SECONDS = 10.0
"""Seconds that interrupted reads have to end. A server that hangs may never answer them."""


class Readers:
    """Runs queries in threads, which start when they are needed.

    At most `threads` queries run at a time, and at most `capacity` wait or run.
    """

    def __init__(
        self,
        database: OpenDatabase,
        *,
        threads: int,
        timeout: float,
        capacity: int,
        measures: StoreMeasures | None = None,
    ) -> None:
        self._database = database
        self._engine = database.reader
        self._timeout = timeout
        self._capacity = capacity
        self._measures = measures or StoreMeasures()
        self._waiting = 0
        self._unfinished = 0
        """Queries that are queued or run, also those whose callers have stopped waiting."""
        self._closed = False
        self._closing = threading.Lock()  # one connection closes at a time
        self._most_threads = threads
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[_RunningRead | None] = SimpleQueue()
        self._interrupter = ThreadPoolExecutor(1, thread_name_prefix="turnstream-interrupter")
        self._running: set[_RunningRead] = set()

    async def fetch(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        """Return the answer of `query`.

        `seconds`: the deadline. None for the readers' timeout.

        Raises the errors of the query, StoreError if storage fails or exceeds the deadline, and Unreadable if
        a row cannot be decoded.
        """
        timeout = self._timeout if seconds is None else seconds
        if self._closed:
            raise StoreError("the store is closed", retryable=False)
        if self._waiting >= self._capacity:
            raise StoreError(f"{self._capacity} reads are waiting for the database already")
        loop = asyncio.get_running_loop()
        reading = _RunningRead(self._database, query, self._is_closed, loop)
        self._waiting += 1
        began = monotonic()
        self._running.add(reading)
        deadline = loop.call_later(timeout, self._expire, reading, timeout)
        try:
            self._begin(reading)
            return cast("Result", await reading.answer)
        except asyncio.CancelledError:
            self._stop(reading)
            raise
        except (RequestError, StoreError):
            raise
        except TimeoutError as error:
            self._measures.failed_reads += 1
            raise StoreError(str(error)) from None
        except DBAPIError as error:
            self._measures.failed_reads += 1
            raise StoreError(f"the read failed: {describe_failure(error)}") from error
        except Exception as error:
            self._measures.failed_reads += 1
            raise Unreadable(f"a stored row cannot be read: {describe_failure(error)}") from error
        finally:
            deadline.cancel()
            self._waiting -= 1
            self._running.discard(reading)
            self._measures.reads.observe(monotonic() - began)

    def _begin(self, reading: _RunningRead) -> None:
        """Queue a query. Start another thread if all are busy."""
        if self._unfinished >= len(self._threads) < self._most_threads:
            name = f"turnstream-reader_{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._unfinished += 1
        self._queue.put(reading)

    def _finish(self, answer: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
        self._unfinished -= 1
        if answer.done():
            return
        if failure is not None:
            answer.set_exception(failure)
        else:
            answer.set_result(result)

    def _expire(self, reading: _RunningRead, seconds: float) -> None:
        """Fail a query whose deadline has passed."""
        self._stop(reading)
        if not reading.answer.done():
            reading.answer.set_exception(TimeoutError(f"the database did not answer within {seconds:g} s"))

    def _stop(self, reading: _RunningRead) -> None:
        """End a query: no caller waits for its answer."""
        reading.stop()
        if not self._closed:
            self._interrupter.submit(reading.interrupt)

    def _is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Refuse waiting queries, end long ones, let short ones finish, close the connections. Blocks.

        No query may begin meanwhile. After `_CLOSE_SECONDS`, threads that still read are left to themselves.
        """
        until = monotonic() + _CLOSE_SECONDS
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for reading in tuple(self._running):
            reading.interrupt()
        self._interrupter.shutdown(wait=True)
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))
        if left := sum(thread.is_alive() for thread in self._threads):
            logger.warning("%d reads have not ended: the database does not answer", left)
        self._engine.dispose()

    # -- in a thread -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        kept = _KeptConnection(self._engine)
        try:
            while self._answer_next(kept):
                pass
        finally:
            # SQLite removes its log with the last connection, unless two connections close at the same time.
            with self._closing:
                kept.close()

    def _answer_next(self, kept: _KeptConnection) -> bool:
        """Wait for a query and answer it. Return False if there are no more. No answer stays in memory."""
        if (reading := self._queue.get()) is None:
            return False
        result: Any = None
        failure: Exception | None = None
        try:
            result = reading.run(kept)
        except (RequestError, StoreError) as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - any exception is the answer
            # a future cannot hold a StopIteration
            failure = error if not isinstance(error, StopIteration) else RuntimeError(f"{error!r} in a query")
            kept.close()
        try:
            reading.loop.call_soon_threadsafe(self._finish, reading.answer, result, failure)
        except RuntimeError:
            logger.debug("the event loop has ended; the answer of a read is discarded")
        return True


class _KeptConnection:
    """The connection of one thread. After a failure the next query gets a new one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def get(self) -> Connection:
        """Return the connection. Raises DBAPIError if it cannot be opened."""
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def close(self) -> None:
        """Close the connection, if it is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


class _RunningRead:
    """One query, which can be stopped while it runs."""

    def __init__(
        self,
        database: OpenDatabase,
        query: Query[Any],
        is_closed: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.loop = loop
        self.answer: asyncio.Future[Any] = loop.create_future()
        self._database = database
        self._query = query
        self._is_closed = is_closed
        self._unwanted = False
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        """Held while the connection is taken or left, so that no other query is interrupted."""

    def run(self, kept: _KeptConnection) -> Any:
        """Return the query's answer. If the database is lost, read again on a new connection.

        Raises StoreError if the store was closed before.
        """
        while True:
            try:
                return self._read(kept)
            except Exception as error:
                if self._database.failure_of(error, is_read=True) != "lost" or self._is_unwanted():
                    raise
            kept.close()
            sleep(_RECONNECT_SECONDS)

    def _read(self, kept: _KeptConnection) -> Any:
        connection = kept.get()

        def fetch() -> Any:
            with connection.begin():
                return self._query.fetch(connection)

        with self._lock:
            self._connection = connection
        try:
            if self._is_unwanted():
                raise StoreError("the store was closed", retryable=False)
            return self._database.read(connection, fetch, self._is_unwanted)
        finally:
            with self._lock:
                self._connection = None

    def interrupt(self) -> None:
        """End the query if it runs. Called from another thread than the query's.

        An interruption between two statements is lost, so it is repeated, for `_CLOSE_SECONDS` at most.
        """
        until = monotonic() + _CLOSE_SECONDS
        while monotonic() < until:
            with self._lock:
                if self._connection is None:
                    return
                self._database.interrupt(self._connection)
            sleep(_INTERRUPTION_SECONDS)

    def stop(self) -> None:
        """End the query: no caller waits for its answer."""
        self._unwanted = True

    def _is_unwanted(self) -> bool:
        return self._unwanted or self._is_closed()
