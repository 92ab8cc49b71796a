"""Writes of chats."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, bindparam, insert, select, update

from turnstream.errors import Conflict, NotFound
from turnstream.store.base import ChatRecord, Operation, TurnRecord
from turnstream.store.database import driver_of
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


def require_chat(connection: Connection, owner: str, chat_id: str) -> None:
    """Raises NotFound for a chat that is not, and for another owner's just the same."""
    found = connection.execute(_CHAT_OF_OWNER, {"chat_id": chat_id, "owner": owner}).first()
    if found is None:
        raise NotFound("no such chat")


def touch_chat(connection: Connection, owner: str, turn: TurnRecord) -> None:
    """Note that a turn begins in its chat, whose branch is shown from now on. Raises NotFound, as `require_chat` does.

    It stands before every turn's first event, and so goes straight to the driver.
    """
    values = {"now": turn.created_at, "turn_id": turn.id, "chat_id": turn.chat_id, "of_owner": owner}
    if driver_of(connection).update(connection, _TOUCH_CHAT, values) == 0:
        raise NotFound("no such chat")


class CreateChat(Operation[ChatRecord], frozen=True, kw_only=True):
    """Store a chat; answers it as it is stored."""

    chat: ChatRecord

    def apply(self, connection: Connection) -> ChatRecord:
        connection.execute(insert(chats), chat_rows.values(self.chat))
        return chat_rows.record(connection.execute(_CHAT, {"chat_id": self.chat.id}).one())


class UpdateChat(Operation[ChatRecord], frozen=True, kw_only=True):
    """Set what is given; answers the chat as it is then. `metadata` replaces the old.

    Raises NotFound for the chat. Raises Conflict `invalid_active_turn` for an `active_turn_id` that is no turn of the chat: the
    chat is there, and NotFound would deny it.
    """

    owner: str
    chat_id: str
    now: int
    title: str | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    active_turn_id: str | UnsetType = UNSET

    def apply(self, connection: Connection) -> ChatRecord:
        require_chat(connection, self.owner, self.chat_id)
        if self.active_turn_id is not UNSET:
            values_of_turn = {"turn_id": self.active_turn_id, "chat_id": self.chat_id}
            if connection.execute(_TURN_OF_CHAT, values_of_turn).first() is None:
                raise Conflict("no such turn in this chat: active_turn_id", code="invalid_active_turn")
        values: dict[str, Any] = {"updated_at": self.now}
        if self.title is not UNSET:
            values["title"] = self.title
        if self.metadata is not UNSET:
            values["metadata"] = self.metadata
        if self.active_turn_id is not UNSET:
            values["active_turn_id"] = self.active_turn_id
        connection.execute(update(chats).where(chats.c.id == self.chat_id).values(values))
        return chat_rows.record(connection.execute(_CHAT, {"chat_id": self.chat_id}).one())
