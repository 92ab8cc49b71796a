"""Writes that delete chats.

Readers do not find a deleted chat; its rows are deleted in portions, between other writes.
"""

from __future__ import annotations

from time import monotonic

from sqlalchemy import Connection, bindparam, delete, select, update

from turnstream.store.base import Operation
from turnstream.store.expressions import DatabaseTime
from turnstream.store.operations.chats import require_chat
from turnstream.store.schema import annotations, blocks, chats, idempotency, settings, turns

PORTION_SECONDS = 0.02
"""Seconds that a portion delays other writes, approximately."""
_ROWS = 16
"""Largest number of rows that one statement deletes. Each may be large."""

_TURN_IDS = (
    select(turns.c.id).where(turns.c.chat_id == bindparam("chat_id")).order_by(turns.c.created_at, turns.c.id)
)
_HIDE = update(chats).where(chats.c.id == bindparam("of_chat")).values(deleted_at=DatabaseTime())
_SOME_TURN = select(turns.c.id).where(turns.c.chat_id == bindparam("chat_id")).limit(1)
_SOME_BLOCKS = (
    select(blocks.c.sequence).where(blocks.c.turn_id == bindparam("of_turn")).limit(_ROWS).scalar_subquery()
)
_DELETE_BLOCKS = delete(blocks).where(
    blocks.c.turn_id == bindparam("of_turn"), blocks.c.sequence.in_(_SOME_BLOCKS)
)
_SOME_ANNOTATIONS = (
    select(annotations.c.seq)
    .where(annotations.c.turn_id == bindparam("of_turn"))
    .limit(_ROWS)
    .scalar_subquery()
)
_DELETE_ANNOTATIONS = delete(annotations).where(
    annotations.c.turn_id == bindparam("of_turn"), annotations.c.seq.in_(_SOME_ANNOTATIONS)
)
_DELETE_TURN = delete(turns).where(turns.c.id == bindparam("of_turn"))
_SOME_KEYS = (
    select(idempotency.c.key)
    .where(idempotency.c.chat_id == bindparam("of_chat"))
    .limit(_ROWS)
    .scalar_subquery()
)
_DELETE_KEYS = delete(idempotency).where(
    idempotency.c.chat_id == bindparam("of_chat"), idempotency.c.key.in_(_SOME_KEYS)
)
_SOME_SETTINGS = (
    select(settings.c.digest).where(settings.c.chat_id == bindparam("of_chat")).limit(_ROWS).scalar_subquery()
)
_DELETE_SETTINGS = delete(settings).where(
    settings.c.chat_id == bindparam("of_chat"), settings.c.digest.in_(_SOME_SETTINGS)
)
_DELETE_CHAT = delete(chats).where(chats.c.id == bindparam("of_chat"), chats.c.deleted_at.is_not(None))


class DeleteChat(Operation[list[str]], frozen=True, kw_only=True):
    """Deletes a chat; returns the ids of its turns, oldest first. Raises NotFound.

    After the commit, no reader finds the chat or its turns. Only one portion of its rows is deleted here.
    `PurgeChat` deletes the others.
    """

    owner: str
    chat_id: str

    def apply(self, connection: Connection) -> list[str]:
        require_chat(connection, self.owner, self.chat_id)
        deleted = list(connection.execute(_TURN_IDS, {"chat_id": self.chat_id}).scalars())
        connection.execute(_HIDE, {"of_chat": self.chat_id})
        _purge(connection, self.chat_id, PORTION_SECONDS)
        return deleted


class PurgeChat(Operation[bool], frozen=True, kw_only=True):
    """Deletes a portion of the rows of a deleted chat; returns True if no rows are left."""

    chat_id: str

    def apply(self, connection: Connection) -> bool:
        return _purge(connection, self.chat_id, PORTION_SECONDS)


def _purge(connection: Connection, chat_id: str, seconds: float) -> bool:
    """Delete rows of a chat for about `seconds`; return True if no rows are left."""
    until = monotonic() + seconds
    while (turn_id := connection.execute(_SOME_TURN, {"chat_id": chat_id}).scalar()) is not None:
        for some in (_DELETE_BLOCKS, _DELETE_ANNOTATIONS):
            while connection.execute(some, {"of_turn": turn_id}).rowcount == _ROWS:
                if monotonic() > until:
                    return False
        connection.execute(_DELETE_TURN, {"of_turn": turn_id})
        if monotonic() > until:
            return False
    for some in (_DELETE_KEYS, _DELETE_SETTINGS):
        while connection.execute(some, {"of_chat": chat_id}).rowcount == _ROWS:
            if monotonic() > until:
                return False
    connection.execute(_DELETE_CHAT, {"of_chat": chat_id})
    return True
