"""Statements that go straight to PostgreSQL's driver, and PostgreSQL's SQL for expressions.

An insert is one statement for any number of rows: each column is an array. Rows of turns are joined with
their turns, which stay locked for reading until the commit. So fencing needs no query of its own, and no
other process can take a turn over between the check and the commit. The number of written rows shows if rows
were left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, LiteralString, NamedTuple, TypeAlias, cast

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
from turnstream.store.schema import turns

_ENDED = ", ".join(f"'{status}'" for status in sorted(TERMINAL_STATUSES))
_DIALECT = PGDialect_psycopg()

_Row: TypeAlias = tuple[Any, ...]
_Builder: TypeAlias = Callable[[Table], str]


class _CompiledStatement(NamedTuple):
    """A statement as SQL text, its constant values, and the names of its booleans."""

    sql: str
    constant: Mapping[str, Any]
    booleans: frozenset[str]


class PostgresDriver:
    """PostgreSQL's `Driver`."""

    def insert(self, connection: Connection, table: Table, rows: Sequence[StoredRow]) -> int:
        return _insert(connection, _insert_any, table, rows)

    def insert_for_turns(self, connection: Connection, table: Table, rows: Sequence[StoredRow]) -> int:
        return _insert(connection, _insert_of_running, table, rows)

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


def _insert(connection: Connection, build: _Builder, table: Table, rows: Sequence[StoredRow]) -> int:
    if not rows:
        return 0
    columns = [list(column) for column in zip(*rows, strict=True)]
    for place in _booleans(table):
        columns[place] = [_truth(value) for value in columns[place]]
    return execute(connection, _insert_sql(build, table), columns).rowcount


def _truth(value: Any) -> bool | None:
    return None if value is None else bool(value)


# The SQL below is built from names of tables and columns only. All values are bound.


@cache
def _booleans(table: Table) -> tuple[int, ...]:
    return tuple(place for place, column in enumerate(table.columns) if isinstance(column.type, Boolean))


@cache
def _insert_sql(build: _Builder, table: Table) -> str:
    return build(table)


def _array_of(kind: TypeEngine[Any]) -> str:
    """Return the type of an array with a column's values."""
    match kind:
        case Boolean():
            return "boolean[]"
        case BigInteger():
            return "bigint[]"
        case Integer():
            return "integer[]"
        case Float():
            return "double precision[]"
        case _:
            return "text[]"


def _columns(table: Table) -> str:
    return ", ".join(f'"{name}"' for name in table.columns.keys())  # noqa: SIM118 - a collection of columns


def _given(table: Table, *more: str) -> str:
    """Return the SQL of a table `given`, which has the rows. Its columns are numbered from 1.

    `more`: types of the arrays of further columns.
    """
    arrays = [*(_array_of(column.type) for column in table.columns), *more]
    names = ", ".join(f"column{number}" for number in range(1, len(arrays) + 1))
    return f"unnest({', '.join(f'%s::{kind}' for kind in arrays)}) AS given ({names})"


def _insert_any(table: Table) -> str:
    return (
        f"INSERT INTO {table.name} ({_columns(table)}) "  # noqa: S608
        f"SELECT * FROM {_given(table)} ON CONFLICT DO NOTHING"
    )


def _insert_of_running(table: Table) -> str:
    count = len(table.columns)
    columns = ", ".join(f"given.column{number}" for number in range(1, count + 1))
    return (
        f"INSERT INTO {table.name} ({_columns(table)}) SELECT {columns} "  # noqa: S608
        f"FROM {_given(table, 'bigint[]')} JOIN {turns.name} AS turn ON turn.id = given.column1 "
        f"WHERE turn.generation = given.column{count + 1} AND turn.status NOT IN ({_ENDED}) "
        "ORDER BY turn.id FOR SHARE OF turn ON CONFLICT DO NOTHING"
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
