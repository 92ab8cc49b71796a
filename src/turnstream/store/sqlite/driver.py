"""Statements that go straight to SQLite's driver, and SQLite's SQL for expressions.

An insert has up to 256 rows in its VALUES, and joins them with the generation and status of their turns. So
fencing needs no query of its own, and the number of written rows shows if rows were left out. Measured:
136,000 blocks/s, as many as an `executemany` without checks. The SQL of each size is built once and stays
prepared. Sizes are powers of two, so there are few.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, cast

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.store.database import Statement, StoredRow
from turnstream.store.expressions import ByteLength, DatabaseTime, MicroDollars
from turnstream.store.schema import turns

_LARGEST = 256
_ENDED = ", ".join(f"'{status}'" for status in sorted(TERMINAL_STATUSES))
_DIALECT = sqlite.dialect()

_Builder: TypeAlias = Callable[[Table, str], str]


class _PreparedStatement(NamedTuple):
    """A statement as SQL text, with the names of its values in order, and the values that are constant."""

    sql: str
    names: tuple[str, ...]
    constant: Mapping[str, Any]


class SqliteDriver:
    """SQLite's `Driver`."""

    def insert(self, connection: Connection, table: Table, rows: Sequence[StoredRow]) -> int:
        return _insert(connection, _insert_any, table, rows)

    def insert_for_turns(self, connection: Connection, table: Table, rows: Sequence[StoredRow]) -> int:
        return _insert(connection, _insert_of_running, table, rows)

    def update(self, connection: Connection, statement: Statement, values: Mapping[str, Any]) -> int:
        return _run(connection, statement, values).rowcount

    def first(
        self, connection: Connection, statement: Statement, values: Mapping[str, Any]
    ) -> tuple[Any, ...] | None:
        return _run(connection, statement, values).fetchone()

    def rows(
        self, connection: Connection, statement: Statement, values: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        driver = driver_connection(connection)
        driver.text_factory = any_text
        try:
            return _run(connection, statement, values).fetchall()
        finally:
            driver.text_factory = str


def any_text(stored: bytes) -> str:
    """Return stored text, with U+FFFD for bytes that are not UTF-8.

    The driver would call it for each value. So it is set only for reads that such bytes must not fail.
    """
    return stored.decode("utf-8", "replace")


def driver_connection(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection below a connection of SQLAlchemy."""
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def execute(connection: Connection, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
    """Run a statement of SQLite. Raises DBAPIError if it fails."""
    try:
        return driver_connection(connection).execute(sql, values)
    except sqlite3.Error as error:
        failure = DBAPIError.instance(None, None, error, sqlite3.Error, hide_parameters=True)
        raise cast("DBAPIError", failure) from error


def _run(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> sqlite3.Cursor:
    sql, names, constant = _prepared(statement)
    if constant:
        values = {**constant, **values}
    return execute(connection, sql, [values[name] for name in names])


@lru_cache(maxsize=64)
def _prepared(statement: Statement) -> _PreparedStatement:
    compiled = statement.compile(dialect=_DIALECT)
    constant = {name: value for name, value in compiled.params.items() if value is not None}
    return _PreparedStatement(str(compiled), tuple(compiled.positiontup or ()), constant)


def _insert(connection: Connection, build: _Builder, table: Table, rows: Sequence[StoredRow]) -> int:
    affected = 0
    position, size = 0, _LARGEST
    while position < len(rows):
        while size > len(rows) - position:
            size //= 2
        taken = rows[position : position + size]
        sql = _insert_of(build, table, len(taken[0]), size)
        affected += execute(connection, sql, tuple(chain.from_iterable(taken))).rowcount
        position += size
    return affected


# The SQL below is built from names of tables and columns only. All values are bound.


@cache
def _insert_of(build: _Builder, table: Table, columns: int, rows: int) -> str:
    """Return the SQL of an insert of `rows` rows with `columns` values each."""
    return build(table, ", ".join([f"({', '.join('?' * columns)})"] * rows))


def _insert_into(table: Table) -> str:
    return f"INSERT INTO {table.name} ({', '.join(table.columns.keys())})"


def _insert_any(table: Table, rows: str) -> str:
    return f"{_insert_into(table)} VALUES {rows} ON CONFLICT DO NOTHING"


def _insert_of_running(table: Table, rows: str) -> str:
    count = len(table.columns)
    columns = ", ".join(f"given.column{number}" for number in range(1, count + 1))
    return (
        f"{_insert_into(table)} SELECT {columns} FROM (VALUES {rows}) AS given "  # noqa: S608
        f"CROSS JOIN {turns.name} AS turn WHERE turn.id = given.column1 "
        f"AND turn.generation = given.column{count + 1} AND turn.status NOT IN ({_ENDED}) "
        "ON CONFLICT DO NOTHING"
    )


@compiles(ByteLength, "sqlite")
def _byte_length(element: ByteLength, compiler: SQLCompiler, **options: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **options)} AS BLOB))"


@compiles(DatabaseTime, "sqlite")
def _database_time(element: DatabaseTime, compiler: SQLCompiler, **options: Any) -> str:
    """Return SQL for the time in microseconds since the epoch, with a precision of milliseconds.

    `julianday` counts days since 4714 BC. `unixepoch` has no fractions of seconds before SQLite 3.42.
    """
    return "(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000)"


@compiles(MicroDollars, "sqlite")
def _micro_dollars(element: MicroDollars, compiler: SQLCompiler, **options: Any) -> str:
    """Return SQL for whole micro-dollars. A real number has more digits than any cost."""
    return f"CAST(round(CAST({compiler.process(element.clauses, **options)} AS REAL) * 1000000) AS INTEGER)"
