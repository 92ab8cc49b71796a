"""A database of a PostgreSQL server: its lock, its connections, and its health."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TypeVar

import psycopg
from sqlalchemy import URL, Connection, Engine, ExceptionContext, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from turnstream.errors import ConfigurationError, StoreError, StoreLocked
from turnstream.store.database import DRIVER, describe_failure
from turnstream.store.postgresql.driver import PostgresDriver, driver_connection, drop_detail
from turnstream.store.postgresql.text import adapt_text

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_CONNECT_SECONDS = 5
_CANCEL_SECONDS = 2.0
_LONGEST_READ_MS = 60_000
"""Milliseconds after which the server itself ends a read, even if its cancellation got lost."""
_LOCK = "SELECT pg_advisory_lock(hashtext('turnstream'), hashtext(current_schema()))"
_WAIT_FOR_LOCK = "SET LOCAL lock_timeout = '3s'"
"""The server may need a moment to notice that the last holder has died."""


class PostgresDatabase:
    """The database of a URL `postgresql://USER@HOST/NAME`. Raises ConfigurationError if it names none."""

    def __init__(self, url: URL) -> None:
        if not url.database:
            raise ConfigurationError("the database URL names no database: give postgresql://USER@HOST/NAME")
        self.name = url.set(drivername="postgresql").render_as_string(hide_password=True)
        self._url = url.set(drivername="postgresql+psycopg")
        self._writer: Engine | None = None

    def exists(self) -> bool:
        """Return True: a database of a server is not created by turnstream."""
        return True

    def lock(self) -> None:
        """Take the one-writer lock. It belongs to the writer's connection."""
        writer = writer_engine(self._url, self.name)
        try:
            with writer.connect():
                pass
        except DBAPIError as error:
            writer.dispose()
            raise StoreError(
                f"{self.name} cannot be reached ({describe_failure(error)}): "
                "start the server, or give another database",
                retryable=False,
            ) from error
        except BaseException:
            writer.dispose()
            raise
        self._writer = writer

    def unlock(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.dispose()

    def open(self, timeout: float, readers: int) -> OpenPostgres:
        writer = self._writer
        return OpenPostgres(
            writer or writer_engine(self._url, self.name),
            reader_engine(self._url, timeout, readers),
            is_owner=writer is None,
        )


class OpenPostgres:
    """An open database.

    Args:
        is_owner: True if `close` closes the writer's connection too. Otherwise it belongs to the lock.
    """

    def __init__(self, writer: Engine, reader: Engine, *, is_owner: bool) -> None:
        self.writer = writer
        self.reader = reader
        self._is_owner = is_owner

    def read(
        self,
        connection: Connection,  # noqa: ARG002 - the seam's
        fetch: Callable[[], Answer],
        is_unwanted: Callable[[], bool],
    ) -> Answer:
        """Read as `OpenDatabase.read` does. If the connection was lost meanwhile, read again on a new one."""
        try:
            return fetch()
        except DBAPIError as error:
            if not error.connection_invalidated or is_unwanted():
                raise
            return fetch()

    def interrupt(self, connection: Connection) -> None:
        """Ask the server to end the statement that runs on a connection."""
        if connection.closed or connection.invalidated:
            return
        # The statement may end meanwhile, and so may its connection.
        with contextlib.suppress(psycopg.Error, SQLAlchemyError):
            driver_connection(connection).cancel_safe(timeout=_CANCEL_SECONDS)

    def committed(self, connection: Connection) -> None:
        """Do nothing: the server maintains itself."""

    def health(self) -> str | None:
        """Return None: a write that would be lost fails."""
        return None

    def close(self) -> None:
        self.reader.dispose()
        if self._is_owner:
            self.writer.dispose()


def writer_engine(url: URL, name: str) -> Engine:
    """Return an engine with one connection, which has the one-writer lock.

    A new connection raises StoreLocked if another process has the lock.
    """
    engine = _engine(url, pool_size=1)

    @event.listens_for(engine, "connect")
    def take_lock(connection: psycopg.Connection[object], _: object) -> None:
        try:
            connection.execute(_WAIT_FOR_LOCK)
            connection.execute(_LOCK)
            connection.commit()
        except psycopg.errors.LockNotAvailable:
            raise StoreLocked(
                f"{name} is written by another process, and only one may: "
                "stop it, or give this one a database of its own, postgresql://HOST/OTHER"
            ) from None

    return engine


def reader_engine(url: URL, timeout: float, connections: int) -> Engine:
    """Return an engine whose transactions see one state of the database, and cannot write."""
    return _engine(
        url,
        pool_size=connections,
        pool_timeout=timeout,
        isolation_level="REPEATABLE READ",
        options=f"-c default_transaction_read_only=on -c statement_timeout={_LONGEST_READ_MS}",
    )


def _engine(url: URL, options: str = "", **settings: object) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,  # errors are logged, and rows have users' texts
        execution_options={DRIVER: PostgresDriver()},
        poolclass=QueuePool,
        max_overflow=0,
        connect_args={
            "application_name": "turnstream",
            "connect_timeout": _CONNECT_SECONDS,
            "options": options,
            # A peer that is gone is noticed while a statement waits for it.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
        **settings,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: psycopg.Connection[object], _: object) -> None:
        adapt_text(connection)

    @event.listens_for(engine, "handle_error")
    def hide_rows(context: ExceptionContext) -> None:
        error, wrapped = context.original_exception, context.sqlalchemy_exception
        if isinstance(error, psycopg.Error):
            drop_detail(error)
            if wrapped is not None:
                wrapped.args = (f"({type(error).__name__}) {error}",)

    return engine
