"""System prompts and params of turns: stored once in each chat, since a turn inherits those of the turn before.

Small ones stay in the turn's row, as those of rows that an earlier version wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, select

from turnstream.core.admission import mended
from turnstream.store.base import TurnRecord
from turnstream.store.columns import encode_json
from turnstream.store.database import driver_of
from turnstream.store.rows import TurnRow, turn_from_row, turn_row
from turnstream.store.schema import settings

SMALL = 512
"""Characters of a system prompt and params that stay in the turn's row."""

_SETTINGS = select(settings).where(
    settings.c.chat_id == bindparam("chat_id"), settings.c.digest == bindparam("digest")
)


class TurnSettings(NamedTuple):
    """Settings that a turn's row does not hold itself."""

    system: str | None
    params: Any


def store_settings(connection: Connection, turn: TurnRecord) -> TurnRow:
    """Store a turn's settings unless its chat has them already; return the row to insert for the turn."""
    row = turn_row(turn)
    system = None if turn.system is None else mended(turn.system)
    params = encode_json(turn.params)
    if len(system or "") + len(params) <= SMALL:
        return row
    digest = sha256(f"{len(params)}:{params}{'' if system is None else ':' + system}".encode()).hexdigest()
    driver_of(connection).insert(connection, settings, [(turn.chat_id, digest, params, system)])
    return turn_row(turn, settings=digest)


def read_turns(connection: Connection, rows: Iterable[Row[Any]]) -> list[TurnRecord]:
    """Return the turns of `rows`. Turns with the same settings share one object."""
    found: dict[tuple[str, str], TurnSettings | None] = {}
    turns: list[TurnRecord] = []
    for row in rows:
        if row.settings is None:
            turns.append(turn_from_row(row))
            continue
        key = (row.chat_id, row.settings)
        if key not in found:
            stored = connection.execute(_SETTINGS, {"chat_id": key[0], "digest": key[1]}).first()
            found[key] = None if stored is None else TurnSettings(stored.system, stored.params)
        turns.append(turn_from_row(row, found[key]))
    return turns
