"""The events of a branch that do not belong to a block, for its readers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, or_, select

from turnstream.store.base import Query
from turnstream.store.schema import annotations

_IDS_PER_SELECT = 500
_SHOWN_KINDS = ("source", "notice")
_MOST_SHOWN_EVENTS = 1000


class ShownEvents(Query[dict[str, list[bytes]]], frozen=True, kw_only=True):
    """Reads the sources and notices of turns by turn, in order, as native JSON: the first 1000 of all."""

    turn_ids: Sequence[str]

    def fetch(self, connection: Connection) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        left = _MOST_SHOWN_EVENTS
        for start in range(0, len(self.turn_ids), _IDS_PER_SELECT):
            ids = self.turn_ids[start : start + _IDS_PER_SELECT]
            statement = (
                select(annotations.c.turn_id, annotations.c.event)
                .where(
                    annotations.c.turn_id.in_(ids),
                    or_(*(annotations.c.event.startswith(f'{{"type":"{kind}"') for kind in _SHOWN_KINDS)),
                )
                .order_by(annotations.c.turn_id, annotations.c.seq)
                .limit(left)
            )
            for turn_id, event in connection.execute(statement):
                found.setdefault(turn_id, []).append(event.encode())
                left -= 1
        return found
