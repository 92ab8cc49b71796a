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
    """Raise NotFound if the chat does not exist or belongs to another owner."""
    found = connection.execute(_CHAT_OF_OWNER, {"chat_id": chat_id, "owner": owner}).first()
    if found is None:
        raise NotFound("no such chat: list your chats to find its id")


def touch_chat(connection: Connection, owner: str, turn: TurnRecord, moment: int) -> None:
    """Set the chat's `updated_at` to `moment`, and make the branch of `turn` the shown branch.

    Raises NotFound, like `require_chat`.
    """
    # Every turn's first event waits for this update, so it goes straight to the driver.
    values = {"now": moment, "turn_id": turn.id, "chat_id": turn.chat_id, "of_owner": owner}
    if driver_of(connection).update(connection, _TOUCH_CHAT, values) == 0:
        raise NotFound("no such chat: list your chats to find its id")


def next_moment(connection: Connection, owner: str, turn_id: str = "") -> tuple[int, bool]:
    """Return the time of a change that begins now, and True if the turn exists already.

    The time is later than all earlier changes of the owner's chats.
    """
    # Every turn's first event waits for this read, so it goes straight to the driver.
    found = driver_of(connection).first(connection, _MOMENT, {"owner": owner, "turn_id": turn_id})
    assert found is not None
    now, latest, known = found
    return max(now, (latest or 0) + 1), known is not None


def chosen(given: int, moment: int) -> int:
    """Return the given time, or `moment` if the given time is `SET_BY_STORE`."""
    return moment if given == SET_BY_STORE else given


class CreateChat(Operation[ChatRecord], frozen=True, kw_only=True):
    """Stores a chat unless it exists. Returns the stored chat. Times may be `SET_BY_STORE`."""

    chat: ChatRecord

    @property
    def changed_owner(self) -> str:
        return self.chat.owner

    def apply(self, connection: Connection) -> ChatRecord:
        chat = self.chat
        if SET_BY_STORE in {chat.created_at, chat.updated_at}:
            moment, _ = next_moment(connection, chat.owner)
            created, updated = chosen(chat.created_at, moment), chosen(chat.updated_at, moment)
            chat = msgspec.structs.replace(chat, created_at=created, updated_at=updated)
        driver_of(connection).insert(connection, chats, [(*chat_rows.row(chat), None)])
        return chat_rows.record(connection.execute(_CHAT, {"chat_id": self.chat.id}).one())


class UpdateChat(Operation[ChatRecord], frozen=True, kw_only=True):
    """Sets the given fields of a chat. Returns the changed chat. `metadata` replaces the stored metadata.

    Raises NotFound if the chat does not exist or belongs to another owner. Raises Conflict
    `invalid_active_turn` if `active_turn_id` is not a turn of the chat: NotFound would mean that the chat
    does not exist.
    """

    owner: str
    chat_id: str
    now: int = SET_BY_STORE
    title: str | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    active_turn_id: str | UnsetType = UNSET

    @property
    def changed_owner(self) -> str:
        return self.owner

    def apply(self, connection: Connection) -> ChatRecord:
        require_chat(connection, self.owner, self.chat_id)
        if self.active_turn_id is not UNSET:
            values_of_turn = {"turn_id": self.active_turn_id, "chat_id": self.chat_id}
            if connection.execute(_TURN_OF_CHAT, values_of_turn).first() is None:
                raise Conflict(
                    "active_turn_id does not name a turn of this chat: list its turns",
                    code="invalid_active_turn",
                )
        values: dict[str, Any] = {"updated_at": chosen(self.now, next_moment(connection, self.owner)[0])}
        if self.title is not UNSET:
            values["title"] = self.title
        if self.metadata is not UNSET:
            values["metadata"] = self.metadata
        if self.active_turn_id is not UNSET:
            values["active_turn_id"] = self.active_turn_id
        connection.execute(update(chats).where(chats.c.id == self.chat_id).values(values))
        return chat_rows.record(connection.execute(_CHAT, {"chat_id": self.chat_id}).one())
