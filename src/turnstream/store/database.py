"""The seams between the store and one kind of database.

What only one database can do, or does in a way of its own, is in a folder of its own (`sqlite/`). Everything else holds
statements of SQLAlchemy, which compiles them for any database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from sqlalchemy import Connection, Engine, Select, Table, Update
from sqlalchemy.exc import DBAPIError

from turnstream.errors import StoreError

DRIVER = "turnstream_driver"
"""The execution option of a connection that holds its `Driver`."""

StoredRow: TypeAlias = Sequence[str | int | float | None]
"""The columns of a row in the order of the table, as a driver takes them: JSON is text, and a boolean is 0 or 1."""
Statement: TypeAlias = Update | Select[*tuple[Any, ...]]
Answer = TypeVar("Answer")


class Driver(Protocol):
    """A seam: statements that go straight to the driver of one database.

    SQLAlchemy adds 40 µs to each statement. One of these stands before every block_stop, and a few before every turn's
    first event. Values are as in `StoredRow`. Raises `sqlalchemy.exc.DBAPIError`, as SQLAlchemy does.
    """

    def insert(self, connection: Connection, table: Table, rows: Sequence[StoredRow]) -> int:
        """Insert the rows whose key is not there yet; return their number. The others stay as they are."""
        ...

    def insert_for_turns(self, connection: Connection, table: Table, rows: Sequence[StoredRow]) -> int:
        """Insert as `insert` does, into a table whose first column is the id of a turn. Each row is followed by the generation
        that its turn must have: a row of a turn that has another, or has ended, is left out."""
        ...

    def update(self, connection: Connection, statement: Statement, values: Mapping[str, Any]) -> int:
        """Run an update, prepared once; return the number of rows it changed."""
        ...

    def first(
        self, connection: Connection, statement: Statement, values: Mapping[str, Any]
    ) -> tuple[Any, ...] | None:
        """Run a select, prepared once; return its first row as the driver gives it, or None."""
        ...


class OpenDatabase(Protocol):
    """A seam: a database that is open. Transactions of `writer` see and hold everything from their start; those of `reader`
    see one state, and cannot write. The connections of both carry a `Driver`."""

    writer: Engine
    reader: Engine

    def read(
        self, connection: Connection, fetch: Callable[[], Answer], is_unwanted: Callable[[], bool]
    ) -> Answer:
        """Return what `fetch` gives, which reads in a transaction of its own. End it early once `is_unwanted`."""
        ...

    def committed(self, connection: Connection) -> None:
        """Do what is due between two transactions of the writer."""
        ...

    def health(self) -> str | None:
        """Return why nothing that is written now can be kept, or None."""
        ...


class Database(Protocol):
    """A seam: a database that a URL names. `name`: as operators know it."""

    name: str

    def exists(self) -> bool:
        """Return False if nothing was ever stored there."""
        ...

    def lock(self) -> None:
        """Keep other writers out until `unlock`. Raises StoreLocked, and StoreError if there can be no database here."""
        ...

    def unlock(self) -> None:
        """Let other writers in. Does nothing if the database is not locked."""
        ...

    def open(self, timeout: float, readers: int) -> OpenDatabase:
        """Open it, with so many connections that read at once. `timeout`: seconds to wait for another program's lock."""
        ...


def driver_of(connection: Connection) -> Driver:
    """Return the driver below a connection of one of our engines."""
    return cast("Driver", connection.get_execution_options()[DRIVER])


def describe_failure(error: BaseException) -> str:
    """Return what went wrong, without the values that were being written."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return str(error.orig)
    if isinstance(error, StoreError):
        return error.message
    return type(error).__name__
