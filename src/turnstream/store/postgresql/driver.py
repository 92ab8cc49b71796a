"""Statements that go straight to PostgreSQL's driver, and PostgreSQL's SQL for expressions.

An insert is one statement for any number of rows, which are one JSON value: the driver encodes an array for
each column at several times the cost. Rows of turns are joined with their turns, which stay locked for
reading until the commit. So fencing needs no query of its own, and no other process can take a turn over
between the check and the commit. The number of written rows shows if rows were left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, LiteralString, NamedTuple, TypeAlias, cast

import msgspec
import psycopg
from sqlalchemy import BigInteger, Boolean, Connection, Float, Integer, Table
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.store.database import Statement, StoredRow
from turnstream.store.expressions import DatabaseTime, JoinRowByRow, MicroDollars
from turnstream.store.postgresql.text import escape
from turnstream.store.schema import turns

_ENDED = ", ".join(f"'{status}'" for status in sorted(TERMINAL_STATUSES))
_DIALECT = PGDialect_psycopg()
_encode = msgspec.json.Encoder().encode

_Row: TypeAlias = tuple[Any, ...]


class _CompiledStatement(NamedTuple):
    """A statement as SQL text, its constant values, and the names of its booleans."""

    sql: str
    constant: Mapping[str, Any]
    booleans: frozenset[str]


class _InsertStatement(NamedTuple):
    """An insert as SQL text, and the names of the values of a row."""

    sql: str
    names: tuple[str, ...]


class PostgresDriver:
    """PostgreSQL's `Driver`."""

    def insert(self, connection: Connection, table: Table, rows: Sequence[StoredRow]) -> int:
        return _insert(connection, _insert_any(table), rows)

    def insert_for_turns(self, connection: Connection, table: Table, rows: Sequence[StoredRow]) -> int:
        return _insert(connection, _insert_of_running(table), rows)

    def update(self, connection: Connection, statement: Statement, values: Mapping[str, Any]) -> int:
        return _run(connection, statement, values).rowcount

    def first(self, connection: Connection, statement: Statement, values: Mapping[str, Any]) -> _Row | None:
        return _run(connection, statement, values).fetchone()

    def rows(self, connection: Connection, statement: Statement, values: Mapping[str, Any]) -> list[_Row]:
        return _run(connection, statement, values).fetchall()


def driver_connection(connection: Connection) -> psycopg.Connection[_Row]:
    """Return the driver's connection below a connection of SQLAlchemy."""
    return cast("psycopg.Connection[_Row]", connection.connection.driver_connection)


def execute(
    connection: Connection, sql: str, values: Sequence[Any] | Mapping[str, Any] | None
) -> psycopg.Cursor[_Row]:
    """Run a statement of PostgreSQL. Raises DBAPIError if it fails."""
    try:
        return driver_connection(connection).execute(cast("LiteralString", sql), values)
    except psycopg.Error as error:
        drop_detail(error)
        failure = DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True)
        raise cast("DBAPIError", failure) from error


def drop_detail(error: psycopg.Error) -> None:
    """Keep only the first line of an error's text. Later lines may quote a row, which has users' texts."""
    primary = error.diag.message_primary
    if primary is not None:
        error.args = (primary,)


def _run(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> psycopg.Cursor[_Row]:
    sql, constant, booleans = _prepared(statement)
    given = {**constant, **values}
    for name in booleans:
        given[name] = _truth(given[name])
    return execute(connection, sql, given)


@lru_cache(maxsize=64)
def _prepared(statement: Statement) -> _CompiledStatement:
    compiled = statement.compile(dialect=_DIALECT)
    constant = {name: value for name, value in compiled.params.items() if value is not None}
    booleans = frozenset(name for name, bind in compiled.binds.items() if isinstance(bind.type, Boolean))
    return _CompiledStatement(str(compiled), constant, booleans)


def _insert(connection: Connection, insert: _InsertStatement, rows: Sequence[StoredRow]) -> int:
    if not rows:
        return 0
    return execute(connection, insert.sql, (_as_json(insert.names, rows),)).rowcount


def _as_json(names: Sequence[str], rows: Iterable[StoredRow]) -> str:
    """Return rows as a JSON array of objects. PostgreSQL's JSON cannot have U+0000, so text is escaped."""
    encoded = _encode([dict(zip(names, row, strict=True)) for row in rows])
    if b"\\u0000" in encoded or b"\\u001a" in encoded:
        escaped = ([escape(value) if isinstance(value, str) else value for value in row] for row in rows)
        encoded = _encode([dict(zip(names, row, strict=True)) for row in escaped])
    return encoded.decode()


def _truth(value: Any) -> bool | None:
    return None if value is None else bool(value)


# The SQL below is built from names of tables and columns only. All values are bound.


def _type_of(kind: TypeEngine[Any]) -> str:
    """Return the type of a column's values."""
    match kind:
        case Boolean():
            return "boolean"
        case BigInteger():
            return "bigint"
        case Integer():
            return "integer"
        case Float():
            return "double precision"
        case _:
            return "text"


def _given(table: Table, more: str = "") -> str:
    """Return the SQL of a table `given`, which has the rows. `more`: a further column."""
    columns = ", ".join(f'"{name}" {_type_of(column.type)}' for name, column in table.columns.items())
    return f"json_to_recordset(%s::json) AS given ({columns}{more})"


@cache
def _insert_any(table: Table) -> _InsertStatement:
    names = tuple(table.columns.keys())
    columns = ", ".join(f'"{name}"' for name in names)
    return _InsertStatement(
        f"INSERT INTO {table.name} ({columns}) "  # noqa: S608
        f"SELECT {columns} FROM {_given(table)} ON CONFLICT DO NOTHING",
        names,
    )


@cache
def _insert_of_running(table: Table) -> _InsertStatement:
    names = tuple(table.columns.keys())
    columns = ", ".join(f'"{name}"' for name in names)
    given = ", ".join(f'given."{name}"' for name in names)
    return _InsertStatement(
        f"INSERT INTO {table.name} ({columns}) SELECT {given} "  # noqa: S608
        f"FROM {_given(table, ', of_generation bigint')} JOIN {turns.name} AS turn "
        f'ON turn.id = given."{names[0]}" '
        f"WHERE turn.generation = given.of_generation AND turn.status NOT IN ({_ENDED}) "
        "ORDER BY turn.id FOR SHARE OF turn ON CONFLICT DO NOTHING",
        (*names, "of_generation"),
    )


@compiles(DatabaseTime, "postgresql")
def _database_time(element: DatabaseTime, compiler: SQLCompiler, **options: Any) -> str:
    """Return SQL for the time in microseconds since the epoch.

    `now()` would be the time at which the transaction began.
    """
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"


@compiles(MicroDollars, "postgresql")
def _micro_dollars(element: MicroDollars, compiler: SQLCompiler, **options: Any) -> str:
    """Return SQL that tests the text first: a cast of any other text would fail the whole read."""
    text = compiler.process(element.clauses, **options)
    number = f"CAST(round(CAST({text} AS numeric) * 1000000) AS BIGINT)"
    return rf"CASE WHEN {text} ~ '^\d{{1,12}}(\.\d+)?$' THEN {number} END"


@compiles(JoinRowByRow, "postgresql")
def _join_row_by_row(element: JoinRowByRow, compiler: SQLCompiler, **options: Any) -> str:
    """Return SQL for a subquery that the planner does not join in another way, because of its OFFSET."""
    assert element.onclause is not None
    left, right = compiler.process(element.left, **options), compiler.process(element.right, **options)
    condition = compiler.process(element.onclause, **options)
    rows = f"SELECT * FROM {right} WHERE {condition} OFFSET 0"  # noqa: S608 - names only
    return f"{left} CROSS JOIN LATERAL ({rows}) AS {right}"
