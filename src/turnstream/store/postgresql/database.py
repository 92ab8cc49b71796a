"""A database of a PostgreSQL server: its connections, and its health."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from time import monotonic
from typing import TypeVar, cast

import psycopg
from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from turnstream.errors import ConfigurationError, StoreError
from turnstream.store.database import Failure, describe_failure
from turnstream.store.postgresql.connections import (
    CONNECT_SECONDS,
    BoundedConnection,
    StatementLimits,
    reader_engine,
    writer_engine,
)
from turnstream.store.postgresql.driver import driver_connection
from turnstream.store.postgresql.failures import connection_remedy, failure_of
from turnstream.store.postgresql.owner_locks import lock_owners

Answer = TypeVar("Answer")

_CANCEL_SECONDS = 2.0
_ENCODING = text("SELECT current_setting('server_encoding')")
_ENCODINGS = {"UTF8", "SQL_ASCII"}
"""Encodings that can store any text. SQL_ASCII stores bytes as they are."""
_SCHEMA_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('turnstream schema'), hashtext(current_schema()))")


class PostgresDatabase:
    """The database of a URL `postgresql://USER@HOST/NAME`. Raises ConfigurationError if it names none."""

    is_shared = True

    def __init__(self, url: URL) -> None:
        if not url.database:
            raise ConfigurationError(
                "the database URL does not name a database: give postgresql://USER@HOST/NAME"
            )
        self.name = url.set(drivername="postgresql").render_as_string(hide_password=True)
        self._url = url.set(drivername="postgresql+psycopg")

    def exists(self) -> bool:
        """Return True: the operator creates the database."""
        return True

    def lock(self) -> None:
        """Check that the database can be reached, and can store any text.

        Any number of nodes may write it.
        """
        writer = writer_engine(self._url, StatementLimits.of_lock(CONNECT_SECONDS), 1)
        try:
            with writer.connect() as connection:
                encoding = connection.execute(_ENCODING).scalar_one()
        except DBAPIError as error:
            why = describe_failure(error)
            raise StoreError(
                f"{self.name} cannot be reached ({why}): {connection_remedy(why)}", retryable=False
            ) from error
        finally:
            writer.dispose()
        if encoding not in _ENCODINGS:
            raise StoreError(
                f"{self.name} cannot store any text: its encoding is {encoding}. "
                "Create a database with ENCODING 'UTF8'",
                retryable=False,
            )

    def unlock(self) -> None:
        """Do nothing: `lock` holds nothing."""

    def lock_schema(self, connection: Connection) -> None:
        connection.execute(_SCHEMA_LOCK)

    def open(self, timeout: float, readers: int, writers: int) -> OpenPostgres:
        return OpenPostgres(
            writer_engine(self._url, StatementLimits.of_lock(timeout), writers),
            reader_engine(self._url, timeout, readers),
        )


class OpenPostgres:
    """An open database."""

    def __init__(self, writer: Engine, reader: Engine) -> None:
        self.writer = writer
        self.reader = reader

    def read(
        self,
        connection: Connection,  # noqa: ARG002 - the seam's
        fetch: Callable[[], Answer],
        is_unwanted: Callable[[], bool],  # noqa: ARG002 - the seam's
    ) -> Answer:
        """Read as `OpenDatabase.read` does. `interrupt` ends the read early."""
        return fetch()

    def failure_of(self, error: BaseException, *, is_read: bool = False) -> Failure:
        return failure_of(error, is_read=is_read)

    def interrupt(self, connection: Connection) -> None:
        """Ask the server to end the statement that runs on a connection.

        If the statement does not end, the connection is closed.
        """
        if connection.closed or connection.invalidated:
            return
        # The statement may end meanwhile, and so may its connection.
        with contextlib.suppress(psycopg.Error, SQLAlchemyError):
            running = cast("BoundedConnection", driver_connection(connection))
            running.give_up_at = running.give_up_at or monotonic() + _CANCEL_SECONDS
            running.cancel_safe(timeout=_CANCEL_SECONDS)

    def lock_owners(self, connection: Connection, owners: Collection[str]) -> None:
        lock_owners(connection, owners)

    def committed(self, connection: Connection) -> None:
        """Do nothing: the server maintains itself."""

    def health(self) -> str | None:
        """Return None: no check is needed, because a write that cannot be stored fails."""
        return None

    def close(self) -> None:
        self.reader.dispose()
        self.writer.dispose()
