"""Writes that delete chats, turns and blocks.

Readers do not find a deleted chat. Its rows are deleted in portions, between other writes.
"""

from __future__ import annotations

from time import monotonic

from sqlalchemy import Connection, Delete, Table, bindparam, delete, exists, select, update

from turnstream.errors import Conflict, NotFound
from turnstream.store.announcements import KEPT_SECONDS
from turnstream.store.base import Operation
from turnstream.store.expressions import DatabaseTime
from turnstream.store.operations.chats import next_moment, require_chat
from turnstream.store.operations.tool_runs import FORGET_TURN
from turnstream.store.schema import (
    agent_messages,
    annotations,
    blocks,
    chats,
    client_chats,
    client_turns,
    idempotency,
    settings,
    turns,
)

PORTION_SECONDS = 0.02
"""Seconds that a portion delays other writes, approximately."""
_ROWS = 16
"""Largest number of rows that one statement deletes. Each may be large."""


def _delete_some(table: Table, parent: str, key: str) -> Delete:
    """Return a statement that deletes some rows of the parent that is bound to `of_parent`."""
    of_parent = table.c[parent] == bindparam("of_parent")
    some = select(table.c[key]).where(of_parent).limit(_ROWS).scalar_subquery()
    return delete(table).where(of_parent, table.c[key].in_(some))


_ROWS_OF_TURN = (_delete_some(blocks, "turn_id", "sequence"), _delete_some(annotations, "turn_id", "seq"))
_ROWS_OF_CHAT = (
    _delete_some(idempotency, "chat_id", "key"),
    _delete_some(settings, "chat_id", "digest"),
    _delete_some(client_turns, "chat_id", "client_id"),
    _delete_some(agent_messages, "chat_id", "number"),
)
_TURN_IDS = (
    select(turns.c.id).where(turns.c.chat_id == bindparam("chat_id")).order_by(turns.c.created_at, turns.c.id)
)
_HIDE = (
    update(chats)
    .where(chats.c.id == bindparam("of_chat"))
    .values(deleted_at=bindparam("now"), updated_at=bindparam("now"))
)
_SOME_TURN = select(turns.c.id).where(turns.c.chat_id == bindparam("chat_id")).limit(1)
_DELETE_TURN = delete(turns).where(turns.c.id == bindparam("of_turn"))
_EMPTY_CHAT = (
    update(chats)
    .where(chats.c.id == bindparam("of_chat"), chats.c.deleted_at.is_not(None))
    .values(title=None, metadata={}, active_turn_id=None)
)
_TURN = select(
    turns.c.id, turns.c.owner, turns.c.chat_id, turns.c.prev_turn_id, turns.c.role, turns.c.imported
).where(turns.c.id == bindparam("turn_id"))
_FOLLOWING = select(turns.c.id).where(turns.c.prev_turn_id == bindparam("turn_id")).limit(1)
_OWN_TURN = (
    select(turns.c.id).where(turns.c.chat_id == bindparam("chat_id"), turns.c.imported.is_(False)).limit(1)
)
_NAMES_OF_TURN = (
    delete(client_turns).where(
        client_turns.c.chat_id == bindparam("of_chat"), client_turns.c.turn_id == bindparam("of_turn")
    ),
    delete(idempotency).where(
        idempotency.c.chat_id == bindparam("of_chat"),
        idempotency.c.assistant_turn_id == bindparam("of_turn"),
    ),
)
_TOUCH = update(chats).where(chats.c.id == bindparam("of_chat")).values(updated_at=bindparam("now"))
_SHOW_BEFORE = (
    update(chats)
    .where(chats.c.id == bindparam("of_chat"), chats.c.active_turn_id == bindparam("gone"))
    .values(active_turn_id=bindparam("shown"))
)
_DELETE_BLOCK = delete(blocks).where(
    blocks.c.turn_id == bindparam("of_turn"), blocks.c.sequence == bindparam("of_sequence")
)
_FORGET_DIGESTS = update(turns).where(turns.c.chat_id == bindparam("of_chat")).values(path_digest=None)
_NEWER = chats.alias("newer")
_FORGOTTEN = (
    select(chats.c.id)
    .where(
        chats.c.deleted_at < DatabaseTime() - KEPT_SECONDS * 1_000_000,
        ~exists().where(turns.c.chat_id == chats.c.id),
        # The newest row of an owner stays: later changes get later moments (`next_moment`).
        exists().where(_NEWER.c.owner == chats.c.owner, _NEWER.c.updated_at > chats.c.updated_at),
    )
    .limit(_ROWS)
    .scalar_subquery()
)
_FORGET = delete(chats).where(chats.c.id.in_(_FORGOTTEN))
_FORGET_CLIENT_ID = delete(client_chats).where(client_chats.c.chat_id == bindparam("of_chat"))


class DeleteChat(Operation[list[str]], frozen=True, kw_only=True):
    """Deletes a chat. Returns the ids of its turns, oldest first. Raises NotFound.

    After the commit, no reader finds the chat or its turns. Only one portion of its rows is deleted here.
    `PurgeChat` deletes the others.
    """

    owner: str
    chat_id: str

    @property
    def changed_owner(self) -> str:
        return self.owner

    def apply(self, connection: Connection) -> list[str]:
        require_chat(connection, self.owner, self.chat_id)
        deleted = list(connection.execute(_TURN_IDS, {"chat_id": self.chat_id}).scalars())
        moment, _ = next_moment(connection, self.owner)
        connection.execute(_HIDE, {"of_chat": self.chat_id, "now": moment})
        connection.execute(_FORGET_CLIENT_ID, {"of_chat": self.chat_id})  # its client may use the id again
        _purge(connection, self.chat_id, PORTION_SECONDS)
        connection.execute(_FORGET)
        return deleted


class PurgeChat(Operation[bool], frozen=True, kw_only=True):
    """Deletes a portion of the rows of a deleted chat. Returns True if only the chat's own row is left.

    That row keeps the chat's id, owner and times. It is deleted with a later chat, after `KEPT_SECONDS`.
    """

    chat_id: str

    def apply(self, connection: Connection) -> bool:
        return _purge(connection, self.chat_id, PORTION_SECONDS)


class DeleteTurn(Operation[bool], frozen=True, kw_only=True):
    """Deletes an answer at the end of a branch, and the user's turn before it if it has no other answer.

    Returns True if only imported turns are left in the chat, or none. Applying it again changes nothing.
    Raises NotFound, and Conflict (`turn_continued`) if another turn follows.

    `chat_id`: the turn's chat.
    """

    owner: str
    chat_id: str

    @property
    def changed_owner(self) -> str:
        return self.owner

    def apply(self, connection: Connection) -> bool:
        turn = connection.execute(_TURN, {"turn_id": self.turn_id}).first()
        if turn is not None and (turn.owner, turn.chat_id) != (self.owner, self.chat_id):
            raise NotFound("no such turn")
        require_chat(connection, self.owner, self.chat_id)
        if turn is None:
            return self._is_last(connection)
        if connection.execute(_FOLLOWING, {"turn_id": self.turn_id}).first() is not None:
            raise Conflict(
                "other turns follow this one: delete them first, or the chat", code="turn_continued"
            )
        after = turn.prev_turn_id
        moment, _ = next_moment(connection, self.owner)
        self._delete(connection, turn.chat_id, self.turn_id)
        asked = None if after is None else connection.execute(_TURN, {"turn_id": after}).first()
        has_answers = connection.execute(_FOLLOWING, {"turn_id": after}).first() is not None
        if asked is not None and asked.role == "user" and not asked.imported and not has_answers:
            self._delete(connection, turn.chat_id, asked.id)
            after = asked.prev_turn_id
        connection.execute(_TOUCH, {"of_chat": turn.chat_id, "now": moment})
        connection.execute(_SHOW_BEFORE, {"of_chat": turn.chat_id, "shown": after, "gone": self.turn_id})
        return self._is_last(connection)

    def _is_last(self, connection: Connection) -> bool:
        """Return True if the chat has no other turn, except imported ones."""
        return connection.execute(_OWN_TURN, {"chat_id": self.chat_id}).first() is None

    @staticmethod
    def _delete(connection: Connection, chat_id: str, turn_id: str) -> None:
        for some in _ROWS_OF_TURN:
            while connection.execute(some, {"of_parent": turn_id}).rowcount == _ROWS:
                pass
        for rows in _NAMES_OF_TURN:
            connection.execute(rows, {"of_chat": chat_id, "of_turn": turn_id})
        connection.execute(_DELETE_TURN, {"of_turn": turn_id})


class DeleteBlocks(Operation[None], frozen=True, kw_only=True):
    """Deletes blocks of a turn that has ended. Raises NotFound."""

    owner: str
    sequences: tuple[int, ...]

    @property
    def changed_owner(self) -> str:
        return self.owner

    def apply(self, connection: Connection) -> None:
        turn = connection.execute(_TURN, {"turn_id": self.turn_id}).first()
        if turn is None or turn.owner != self.owner:
            raise NotFound("no such turn")
        require_chat(connection, self.owner, turn.chat_id)
        for sequence in self.sequences:
            connection.execute(_DELETE_BLOCK, {"of_turn": self.turn_id, "of_sequence": sequence})
        connection.execute(FORGET_TURN, {"of_turn": self.turn_id})
        # The conversation up to here is another one now. A client that resends the old one begins anew.
        connection.execute(_FORGET_DIGESTS, {"of_chat": turn.chat_id})


def _purge(connection: Connection, chat_id: str, seconds: float) -> bool:
    """Delete rows of a chat for about `seconds`. Return True if only the chat's own row is left."""
    until = monotonic() + seconds
    while (turn_id := connection.execute(_SOME_TURN, {"chat_id": chat_id}).scalar()) is not None:
        for some in _ROWS_OF_TURN:
            while connection.execute(some, {"of_parent": turn_id}).rowcount == _ROWS:
                if monotonic() > until:
                    return False
        connection.execute(_DELETE_TURN, {"of_turn": turn_id})
        if monotonic() > until:
            return False
    for some in _ROWS_OF_CHAT:
        while connection.execute(some, {"of_parent": chat_id}).rowcount >= _ROWS:
            if monotonic() > until:
                return False
    connection.execute(_EMPTY_CHAT, {"of_chat": chat_id})
    return True
