"""SQLite connections: which file a URL means, and how the writer and the readers open it."""

from __future__ import annotations

from pathlib import Path
from sqlite3 import Connection as DriverConnection
from sqlite3 import Error as DriverError
from typing import cast

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from turnstream.errors import ConfigurationError, StoreError

_PREPARED_STATEMENTS = 256
_WAL_KEPT = 64 * 1024 * 1024


def database_path(url: str) -> Path:
    """The file that a URL `sqlite:///PATH` names.

    Raises ConfigurationError for any other database, and for one in memory: it would be gone with its connection.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError("the database URL cannot be read: give sqlite:///PATH") from None
    if parsed.get_backend_name() != "sqlite":
        raise ConfigurationError(
            f"{parsed.get_backend_name()} is not supported as a database yet: give sqlite:///PATH"
        )
    if parsed.host or parsed.query:
        raise ConfigurationError(
            "an SQLite URL holds a path and nothing else: sqlite:///relative/path or sqlite:////absolute/path"
        )
    name = parsed.database
    if not name or name == ":memory:" or name.startswith("file:"):
        raise ConfigurationError(
            "an SQLite database in memory cannot be shared by its writer and readers, and would lose every turn at "
            "the end: give the path of a file, sqlite:///PATH"
        )
    return Path(name)


def prepare_folder(path: Path) -> None:
    """Make the folder of the database. Raises StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {path.parent} of the database cannot be made ({error.strerror}): "
            "give the path of a file in a writable folder",
            retryable=False,
        ) from error


def writer_engine(path: Path, busy_timeout: float) -> Engine:
    """An engine whose transactions hold the write lock from their start. Connections are not pooled."""
    engine = _engine(path, busy_timeout, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        driver_connection(connection).execute("BEGIN IMMEDIATE")

    return engine


def reader_engine(path: Path, busy_timeout: float, connections: int) -> Engine:
    """An engine whose transactions see one state of the database, and cannot change it."""
    engine = _engine(path, busy_timeout, poolclass=QueuePool, pool_size=connections, max_overflow=0)

    @event.listens_for(engine, "connect")
    def forbid_writes(connection: DriverConnection, _: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        driver_connection(connection).execute("BEGIN")

    return engine


def driver_connection(connection: Connection) -> DriverConnection:
    """The driver's own connection below one of SQLAlchemy's."""
    return cast("DriverConnection", connection.connection.driver_connection)


def describe_failure(error: BaseException) -> str:
    """What went wrong, without the values that were being written."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return str(error.orig)
    if isinstance(error, DriverError):
        return str(error)
    if isinstance(error, StoreError):
        return error.message
    return type(error).__name__


def _engine(path: Path, busy_timeout: float, **pool: object) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        hide_parameters=True,  # errors are logged, and rows hold what people wrote
        connect_args={
            "timeout": busy_timeout,
            "check_same_thread": False,  # used by one thread at a time, but not by one only
            "cached_statements": _PREPARED_STATEMENTS,
            "isolation_level": None,  # transactions begin where we say
        },
        **pool,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: DriverConnection, _: object) -> None:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != ("wal",):
            raise StoreError(
                f"{path} cannot be opened with a write-ahead log: keep the database on a local disk",
                retryable=False,
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # A statement over many rows keeps what it would need to take them back: not in a file.
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")

    return engine
