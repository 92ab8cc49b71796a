"""Reads in a few threads. Each query has its own transaction, on a connection that cannot write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy.exc import OperationalError

from turnstream.errors import RequestError, StoreError, Unreadable
from turnstream.store.base import Query
from turnstream.store.database import OpenDatabase, describe_failure
from turnstream.telemetry.measures import StoreMeasures

Result = TypeVar("Result")


class Readers:
    """Runs queries in threads.

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
        self._closed = False
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="turnstream-reader")

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
        reading = _RunningRead(self._database, query, self._is_closed)
        self._waiting += 1
        began = monotonic()
        try:
            async with asyncio.timeout(timeout):
                return await self._run(reading)
        except TimeoutError:
            self._measures.failed_reads += 1
            raise StoreError(f"the database did not answer within {timeout:g} s") from None
        except (RequestError, StoreError):
            raise
        except OperationalError as error:
            self._measures.failed_reads += 1
            raise StoreError(f"the database refused the read: {describe_failure(error)}") from error
        except Exception as error:
            self._measures.failed_reads += 1
            raise Unreadable(f"a stored row cannot be read: {describe_failure(error)}") from error
        finally:
            self._waiting -= 1
            self._measures.reads.observe(monotonic() - began)

    async def _run(self, reading: _RunningRead) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, reading.run)
        except asyncio.CancelledError:
            reading.stop()
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                # The query was cancelled before it began, and not this task.
                raise StoreError("the store was closed", retryable=False) from None
            raise

    def _is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Cancel waiting and long queries, let short ones finish, close the connections. Blocks."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._engine.dispose()


class _RunningRead:
    """One query, which can be stopped while it runs."""

    def __init__(self, database: OpenDatabase, query: Query[Any], is_closed: Callable[[], bool]) -> None:
        self._database = database
        self._query = query
        self._is_closed = is_closed
        self._unwanted = False

    def run(self) -> Any:
        with self._database.reader.connect() as connection:

            def fetch() -> Any:
                with connection.begin():
                    return self._query.fetch(connection)

            return self._database.read(connection, fetch, self._is_unwanted)

    def stop(self) -> None:
        """End the query: no caller waits for its answer."""
        self._unwanted = True

    def _is_unwanted(self) -> bool:
        return self._unwanted or self._is_closed()
