"""The seams between the store and one kind of database.

Each kind of database has a folder (`sqlite/`) with the code that is specific to it. All other modules use
statements of SQLAlchemy, which compiles them for any database.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast

from sqlalchemy import Connection, Engine, Select, Table, Update
from sqlalchemy.exc import DBAPIError

from turnstream.errors import StoreError

DRIVER = "turnstream_driver"
"""Name of the execution option of a connection that has its `Driver`."""

UPGRADE = "turnstream_upgrade"
"""Name of the execution option of a connection that upgrades the schema: its statements may take long."""

Failure: TypeAlias = Literal["refused", "locked", "conflict", "lost"]
"""Kind of a failure of the database.

`refused`: the database refuses the statement. `locked`: another transaction has held a lock for too long.
`conflict`: another transaction was preferred, and a repetition
may succeed. `lost`: the database cannot be reached, does not answer, or has ended the connection. A commit
may have taken place then.
"""

StoredRow: TypeAlias = Sequence[str | int | float | None]
"""Columns of a row in the order of the table, as a driver takes them: JSON is text, and a boolean is 0 or 1.
"""
Statement: TypeAlias = Update | Select[*tuple[Any, ...]]
Answer = TypeVar("Answer")


class Driver(Protocol):
    """A seam: statements that go straight to the driver of one database.

    SQLAlchemy adds 40 µs to each statement. Each block_stop waits for one of the driver's statements, and
    the first event of each turn waits for a few. Values are as in `StoredRow`. Raises
    `sqlalchemy.exc.DBAPIError`, as SQLAlchemy does.
    """

    def insert(self, connection: Connection, table: Table, rows: Sequence[StoredRow]) -> int:
        """Insert the rows whose keys are new. Return their number. Rows that exist are not changed."""
        ...

    def insert_for_turns(self, connection: Connection, table: Table, rows: Sequence[StoredRow]) -> int:
        """Insert like `insert` into a table whose first column is a turn's id. Return the number of new rows.

        Each row ends with one more value: the generation that its turn must have. A row is left out if its
        turn has another generation, or has ended.
        """
        ...

    def update(self, connection: Connection, statement: Statement, values: Mapping[str, Any]) -> int:
        """Run an update that is prepared once. Return the number of rows that it changed."""
        ...

    def first(
        self, connection: Connection, statement: Statement, values: Mapping[str, Any]
    ) -> tuple[Any, ...] | None:
        """Run a select that is prepared once. Return its first row as the driver gives it, or None."""
        ...

    def rows(
        self, connection: Connection, statement: Statement, values: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Run a select that is prepared once. Return its rows as the driver gives them."""
        ...


class OpenDatabase(Protocol):
    """A seam: an open database.

    A transaction of `reader` sees one state, and cannot write. The connections of both engines have a
    `Driver`.
    """

    writer: Engine
    reader: Engine

    def read(
        self, connection: Connection, fetch: Callable[[], Answer], is_unwanted: Callable[[], bool]
    ) -> Answer:
        """Return the result of `fetch`, which reads in its own transaction.

        End it early once `is_unwanted` is true.
        """
        ...

    def failure_of(self, error: BaseException, *, is_read: bool = False) -> Failure:
        """Return the kind of a failure of a write or a read."""
        ...

    def interrupt(self, connection: Connection) -> None:
        """End the read that runs on a connection, if `read` does not notice `is_unwanted` while it waits.

        Called from another thread than the read's.
        """
        ...

    def lock_owners(self, connection: Connection, owners: Collection[str]) -> None:
        """Wait until no other transaction changes the chats of these owners. Others wait for this one.

        Called once, at the beginning of a transaction. So changes of an owner are committed in the order of
        their times, also if several processes make them.
        """
        ...

    def committed(self, connection: Connection) -> None:
        """Do maintenance between two transactions of the writer."""
        ...

    def health(self) -> str | None:
        """Return the reason if new writes would be lost, else None."""
        ...

    def close(self) -> None:
        """Close the connections that are not in use. The connection that has the lock stays open."""
        ...


class Database(Protocol):
    """A seam: a database that a URL names.

    Attributes:
        name: Its name in messages to operators.
        is_shared: True if any number of processes may write it.
    """

    name: str
    is_shared: bool

    def exists(self) -> bool:
        """Return False if the database was not created yet."""
        ...

    def lock(self) -> None:
        """Keep other writers out until `unlock`, unless the database is shared.

        Raises StoreLocked if another process writes this database, and StoreError if it cannot be created.
        """
        ...

    def unlock(self) -> None:
        """Release the lock for other writers. Does nothing if the database is not locked."""
        ...

    def lock_schema(self, connection: Connection) -> None:
        """Keep other upgrades of the schema out until the transaction of `connection` ends."""
        ...

    def open(self, timeout: float, readers: int, writers: int) -> OpenDatabase:
        """Open the database.

        Args:
            timeout: Seconds to wait for another program's lock.
            readers: Largest number of connections for reads.
            writers: Largest number of connections for writes. A database with one process has one.
        """
        ...


def driver_of(connection: Connection) -> Driver:
    """Return the driver of a connection that an `OpenDatabase` made."""
    return cast("Driver", connection.get_execution_options()[DRIVER])


def describe_failure(error: BaseException) -> str:
    """Return a description of an error, without the values of the statement."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return "; ".join(line.strip() for line in str(error.orig).splitlines() if line.strip())
    if isinstance(error, StoreError):
        return error.message
    return type(error).__name__
