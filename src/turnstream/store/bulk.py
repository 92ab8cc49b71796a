"""Statements over many rows at once, and others that go straight to the driver.

A statement carries up to 256 rows in its VALUES, and joins them to what decides over them: the generation and status
of their turns, the blocks that are there. So fencing costs no look of its own, and what was left out shows in the
number of rows written. Measured: 136,000 blocks/s, as many as an `executemany` that checks nothing. The SQL of each
size is built once and stays prepared; sizes are powers of two, so there are few. It goes straight to the driver:
SQLAlchemy adds 40 µs to each statement, and one of them stands before every block_stop. A turn is marked as streaming while
its first tokens go out, and the journal is written all the time: these go to the driver too.

This is SQLite's way of writing them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any, cast

from sqlalchemy import Connection, Table

from turnstream.core.lifecycle import TERMINAL_STATUSES, sources_of
from turnstream.store.connections import driver_connection
from turnstream.store.rows import AttemptRow, BlockRow, TurnRow
from turnstream.store.schema import attempts, blocks, journal, turns

_LARGEST = 256
_SHAPED = 2
"""Rows for which NULL is written into the statement: the driver takes 0.6 µs to find out that it can bind None, and half of
a new turn's row is None. Of more rows there would be too many statements."""
_ENDED = ", ".join(f"'{status}'" for status in sorted(TERMINAL_STATUSES))
_STREAMS_FROM = ", ".join(f"'{status}'" for status in sorted(sources_of("streaming")))
_MARK_STREAMING = (
    f"UPDATE {turns.name} SET status = 'streaming', started_at = coalesce(started_at, ?) "  # noqa: S608 - constants
    f"WHERE id = ? AND generation = ? AND status IN ({_STREAMS_FROM})"
)
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


def mark_streaming(connection: Connection, turn_id: str, generation: int, now: int) -> bool:
    """Set a turn's status to streaming, if it is this generation's and may come to that."""
    marked = driver_connection(connection).execute(_MARK_STREAMING, (now, turn_id, generation))
    return marked.rowcount == 1


def insert_page(connection: Connection, segments: str) -> int:
    """Insert a page of the journal; answers its number, which is above those of all older pages that are still there."""
    cursor = driver_connection(connection).execute(_INSERT_PAGE, (segments,))
    return cast("int", cursor.lastrowid)


def _execute(connection: Connection, statement: Callable[[str], str], rows: Sequence[tuple[Any, ...]]) -> int:
    driver = driver_connection(connection)
    affected = 0
    position, size = 0, _LARGEST
    while position < len(rows):
        while size > len(rows) - position:
            size //= 2
        taken = rows[position : position + size]
        if size <= _SHAPED:
            parameters = [value for row in taken for value in row if value is not None]
            sql = _shaped(statement, tuple([tuple([value is None for value in row]) for row in taken]))
        else:
            parameters = tuple(chain.from_iterable(taken))
            sql = _sized(statement, len(taken[0]), size)
        affected += driver.execute(sql, parameters).rowcount
        position += size
    return affected


# Only names of tables and columns are put together below; all values but NULL are bound.


@lru_cache(maxsize=128)
def _shaped(statement: Callable[[str], str], nulls: tuple[tuple[bool, ...], ...]) -> str:
    """For rows with NULL in these places."""
    return statement(", ".join(f"({', '.join('NULL' if null else '?' for null in row)})" for row in nulls))


@cache
def _sized(statement: Callable[[str], str], columns: int, rows: int) -> str:
    return statement(", ".join([f"({', '.join('?' * columns)})"] * rows))


def _insert_into(table: Table) -> str:
    return f"INSERT INTO {table.name} ({', '.join(table.columns.keys())})"


def _insert_turns(rows: str) -> str:
    return f"{_insert_into(turns)} VALUES {rows}"


def _insert_attempts(rows: str) -> str:
    return f"{_insert_into(attempts)} VALUES {rows}"


def _insert_any_blocks(rows: str) -> str:
    return f"{_insert_into(blocks)} VALUES {rows} ON CONFLICT DO NOTHING"


def _insert_blocks(rows: str) -> str:
    columns = ", ".join(f"given.column{number}" for number in range(1, _BLOCK_COLUMNS + 1))
    return (
        f"{_insert_into(blocks)} SELECT {columns} FROM (VALUES {rows}) AS given "  # noqa: S608
        f"CROSS JOIN {turns.name} AS turn WHERE turn.id = given.column1 "
        f"AND turn.generation = given.column{_BLOCK_COLUMNS + 1} AND turn.status NOT IN ({_ENDED}) "
        "ON CONFLICT DO NOTHING"
    )
