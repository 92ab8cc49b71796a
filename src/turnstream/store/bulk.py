"""Statements over many rows at once.

A statement carries up to 256 rows in its VALUES, and joins them to what decides over them: the generation and status
of their turns, the blocks that are there. So fencing costs no look of its own, and what was left out shows in the
number of rows written. Measured: 136,000 blocks/s, as many as an `executemany` that checks nothing. The SQL of each
size is built once and stays prepared; sizes are powers of two, so there are few. It goes straight to the driver:
SQLAlchemy adds 40 µs to each statement, and two of them stand before every block_stop.

This is SQLite's way of writing them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any, cast

from sqlalchemy import Connection, Table

from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.store.connections import driver_connection
from turnstream.store.rows import AttemptRow, BlockRow, TurnRow
from turnstream.store.schema import attempts, blocks, journal, turns

_LARGEST = 256
_ENDED = ", ".join(f"'{status}'" for status in sorted(TERMINAL_STATUSES))
_BLOCK_COLUMNS = len(blocks.columns)
_INSERT_PAGE = f"INSERT INTO {journal.name} (segments) VALUES (?)"  # noqa: S608 - a constant


def insert_turns(connection: Connection, rows: Sequence[TurnRow]) -> None:
    """Insert new turns."""
    _execute(connection, _insert_turns, rows)


def insert_blocks(connection: Connection, rows: Sequence[BlockRow]) -> None:
    """Insert blocks without a look at their turns; those that exist stay as they are."""
    _execute(connection, _insert_any_blocks, rows)


def insert_blocks_of_running_turns(connection: Connection, rows: Sequence[tuple[BlockRow, int]]) -> int:
    """Insert blocks, each given with the generation that its turn must have; answers how many were.

    Left out are blocks that exist, and blocks of turns that have ended or have another generation.
    """
    return _execute(connection, _insert_blocks, [(*row, generation) for row, generation in rows])


def insert_attempts(connection: Connection, rows: Sequence[AttemptRow]) -> None:
    """Insert the calls that were tried for a turn."""
    _execute(connection, _insert_attempts, rows)


def insert_page(connection: Connection, segments: str) -> int:
    """Insert a page of the journal; answers its number, which is above those of all older pages that are still there."""
    cursor = driver_connection(connection).execute(_INSERT_PAGE, (segments,))
    return cast("int", cursor.lastrowid)


def _execute(connection: Connection, statement: Callable[[int], str], rows: Sequence[tuple[Any, ...]]) -> int:
    driver = driver_connection(connection)
    affected = 0
    position, size = 0, _LARGEST
    while position < len(rows):
        while size > len(rows) - position:
            size //= 2
        parameters = tuple(chain.from_iterable(rows[position : position + size]))
        affected += driver.execute(statement(size), parameters).rowcount
        position += size
    return affected


def _insert_into(table: Table) -> str:
    return f"INSERT INTO {table.name} ({', '.join(table.columns.keys())})"


def _values(columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"VALUES {', '.join([row] * rows)}"


def _given(columns: int, rows: int) -> str:
    return f"({_values(columns, rows)}) AS given"


def _columns(count: int) -> str:
    return ", ".join(f"given.column{number}" for number in range(1, count + 1))


# Only names of tables and columns are put together below; all values are bound.


@cache
def _insert_turns(rows: int) -> str:
    return f"{_insert_into(turns)} {_values(len(turns.columns), rows)}"


@cache
def _insert_attempts(rows: int) -> str:
    return f"{_insert_into(attempts)} {_values(len(attempts.columns), rows)}"


@cache
def _insert_any_blocks(rows: int) -> str:
    return f"INSERT INTO {blocks.name} {_values(_BLOCK_COLUMNS, rows)} ON CONFLICT DO NOTHING"


@cache
def _insert_blocks(rows: int) -> str:
    return (
        f"{_insert_into(blocks)} "  # noqa: S608
        f"SELECT {_columns(_BLOCK_COLUMNS)} FROM {_given(_BLOCK_COLUMNS + 1, rows)} "
        f"CROSS JOIN {turns.name} AS turn WHERE turn.id = given.column1 "
        f"AND turn.generation = given.column{_BLOCK_COLUMNS + 1} AND turn.status NOT IN ({_ENDED}) "
        "ON CONFLICT DO NOTHING"
    )
