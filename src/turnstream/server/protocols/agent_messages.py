"""Conversations and messages of the staged agent, with the integers that its clients know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from turnstream.core.identifiers import new_id
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.dialects.staged_agent.answers import MESSAGE_STATUS, metadata_of, thinking_rows
from turnstream.model_loop.estimates import tokens_of
from turnstream.server.context import ServerContext
from turnstream.store.agent_rows import (
    AgentConversation,
    AgentMessage,
    ChangeAgentMessage,
    CreateAgentConversation,
    CreateAgentMessage,
    DeleteAgentConversation,
    FindAgentConversation,
    FindAgentMessage,
    ListAgentConversations,
    NumberAgentMessages,
    WrittenMessage,
)
from turnstream.store.base import SET_BY_STORE, ChatRecord
from turnstream.turns.clock import iso_timestamp
from turnstream.turns.new_turns import TurnState
from turnstream.workflow.commands import stage_events, text_of


class AgentMessages:
    """Reads and changes an owner's conversations and messages."""

    def __init__(self, context: ServerContext) -> None:
        self._commands = context.commands
        self._store = context.commands.store

    # -- conversations -----------------------------------------------------------------------------------

    async def create_conversation(
        self, owner: str, page_name: str, user_id: str | None, document_id: str | None
    ) -> dict[str, Any]:
        """Create a conversation, and return it."""
        metadata = {} if document_id is None else {"document_id": document_id}
        chat = ChatRecord(new_id(), owner, None, metadata, SET_BY_STORE, SET_BY_STORE)
        made = CreateAgentConversation(chat=chat, page_name=page_name, user_id=user_id)
        return conversation_view(await self._store.write(made))

    async def conversation(self, owner: str, number: int) -> AgentConversation:
        """Return a conversation. Raises NotFound."""
        return await self._store.read(FindAgentConversation(owner=owner, number=number))

    async def conversations(self, query: ListAgentConversations) -> dict[str, Any]:
        """Return a page of conversations, and their number."""
        found, total = await self._store.read(query)
        return {"items": [conversation_view(one) for one in found], "total": total}

    async def rename(self, owner: str, number: int, title: str) -> dict[str, Any]:
        """Change the title of a conversation, and return it. Raises NotFound."""
        chat_id = (await self.conversation(owner, number)).chat_id
        await self._commands.chats.update(owner, chat_id, title=title)
        return conversation_view(await self.conversation(owner, number))

    async def delete(self, owner: str, number: int) -> dict[str, Any]:
        """Mark a conversation as deleted. Raises NotFound."""
        await self._store.write(DeleteAgentConversation(owner=owner, number=number))
        return {"success": True, "id": number}

    # -- messages ----------------------------------------------------------------------------------------

    async def number_of(self, owner: str, conversation: int, turn_id: str) -> int:
        """Return the number of a turn's message. Raises NotFound."""
        numbered = NumberAgentMessages(owner=owner, conversation=conversation)
        messages = await self._store.write(numbered)
        return next(message.number for message in messages if message.turn_id == turn_id)

    async def messages(self, owner: str, conversation: int) -> list[dict[str, Any]]:
        """Return all messages of a conversation, in order. Raises NotFound."""
        numbered = NumberAgentMessages(owner=owner, conversation=conversation)
        return [await self._view(owner, message) for message in await self._store.write(numbered)]

    async def message(self, owner: str, number: int) -> AgentMessage:
        """Return a message. Raises NotFound."""
        return await self._store.read(FindAgentMessage(owner=owner, number=number))

    async def create(self, owner: str, conversation: int, parent: int | None, written: WrittenMessage) -> int:
        """Store a message that the client has written, and return its number. Raises NotFound."""
        made = CreateAgentMessage(
            owner=owner, conversation=conversation, parent=parent, written=written, write_id=new_id()
        )
        return await self._store.write(made)

    async def change(self, owner: str, change: ChangeAgentMessage) -> None:
        """Change a message. Raises NotFound.

        The message of an ended turn shows the new text from then on. The turn itself keeps its text. The
        message of a running turn is not changed.
        """
        message = await self.message(owner, change.number)
        if message.turn_id is not None:
            state = await self._commands.state(owner, message.turn_id)
            changes_text = change.content is not None or change.piece
            if not changes_text or state.turn.status not in TERMINAL_STATUSES:
                return  # the turn writes its own text, and has its own end
            change = msgspec.structs.replace(change, turn_text=self._text(state))
        await self._store.write(change)

    async def interrupt(self, owner: str, number: int) -> dict[str, Any]:
        """Stop the turn of a message, or mark a written message as cancelled. Raises NotFound."""
        message = await self.message(owner, number)
        if message.turn_id is not None:
            await self._commands.interrupt(owner, message.turn_id)
        elif message.written is not None and message.written.status in ("pending", "streaming"):
            stopped = ChangeAgentMessage(owner=owner, number=number, write_id=new_id(), status="cancelled")
            await self._store.write(stopped)
        return {"message_id": str(number)}

    def _text(self, state: TurnState) -> str:
        """Return the text of a turn, with that of its open block."""
        stored = text_of([row.block for row in state.blocks])
        executor = self._commands.registry.executor(state.turn.id)
        open_block = None if executor is None else executor.log.open_block
        if open_block is None or open_block.block_type != "text" or open_block.sequence != state.open_block:
            return stored
        return stored + open_block.text()

    async def _view(self, owner: str, message: AgentMessage) -> dict[str, Any]:
        if message.turn_id is None:
            return message_view(message, message.written or WrittenMessage())
        state = await self._commands.state(owner, message.turn_id)
        turn, written = state.turn, message.written
        text = self._text(state)
        shown = WrittenMessage(
            role=turn.role,
            content=text if written is None else written.content,
            status=MESSAGE_STATUS[turn.status],
            token_count=tokens_of(len(text.encode("utf-8", "surrogatepass"))),
        )
        view = message_view(message, shown)
        if turn.role != "user":
            events = await stage_events(self._store, turn.id)
            view["thinking"] = thinking_rows(message.number, events)
            view["metadata"] = metadata_of(events)
        if turn.completed_at is not None:
            view["completed_at"] = iso_timestamp(turn.completed_at)
            view["latency_ms"] = max(0, turn.completed_at - turn.created_at) // 1000
        view["error_message"] = turn.error_message
        return view


def conversation_view(conversation: AgentConversation) -> dict[str, Any]:
    """Return a conversation as its clients see it."""
    return {
        "id": conversation.number,
        "title": conversation.title,
        "user_id": conversation.user_id,
        "created_at": iso_timestamp(conversation.created_at),
        "updated_at": iso_timestamp(conversation.updated_at),
        "metadata": msgspec.json.encode(conversation.metadata).decode(),
        "page_name": conversation.page_name,
        "status": conversation.status,
    }


def message_view(message: AgentMessage, shown: WrittenMessage) -> dict[str, Any]:
    """Return a message as its clients see it, without the fields that only a turn has."""
    thinking: Sequence[dict[str, Any]] = []
    return {
        "id": message.number,
        "conversation_id": message.conversation,
        "parent_message_id": None if message.parent is None else str(message.parent),
        "role": shown.role,
        "content": shown.content,
        "status": shown.status,
        "token_count": shown.token_count,
        "metadata": "{}",
        "latency_ms": 0,
        "error_message": None,
        "thinking": thinking,
        "created_at": iso_timestamp(message.created_at),
        "updated_at": iso_timestamp(message.updated_at),
        "completed_at": None if message.completed_at is None else iso_timestamp(message.completed_at),
    }
