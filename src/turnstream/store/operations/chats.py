"""Writes of chats."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, bindparam, desc, select, update

from turnstream.core.usage import LAST_MOMENT
from turnstream.errors import Conflict, NotFound
from turnstream.store.base import SET_BY_STORE, ChatRecord, Operation, TurnRecord
from turnstream.store.database import driver_of
from turnstream.store.expressions import DatabaseTime
from turnstream.store.rows import chat_rows
from turnstream.store.schema import chats, turns

_CHAT_OF_OWNER = select(chats.c.id).where(
    chats.c.id == bindparam("chat_id"), chats.c.owner == bindparam("owner"), chats.c.deleted_at.is_(None)
)
_CHAT = select(chats).where(chats.c.id == bindparam("chat_id"))
_TURN_OF_CHAT = select(turns.c.id).where(
    turns.c.id == bindparam("turn_id"), turns.c.chat_id == bindparam("chat_id")
)
_TOUCH_CHAT = (
    update(chats)
    .where(
        chats.c.id == bindparam("chat_id"),
        chats.c.owner == bindparam("of_owner"),
        chats.c.deleted_at.is_(None),
    )
    .values(updated_at=bindparam("now"), active_turn_id=bindparam("turn_id"))
)


_LATEST = (
    select(chats.c.updated_at)
    .where(chats.c.owner == bindparam("owner"), chats.c.updated_at < LAST_MOMENT)
    .order_by(desc(chats.c.updated_at))
    .limit(1)
)
_MOMENT = select(
    DatabaseTime(),
    _LATEST.scalar_subquery(),
    select(turns.c.id).where(turns.c.id == bindparam("turn_id")).scalar_subquery(),
)


def require_chat(connection: Connection, owner: str, chat_id: str) -> None:
    """Raises NotFound for a chat that is not, and for another owner's just the same."""
    found = connection.execute(_CHAT_OF_OWNER, {"chat_id": chat_id, "owner": owner}).first()
    if found is None:
        raise NotFound("no such chat")


def touch_chat(connection: Connection, owner: str, turn: TurnRecord, moment: int) -> None:
    """Note that a turn begins in its chat at `moment`: its branch is shown from now on. Raises NotFound, as `require_chat` does.

    It stands before every turn's first event, and so goes straight to the driver.
    """
    values = {"now": moment, "turn_id": turn.id, "chat_id": turn.chat_id, "of_owner": owner}
    if driver_of(connection).update(connection, _TOUCH_CHAT, values) == 0:
        raise NotFound("no such chat")


def next_moment(connection: Connection, owner: str, turn_id: str = "") -> tuple[int, bool]:
    """Return the time of a change that begins now, later than all changes of this owner's chats before it; and True if the turn is
    there already.

    It stands before every turn's first event, and so goes straight to the driver.
    """
    found = driver_of(connection).first(connection, _MOMENT, {"owner": owner, "turn_id": turn_id})
    assert found is not None
    now, latest, known = found
    return max(now, (latest or 0) + 1), known is not None


def chosen(given: int, moment: int) -> int:
    """Return the time that is given, or `moment` if the store is to set it."""
    return moment if given == SET_BY_STORE else given


class CreateChat(Operation[ChatRecord], frozen=True, kw_only=True):
    """Store a chat unless it is there; answers it as it is stored. Times may be `SET_BY_STORE`."""

    chat: ChatRecord

    def apply(self, connection: Connection) -> ChatRecord:
        chat = self.chat
        if SET_BY_STORE in {chat.created_at, chat.updated_at}:
            moment, _ = next_moment(connection, chat.owner)
            created, updated = chosen(chat.created_at, moment), chosen(chat.updated_at, moment)
            chat = msgspec.structs.replace(chat, created_at=created, updated_at=updated)
        driver_of(connection).insert(connection, chats, [(*chat_rows.row(chat), None)])
        return chat_rows.record(connection.execute(_CHAT, {"chat_id": self.chat.id}).one())


class UpdateChat(Operation[ChatRecord], frozen=True, kw_only=True):
    """Set what is given; answers the chat as it is then. `metadata` replaces the old.

    Raises NotFound for the chat. Raises Conflict `invalid_active_turn` for an `active_turn_id` that is no turn of the chat: the
    chat is there, and NotFound would deny it.
    """

    owner: str
    chat_id: str
    now: int = SET_BY_STORE
    title: str | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    active_turn_id: str | UnsetType = UNSET

    def apply(self, connection: Connection) -> ChatRecord:
        require_chat(connection, self.owner, self.chat_id)
        if self.active_turn_id is not UNSET:
            values_of_turn = {"turn_id": self.active_turn_id, "chat_id": self.chat_id}
            if connection.execute(_TURN_OF_CHAT, values_of_turn).first() is None:
                raise Conflict("no such turn in this chat: active_turn_id", code="invalid_active_turn")
        values: dict[str, Any] = {"updated_at": chosen(self.now, next_moment(connection, self.owner)[0])}
        if self.title is not UNSET:
            values["title"] = self.title
        if self.metadata is not UNSET:
            values["metadata"] = self.metadata
        if self.active_turn_id is not UNSET:
            values["active_turn_id"] = self.active_turn_id
        connection.execute(update(chats).where(chats.c.id == self.chat_id).values(values))
        return chat_rows.record(connection.execute(_CHAT, {"chat_id": self.chat_id}).one())
