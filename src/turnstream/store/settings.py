"""System prompts, params and tools of turns. Each chat stores equal ones once, because turns inherit them.

Small ones stay in the turn's row. In rows of earlier versions, all of them do.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select

from turnstream.core.admission import repair_text
from turnstream.store.base import TurnRecord
from turnstream.store.columns import encode_json
from turnstream.store.database import driver_of
from turnstream.store.rows import turn_rows
from turnstream.store.schema import settings

SMALL = 512
"""Characters of system prompt, params and tools up to which they stay in the turn's row."""

_SETTINGS = select(settings).where(
    settings.c.chat_id == bindparam("chat_id"), settings.c.digest == bindparam("digest")
)


def store_settings(
    connection: Connection, turn: TurnRecord, path_digest: str | None = None
) -> tuple[Any, ...]:
    """Store a turn's settings unless its chat has them. Return the row to insert for the turn."""
    system = None if turn.system is None else repair_text(turn.system)
    params = encode_json(turn.params)
    tools = None if turn.tools is None else encode_json(turn.tools)
    if len(system or "") + len(params) + len(tools or "") <= SMALL:
        return (*turn_rows.row(turn), None, path_digest)
    parts = (
        f"{len(params)}:{params}",
        tools and f"{len(tools)}={tools}",
        None if system is None else f":{system}",
    )
    digest = sha256("".join(part for part in parts if part is not None).encode()).hexdigest()
    driver_of(connection).insert(connection, settings, [(turn.chat_id, digest, params, system, tools)])
    bare = msgspec.structs.replace(turn, system=None, params={}, tools=None)
    return (*turn_rows.row(bare), digest, path_digest)


def read_turns(connection: Connection, rows: Iterable[Row[Any]]) -> list[TurnRecord]:
    """Return the turns of `rows`. Turns of a chat that have the same stored settings share their objects."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    turns: list[TurnRecord] = []
    for row in rows:
        turn = turn_rows.record(row)
        if row.settings is not None:
            key = (row.chat_id, row.settings)
            if key not in found:
                found[key] = _settings(connection, turn, row.settings)
            turn = msgspec.structs.replace(turn, **found[key])
        turns.append(turn)
    return turns


def _settings(connection: Connection, turn: TurnRecord, digest: str) -> dict[str, Any]:
    """Return the fields of `turn` that its chat stores. Empty if the stored settings are missing."""
    stored = connection.execute(_SETTINGS, {"chat_id": turn.chat_id, "digest": digest}).first()
    if stored is None:
        return {}
    return {
        name: turn_rows.read(name, getattr(stored, name), turn.id) for name in ("system", "params", "tools")
    }
