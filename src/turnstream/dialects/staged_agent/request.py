"""Requests of the staged agent's clients."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from turnstream.limits import MAX_AGENT_NAME, MAX_MESSAGE

Text = Annotated[str, msgspec.Meta(max_length=MAX_MESSAGE)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_AGENT_NAME)]


class AgentQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A query.

    Attributes:
        context: See `Workflow.new_state`.
        session_id: The client's id of the session. None: the server makes one.
        conversation_id: Number of the conversation that stores the messages. None: they are not stored.
    """

    query: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MESSAGE)]
    context: dict[str, Any] = {}
    session_id: Name | None = None
    user_id: Name | None = None
    conversation_id: int | None = None


class ResumeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to continue a run. The address has its id too."""

    workflow_id: str | None = None
    user_input: Text | None = None


class NewConversation(msgspec.Struct, frozen=True, kw_only=True):
    """A new conversation."""

    page_name: Name
    document_id: Name | None = None
    user_id: Name | None = None


class ConversationTitle(msgspec.Struct, frozen=True, kw_only=True):
    """A new title."""

    title: Name


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a client writes. Its parent is in the address."""

    conversation_id: int
    role: Annotated[str, msgspec.Meta(pattern="^(user|assistant|system)$")]
    content: Text = ""
    is_complete: bool = True
    token_count: int = 0


class MessageUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """A new content of a message."""

    new_content: Text
    is_complete: bool = True
    token_count: int = 0


class MessagePiece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece that is added to a message. About one token."""

    content_chunk: Text
    token_count: int = 1
