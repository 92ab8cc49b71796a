"""Rows of the staged agent's conversations and messages, which its clients know by integers.

A conversation is a chat. A message is a turn of the chat, or a text that a client has written itself. Turns
get their numbers at the first read after them, in their order.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
from sqlalchemy import (
    Connection,
    Row,
    Select,
    Text,
    bindparam,
    desc,
    func,
    insert,
    select,
    type_coerce,
    update,
)

from turnstream.core.usage import Moment
from turnstream.errors import NotFound
from turnstream.store.base import ChatRecord, Operation, Query
from turnstream.store.expressions import DatabaseTime
from turnstream.store.operations.chats import CreateChat
from turnstream.store.schema import agent_conversations, agent_messages, chats, turns

MessageStatus = Literal["pending", "streaming", "completed", "failed", "cancelled"]


class AgentConversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation.

    Attributes:
        status: `active` or `deleted`. A deleted conversation is not listed.
    """

    number: int
    chat_id: str
    page_name: str
    user_id: str | None
    status: str
    title: str | None
    metadata: dict[str, Any]
    created_at: Moment
    updated_at: Moment


class WrittenMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a message that a client has written, or has written over a turn's text.

    Attributes:
        last_write: Id of the last write of this part, so that a repeated write changes nothing.
    """

    role: str = "assistant"
    content: str = ""
    status: MessageStatus = "completed"
    token_count: int = 0
    last_write: str = ""


class AgentMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message.

    Attributes:
        turn_id: The turn, or None.
        written: The client's text. None: the turn's own text.
        parent: Number of the message before it, or None.
    """

    number: int
    chat_id: str
    conversation: int
    turn_id: str | None
    parent: int | None
    written: WrittenMessage | None
    created_at: Moment
    updated_at: Moment
    completed_at: Moment | None


_CONVERSATION = (
    select(
        agent_conversations,
        chats.c.title,
        chats.c.metadata,
        chats.c.created_at,
        chats.c.updated_at,
    )
    .join(chats, chats.c.id == agent_conversations.c.chat_id)
    .where(chats.c.owner == bindparam("owner"), chats.c.deleted_at.is_(None))
)
_ONE_CONVERSATION = _CONVERSATION.where(agent_conversations.c.number == bindparam("number"))
_MESSAGE = (
    select(agent_messages, agent_conversations.c.number.label("conversation"))
    .join(agent_conversations, agent_conversations.c.chat_id == agent_messages.c.chat_id)
    .join(chats, chats.c.id == agent_messages.c.chat_id)
    .where(chats.c.owner == bindparam("owner"), chats.c.deleted_at.is_(None))
)
_ONE_MESSAGE = _MESSAGE.where(agent_messages.c.number == bindparam("number"))
_MESSAGES = _MESSAGE.where(agent_conversations.c.number == bindparam("conversation")).order_by(
    agent_messages.c.created_at, agent_messages.c.number
)
_UNNUMBERED = (
    select(turns.c.id, turns.c.prev_turn_id, turns.c.created_at)
    .join(agent_messages, agent_messages.c.turn_id == turns.c.id, isouter=True)
    .where(turns.c.chat_id == bindparam("chat_id"), agent_messages.c.number.is_(None))
    .order_by(turns.c.created_at, desc(turns.c.role), turns.c.id)
)
_NUMBER_OF_TURN = select(agent_messages.c.number).where(agent_messages.c.turn_id == bindparam("turn_id"))
_LOCK_CONVERSATION = (
    select(agent_conversations.c.number)
    .where(agent_conversations.c.number == bindparam("number"))
    .with_for_update()
)
_LOCK_MESSAGE = (
    select(agent_messages.c.number).where(agent_messages.c.number == bindparam("number")).with_for_update()
)
_NUMBER_OF_WRITE = select(agent_messages.c.number).where(
    agent_messages.c.chat_id == bindparam("chat_id"),
    type_coerce(agent_messages.c.written, Text).contains(bindparam("write_id")),
)
_NUMBER_OF_CHAT = select(agent_conversations.c.number).where(
    agent_conversations.c.chat_id == bindparam("chat_id")
)
_NOW = select(DatabaseTime())


Record = TypeVar("Record", AgentConversation, AgentMessage)


def _record(kind: type[Record], row: Row[Any]) -> Record:
    return msgspec.convert({name: getattr(row, name) for name in kind.__struct_fields__}, kind)


class FindAgentConversation(Query[AgentConversation], frozen=True, kw_only=True):
    """Reads a conversation. Raises NotFound."""

    owner: str
    number: int

    def fetch(self, connection: Connection) -> AgentConversation:
        row = connection.execute(_ONE_CONVERSATION, {"owner": self.owner, "number": self.number}).first()
        if row is None:
            raise NotFound("no such conversation")
        return _record(AgentConversation, row)


class ListAgentConversations(Query[tuple[list[AgentConversation], int]], frozen=True, kw_only=True):
    """Reads a page of conversations, the last changed first, and the number of all of them."""

    owner: str
    limit: int
    offset: int = 0
    page_name: str | None = None
    user_id: str | None = None
    status: str = "active"

    def fetch(self, connection: Connection) -> tuple[list[AgentConversation], int]:
        statement: Select[Any] = _CONVERSATION.where(agent_conversations.c.status == self.status)
        if self.page_name is not None:
            statement = statement.where(agent_conversations.c.page_name == self.page_name)
        if self.user_id is not None:
            statement = statement.where(agent_conversations.c.user_id == self.user_id)
        owner = {"owner": self.owner}
        total = connection.execute(select(func.count()).select_from(statement.subquery()), owner).scalar()
        page = statement.order_by(desc(chats.c.updated_at), desc(agent_conversations.c.number))
        rows = connection.execute(page.limit(self.limit).offset(self.offset), owner)
        return [_record(AgentConversation, row) for row in rows], total or 0


class FindAgentMessage(Query[AgentMessage], frozen=True, kw_only=True):
    """Reads a message. Raises NotFound."""

    owner: str
    number: int

    def fetch(self, connection: Connection) -> AgentMessage:
        row = connection.execute(_ONE_MESSAGE, {"owner": self.owner, "number": self.number}).first()
        if row is None:
            raise NotFound("no such message")
        return _record(AgentMessage, row)


class CreateAgentConversation(Operation[AgentConversation], frozen=True, kw_only=True):
    """Stores a conversation with its chat. Applying it again changes nothing."""

    chat: ChatRecord
    page_name: str
    user_id: str | None = None

    @property
    def changed_owner(self) -> str:
        return self.chat.owner

    def apply(self, connection: Connection) -> AgentConversation:
        CreateChat(chat=self.chat).apply(connection)
        number = connection.execute(_NUMBER_OF_CHAT, {"chat_id": self.chat.id}).scalar()
        if number is None:
            row = {"chat_id": self.chat.id, "page_name": self.page_name, "user_id": self.user_id}
            made = connection.execute(insert(agent_conversations), {**row, "status": "active"})
            (number,) = made.inserted_primary_key or (0,)
        return FindAgentConversation(owner=self.chat.owner, number=number).fetch(connection)


class DeleteAgentConversation(Operation[None], frozen=True, kw_only=True):
    """Marks a conversation as deleted. Its chat stays. Raises NotFound."""

    owner: str
    number: int

    def apply(self, connection: Connection) -> None:
        FindAgentConversation(owner=self.owner, number=self.number).fetch(connection)
        change = update(agent_conversations).where(agent_conversations.c.number == self.number)
        connection.execute(change.values(status="deleted"))


class NumberAgentMessages(Operation[list[AgentMessage]], frozen=True, kw_only=True):
    """Gives numbers to the turns of a conversation, and returns its messages in order. Raises NotFound.

    A turn keeps its number. Applying it again changes nothing.
    """

    owner: str
    conversation: int

    def apply(self, connection: Connection) -> list[AgentMessage]:
        connection.execute(_LOCK_CONVERSATION, {"number": self.conversation})  # other nodes number too
        asked = FindAgentConversation(owner=self.owner, number=self.conversation)
        chat_id = asked.fetch(connection).chat_id
        for row in connection.execute(_UNNUMBERED, {"chat_id": chat_id}).all():
            parent = None
            if row.prev_turn_id is not None:
                parent = connection.execute(_NUMBER_OF_TURN, {"turn_id": row.prev_turn_id}).scalar()
            times = {"created_at": row.created_at, "updated_at": row.created_at}
            connection.execute(
                insert(agent_messages),
                {"chat_id": chat_id, "turn_id": row.id, "parent": parent, **times},
            )
        rows = connection.execute(_MESSAGES, {"owner": self.owner, "conversation": self.conversation})
        return [_record(AgentMessage, row) for row in rows]


class CreateAgentMessage(Operation[int], frozen=True, kw_only=True):
    """Stores a message that a client has written, and returns its number. Raises NotFound.

    Applying it again changes nothing.

    Args:
        write_id: Id of this write.
    """

    owner: str
    conversation: int
    parent: int | None
    written: WrittenMessage
    write_id: str

    def apply(self, connection: Connection) -> int:
        asked = FindAgentConversation(owner=self.owner, number=self.conversation)
        chat_id = asked.fetch(connection).chat_id
        repeated = connection.execute(_NUMBER_OF_WRITE, {"chat_id": chat_id, "write_id": self.write_id})
        if (known := repeated.scalar()) is not None:
            return known
        written = msgspec.structs.replace(self.written, last_write=self.write_id)
        now = connection.execute(_NOW).scalar()
        is_complete = self.written.status == "completed"
        made = connection.execute(
            insert(agent_messages),
            {
                "chat_id": chat_id,
                "parent": self.parent,
                "written": msgspec.to_builtins(written),
                "created_at": now,
                "updated_at": now,
                "completed_at": now if is_complete else None,
            },
        )
        (number,) = made.inserted_primary_key or (0,)
        return number


class ChangeAgentMessage(Operation[AgentMessage], frozen=True, kw_only=True):
    """Changes the written part of a message. Raises NotFound. Applying it again changes nothing.

    Args:
        write_id: Id of this write.
        turn_text: Text of the message's turn. The first change starts from this text. Empty if the message
            has no turn.
        content: The new text. None: the text stays.
        piece: Text that is added.
        token_count: Number of tokens that are added, or of the new text. None: it stays.
        status: The new status. None: it stays.
    """

    owner: str
    number: int
    write_id: str
    turn_text: str = ""
    content: str | None = None
    piece: str = ""
    token_count: int | None = None
    status: MessageStatus | None = None

    def apply(self, connection: Connection) -> AgentMessage:
        connection.execute(_LOCK_MESSAGE, {"number": self.number})  # other nodes may change it too
        asked = FindAgentMessage(owner=self.owner, number=self.number)
        message = asked.fetch(connection)
        if message.written is not None and message.written.last_write == self.write_id:
            return message
        written = message.written or WrittenMessage(content=self.turn_text)
        tokens = written.token_count
        if self.token_count is not None:
            tokens = self.token_count + (tokens if self.content is None else 0)
        written = msgspec.structs.replace(
            written,
            content=(written.content if self.content is None else self.content) + self.piece,
            token_count=tokens,
            status=self.status or written.status,
            last_write=self.write_id,
        )
        now = connection.execute(_NOW).scalar()
        has_ended = written.status not in ("pending", "streaming")
        connection.execute(
            update(agent_messages)
            .where(agent_messages.c.number == self.number)
            .values(
                written=msgspec.to_builtins(written),
                updated_at=now,
                completed_at=message.completed_at or (now if has_ended else None),
            )
        )
        return asked.fetch(connection)
