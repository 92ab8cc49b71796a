"""Reads by what clients send: their ids of chats, messages and runs, and histories of conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from sqlalchemy import Connection, Select, bindparam, desc, select

from turnstream.core.identifiers import is_id
from turnstream.store.base import Query
from turnstream.store.database import driver_of
from turnstream.store.schema import chats, client_chats, client_turns, turns

Role: TypeAlias = Literal["user", "assistant"]
IdKind: TypeAlias = Literal["message", "run"]

MAX_LOOKUPS = 1024
"""Statements of one search for a stored path. Positions further back are not looked up."""

_EXISTS = chats.c.deleted_at.is_(None)
_CHAT = (
    select(client_chats.c.chat_id)
    .join(chats, chats.c.id == client_chats.c.chat_id)
    .where(
        client_chats.c.owner == bindparam("owner"),
        client_chats.c.client_id == bindparam("client_id"),
        _EXISTS,
    )
)
_OWN_CHAT = select(chats.c.id).where(
    chats.c.id == bindparam("client_id"), chats.c.owner == bindparam("owner"), _EXISTS
)
_TURN = (
    select(client_turns.c.turn_id)
    .join(chats, chats.c.id == client_turns.c.chat_id)
    .where(
        client_turns.c.owner == bindparam("owner"),
        client_turns.c.client_id == bindparam("client_id"),
        client_turns.c.kind == bindparam("kind"),
        _EXISTS,
    )
    .order_by(desc(client_turns.c.turn_id))
    .limit(1)
)
_TURN_OF_CHAT = _TURN.where(client_turns.c.chat_id == bindparam("chat_id"))
_OWN_TURN = (
    select(turns.c.id, turns.c.chat_id)
    .join(chats, chats.c.id == turns.c.chat_id)
    .where(turns.c.id == bindparam("client_id"), turns.c.owner == bindparam("owner"), _EXISTS)
)
_PATH = (
    select(turns.c.id, turns.c.chat_id)
    .join(chats, chats.c.id == turns.c.chat_id)
    .where(
        turns.c.owner == bindparam("owner"),
        turns.c.path_digest == bindparam("digest"),
        turns.c.role == bindparam("role"),
        _EXISTS,
    )
    .limit(1)
)
_TURN_ON_PATH = select(turns.c.id).where(
    turns.c.id == bindparam("turn_id"),
    turns.c.path_digest == bindparam("digest"),
    turns.c.role == bindparam("role"),
)
_PATH_OF_CHAT = _PATH.where(turns.c.chat_id == bindparam("chat_id"))


class ChatOfClient(Query[str | None], frozen=True, kw_only=True):
    """Reads the id of the chat that the owner's clients know as `client_id`, or None.

    The chat's own id is accepted too.
    """

    owner: str
    client_id: str

    def fetch(self, connection: Connection) -> str | None:
        return chat_of(connection, self.owner, self.client_id)


class TurnOfClient(Query[str | None], frozen=True, kw_only=True):
    """Reads the id of the turn that the owner's clients know as `client_id`, or None.

    The turn's own id is accepted too.

    Args:
        kind: Kind of the id.
        chat_id: Our id of the turn's chat. None for any chat of the owner: then the newest turn counts.
    """

    owner: str
    client_id: str
    kind: IdKind
    chat_id: str | None = None

    def fetch(self, connection: Connection) -> str | None:
        values = {"owner": self.owner, "client_id": self.client_id, "kind": self.kind}
        if self.chat_id is None:
            found = _first(connection, _TURN, values)
        else:
            found = _first(connection, _TURN_OF_CHAT, {**values, "chat_id": self.chat_id})
        if found is None and is_id(self.client_id):
            found = _first(connection, _OWN_TURN, values)
            if found is not None and self.chat_id not in {None, found[1]}:
                return None
        return None if found is None else found[0]


class RunOfClient(NamedTuple):
    """The chat and the turn that a client means by its ids of them. None for one that is unknown."""

    chat_id: str | None
    turn_id: str | None


class FindRun(Query[RunOfClient], frozen=True, kw_only=True):
    """Reads the chat that the owner's clients know as `client_chat_id`, and its run `client_id`."""

    owner: str
    client_chat_id: str
    client_id: str

    def fetch(self, connection: Connection) -> RunOfClient:
        chat_id = chat_of(connection, self.owner, self.client_chat_id)
        if chat_id is None:
            return RunOfClient(None, None)
        turn = TurnOfClient(owner=self.owner, client_id=self.client_id, kind="run", chat_id=chat_id)
        return RunOfClient(chat_id, turn.fetch(connection))


class PathEnd(NamedTuple):
    """The end of a stored path that a conversation may continue.

    Attributes:
        digest: Digest of the path.
        role: Role of its last turn.
        position: Number of the conversation's messages on the path.
    """

    digest: str
    role: Role
    position: int


class FoundPath(NamedTuple):
    """A stored path: its last turn, and the number of the conversation's messages on it."""

    turn_id: str
    chat_id: str
    position: int


class SentMessage(NamedTuple):
    """The user's new message, as the client has sent it: its id, and the end of the path up to it."""

    client_id: str
    end: PathEnd


class FindConversation(Query[tuple[str | None, FoundPath | None]], frozen=True, kw_only=True):
    """Reads the chat that a client means, and the longest stored path of its conversation.

    Args:
        owner: Owner of the chats.
        client_chat_id: The client's id of the chat: only its paths count. None for all chats of the owner.
        ends: Ends of paths, the longest path first.
        sent: The new message. If the chat has it with the same id, the path ends there, and the message gets
            another answer. None if there is none, or if it has no id.
    """

    owner: str
    client_chat_id: str | None
    ends: Sequence[PathEnd]
    sent: SentMessage | None = None

    def fetch(self, connection: Connection) -> tuple[str | None, FoundPath | None]:
        if self.client_chat_id is None:
            found = find_path(connection, self.owner, None, self.ends)
            return (None if found is None else found.chat_id), found
        chat_id = chat_of(connection, self.owner, self.client_chat_id)
        if chat_id is None:
            return None, None
        if self.sent is not None and (turn_id := self._turn_of(connection, chat_id, self.sent)) is not None:
            return chat_id, FoundPath(turn_id, chat_id, self.sent.end.position)
        return chat_id, find_path(connection, self.owner, chat_id, self.ends)

    def _turn_of(self, connection: Connection, chat_id: str, sent: SentMessage) -> str | None:
        """Return the turn of a message that was sent before, or None."""
        asked = TurnOfClient(owner=self.owner, client_id=sent.client_id, kind="message", chat_id=chat_id)
        turn_id = asked.fetch(connection)
        if turn_id is None:
            return None
        values = {"turn_id": turn_id, "digest": sent.end.digest, "role": sent.end.role}
        return None if _first(connection, _TURN_ON_PATH, values) is None else turn_id


_DIGEST = select(turns.c.path_digest).where(turns.c.id == bindparam("turn_id"))


class DigestOfPath(Query[str | None], frozen=True, kw_only=True):
    """Reads the digest of the conversation up to a turn, or None if the turn has none."""

    turn_id: str

    def fetch(self, connection: Connection) -> str | None:
        found = _first(connection, _DIGEST, {"turn_id": self.turn_id})
        return None if found is None else found[0]


def chat_of(connection: Connection, owner: str, client_id: str) -> str | None:
    """Return the id of the chat that the owner's clients know as `client_id`, or None."""
    values = {"owner": owner, "client_id": client_id}
    found = _first(connection, _CHAT, values)
    if found is None and is_id(client_id):
        found = _first(connection, _OWN_CHAT, values)
    return None if found is None else found[0]


def find_path(
    connection: Connection, owner: str, chat_id: str | None, ends: Sequence[PathEnd]
) -> FoundPath | None:
    """Return the first of `ends` that is stored, or None.

    Args:
        connection: The connection to read from.
        owner: Owner of the chats.
        chat_id: Our id of the chat. None for all chats of the owner.
        ends: Ends of paths. At most MAX_LOOKUPS of them are looked up.
    """
    statement = _PATH if chat_id is None else _PATH_OF_CHAT
    for end in ends[:MAX_LOOKUPS]:
        values = {"owner": owner, "digest": end.digest, "role": end.role, "chat_id": chat_id}
        if (found := _first(connection, statement, values)) is not None:
            return FoundPath(found[0], found[1], end.position)
    return None


def _first(
    connection: Connection, statement: Select[*tuple[Any, ...]], values: Mapping[str, str | None]
) -> tuple[Any, ...] | None:
    return driver_of(connection).first(connection, statement, values)
