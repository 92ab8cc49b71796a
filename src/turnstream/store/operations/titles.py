"""The write of a title that a model has made."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from turnstream.core.usage import CallAttempt, Usage
from turnstream.errors import NotFound
from turnstream.store.base import Operation, TurnRecord
from turnstream.store.database import driver_of
from turnstream.store.operations.chats import next_moment
from turnstream.store.rows import attempt_row, turn_rows
from turnstream.store.schema import attempts, chats, turns
from turnstream.store.settings import read_turns

_SET_TITLE = (
    update(chats)
    .where(
        chats.c.id == bindparam("chat_id"),
        chats.c.title.is_not_distinct_from(bindparam("known")),
        chats.c.deleted_at.is_(None),
    )
    .values(title=bindparam("to"), updated_at=bindparam("now"))
)
_TURN = select(turns).where(turns.c.id == bindparam("turn_id"))
_SET_ACCOUNT = update(turns).where(turns.c.id == bindparam("at_id"))
_ACCOUNT = frozenset({*Usage.__struct_fields__, "cost", "cost_estimated"})


class SetMadeTitle(Operation[bool], frozen=True, kw_only=True):
    """Sets a chat's title, and adds the model calls that made it to the account of an ended turn.

    Returns True if the title was set. The calls are added even if it was not. Applying it again changes
    nothing. Raises NotFound if the turn was deleted.

    Args:
        known: The title that the new one replaces. A chat with another title keeps it.
        title: The new title. None if the calls failed.
        calls: The model calls, with steps that the turn does not have yet.
    """

    owner: str
    chat_id: str
    known: str | None
    title: str | None
    calls: tuple[CallAttempt, ...]

    @property
    def changed_owner(self) -> str:
        return self.owner

    def apply(self, connection: Connection) -> bool:
        found = read_turns(connection, connection.execute(_TURN, {"turn_id": self.turn_id}))
        if not found:
            raise NotFound("no such turn: list the turns of its chat")
        rows = [attempt_row(self.turn_id, call) for call in self.calls]
        if driver_of(connection).insert(connection, attempts, rows) == len(rows) > 0:
            self._book(connection, found[0])
        if self.title is None:
            return False
        moment, _ = next_moment(connection, self.owner)
        values = {"chat_id": self.chat_id, "known": self.known, "to": self.title, "now": moment}
        return connection.execute(_SET_TITLE, values).rowcount == 1

    def _book(self, connection: Connection, turn: TurnRecord) -> None:
        """Add the calls to the turn's tokens and cost. A cost is unknown if one of its parts is."""
        usage, cost = turn.usage, turn.cost
        for call in self.calls:
            if call.usage == Usage():
                continue  # it was refused, and cost nothing
            usage = usage.plus(call.usage)
            cost = None if cost is None or call.cost is None else f"{Decimal(cost) + Decimal(call.cost):.6f}"
        is_estimate = turn.cost_estimated or any(call.estimated for call in self.calls)
        changed = msgspec.structs.replace(turn, usage=usage, cost=cost, cost_estimated=is_estimate)
        values = {name: value for name, value in turn_rows.values(changed).items() if name in _ACCOUNT}
        connection.execute(_SET_ACCOUNT, {"at_id": turn.id, **values})
