"""A database in an SQLite file: its lock, its connections, and its health."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event
from sqlalchemy.exc import OperationalError

from turnstream.errors import ConfigurationError, StoreError, StoreLocked
from turnstream.store.database import DRIVER, Failure
from turnstream.store.sqlite.checkpoint import Checkpointer, ReadGate
from turnstream.store.sqlite.driver import SqliteDriver, any_text, driver_connection, execute

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_PREPARED_STATEMENTS = 256
_WAL_KEPT = 64 * 1024 * 1024
_STEPS_BETWEEN_CHECKS = 10_000
"""Instructions of SQLite's virtual machine between two checks for cancellation: under a millisecond."""
_NOT_UTF8 = "Could not decode to UTF-8"
"""Beginning of the driver's error for text that is not UTF-8."""


class SqliteDatabase:
    """The file of a URL `sqlite:///PATH`. Raises ConfigurationError if the URL does not name a file."""

    is_shared = False

    def __init__(self, url: URL) -> None:
        self.path = database_path(url).absolute()
        self.name = str(self.path)
        self._lock = WriterLock(self.path)

    def exists(self) -> bool:
        return self.path.is_file()

    def lock(self) -> None:
        """Create the folder, and take the one-writer lock."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the folder {self.path.parent} of the database cannot be made ({error.strerror}): "
                "give the path of a file in a writable folder",
                retryable=False,
            ) from error
        self._lock.acquire()

    def unlock(self) -> None:
        self._lock.release()

    def lock_schema(self, connection: Connection) -> None:
        """Do nothing: `lock` keeps all other writers out."""

    def open(self, timeout: float, readers: int, writers: int) -> OpenSqlite:  # noqa: ARG002 - the seam's
        return OpenSqlite(self.path, timeout, readers)


class OpenSqlite:
    """An open SQLite file."""

    def __init__(self, path: Path, timeout: float, readers: int) -> None:
        self.writer = writer_engine(path, timeout)
        self.reader = reader_engine(path, timeout, readers)
        self._path = path
        self._file = _identity(path)
        """Device and inode of the open file."""
        self._is_replaced = False
        self._gate = ReadGate()
        self._checkpointer = Checkpointer(path, self._gate)

    def read(
        self, connection: Connection, fetch: Callable[[], Answer], is_unwanted: Callable[[], bool]
    ) -> Answer:
        """Read as `OpenDatabase.read` does. Bytes in stored texts that are not UTF-8 become U+FFFD."""
        driver = driver_connection(connection)
        # SQLite calls the handler while it works. The driver's interrupt() would miss a statement that is
        # about to begin.
        driver.set_progress_handler(is_unwanted, _STEPS_BETWEEN_CHECKS)
        try:
            with self._gate.reading():
                return fetch()
        except OperationalError as error:
            if _NOT_UTF8 not in str(error.orig):
                raise
            driver.text_factory = any_text
            with self._gate.reading():
                return fetch()
        finally:
            driver.text_factory = str
            driver.set_progress_handler(None, 0)

    def failure_of(self, error: BaseException, *, is_read: bool = False) -> Failure:  # noqa: ARG002
        """Return `refused`: a file is not lost, and its transactions do not conflict."""
        return "refused"

    def interrupt(self, connection: Connection) -> None:
        """Do nothing: SQLite asks `is_unwanted` while it works."""

    def lock_owners(self, connection: Connection, owners: Collection[str]) -> None:
        """Do nothing: the database has one writer."""

    def committed(self, connection: Connection) -> None:
        """Restart the write-ahead log if it is large."""
        self._checkpointer.after_commit(connection)

    def health(self) -> str | None:
        """Return the reason if the file was deleted or replaced, else None. The reason is logged once."""
        if _identity(self._path) == self._file:
            return None
        reason = (
            f"the database file {self._path} was deleted or replaced while it was open: "
            "what is written now is lost; restart the server"
        )
        if not self._is_replaced:
            self._is_replaced = True
            logger.critical("%s", reason)
        return reason

    def close(self) -> None:
        self.reader.dispose()
        self.writer.dispose()


class WriterLock:
    """A lock that admits one writer process per database file: `DATABASE.lock` in its folder.

    If `database` is a symbolic link, the lock is in the folder of its target. The kernel releases the lock if
    its holder dies, for any cause. The lock file stays, and has the process id of the last holder.
    """

    def __init__(self, database: Path) -> None:
        file = database.resolve()
        self.path = file.with_name(f"{file.name}.lock")
        self._database = database
        # Threads share the lock: one may open a store, and another close it.
        self._lock = FileLock(
            self.path, thread_local=False, fallback_to_soft=False, on_acquired=_write_process_id
        )

    def acquire(self) -> None:
        """Take the lock without waiting.

        Raises StoreLocked if another process holds it, and StoreError if the file system cannot lock.
        """
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise StoreLocked(self._refusal()) from None
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be locked ({error.strerror}): "
                "keep the database in a writable folder of a local disk",
                retryable=False,
            ) from error

    def release(self) -> None:
        """Release the lock. Does nothing if it is not held."""
        self._lock.release()

    def _refusal(self) -> str:
        try:
            holder = self.path.read_text("ascii")[:20].strip()
        except (OSError, ValueError):
            holder = ""
        process = f"another process (pid {holder})" if holder.isdigit() else "another process"
        return (
            f"{self._database} is written by {process}, and only one may: "
            "stop it, or give this one a database of its own, sqlite:///OTHER/PATH"
        )


def database_path(url: URL) -> Path:
    """Return the file of a URL `sqlite:///PATH`.

    Raises ConfigurationError for a database in memory, which would be lost with its connection.
    """
    if url.host or url.query:
        raise ConfigurationError(
            "an SQLite URL contains only a path: give sqlite:///relative/path or sqlite:////absolute/path"
        )
    name = url.database
    if not name or name == ":memory:" or name.startswith("file:"):
        raise ConfigurationError(
            "an SQLite database in memory cannot be shared by its writer and readers, "
            "and would lose every turn at the end: give the path of a file, sqlite:///PATH"
        )
    return Path(name)


def writer_engine(path: Path, busy_timeout: float) -> Engine:
    """Return an engine whose transactions take the write lock when they begin. Connections are not pooled."""
    engine = _engine(path, busy_timeout, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        execute(connection, "BEGIN IMMEDIATE")

    return engine


def reader_engine(path: Path, busy_timeout: float, connections: int) -> Engine:
    """Return an engine whose transactions see one state of the database, and cannot write."""
    engine = _engine(path, busy_timeout, poolclass=QueuePool, pool_size=connections, max_overflow=0)

    @event.listens_for(engine, "connect")
    def forbid_writes(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        execute(connection, "BEGIN")

    return engine


def _engine(path: Path, busy_timeout: float, **pool: object) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        hide_parameters=True,  # errors are logged, and rows have users' texts
        execution_options={DRIVER: SqliteDriver()},
        connect_args={
            "timeout": busy_timeout,
            "check_same_thread": False,  # several threads use it, one at a time
            "cached_statements": _PREPARED_STATEMENTS,
            "isolation_level": None,  # "begin" listeners begin transactions
        },
        **pool,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != ("wal",):
            raise StoreError(
                f"{path} cannot be opened with a write-ahead log: keep the database on a local disk",
                retryable=False,
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # deleted text leaves the file, too
        # A statement over many rows keeps its undo data in memory, not in a file.
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")

    return engine


def _write_process_id(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file, or None if the file does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
