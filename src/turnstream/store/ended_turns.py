"""Turns whose end a host application's hook has not seen yet."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select, update

from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.store.base import Operation, Query
from turnstream.store.schema import AWAITS_HOOK, turns

_AWAITING = (
    select(turns.c.id)
    .where(AWAITS_HOOK, turns.c.status.in_(sorted(TERMINAL_STATUSES)), turns.c.id > bindparam("after"))
    .order_by(turns.c.id)
    .limit(bindparam("most"))
)
_DONE = update(turns).where(turns.c.id == bindparam("at_id")).values(awaits_hook=None)


class AwaitingHook(Query[list[str]], frozen=True, kw_only=True):
    """Reads the ids of ended turns that await the hook, in the order of their ids, after the id `after`."""

    after: str
    limit: int

    def fetch(self, connection: Connection) -> list[str]:
        values = {"after": self.after, "most": self.limit}
        return list(connection.execute(_AWAITING, values).scalars())


class HookDone(Operation[None], frozen=True, kw_only=True):
    """Marks a turn: the hook has returned. Applying it again changes nothing."""

    def apply(self, connection: Connection) -> None:
        connection.execute(_DONE, {"at_id": self.turn_id})
