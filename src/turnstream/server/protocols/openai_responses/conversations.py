"""Conversations and their items: chats, and the blocks of their shown branches."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.dialects.client_request import parsed_body
from turnstream.dialects.openai_responses.ids import chat_of, conversation_id
from turnstream.dialects.openai_responses.items import StoredItem, items_of_path
from turnstream.dialects.openai_responses.request import Metadata, parse_items
from turnstream.errors import Conflict, NotFound
from turnstream.limits import MAX_NEW_ITEMS
from turnstream.server.context import ServerContext
from turnstream.server.protocols.openai_responses.item_lists import item_list, item_page
from turnstream.store.base import ChatRecord
from turnstream.store.queries import GetChat
from turnstream.turns.histories import Path, read_history


class ItemsBody(msgspec.Struct, frozen=True):
    """The body of a request that adds items."""

    items: Annotated[list[dict[str, object]], msgspec.Meta(min_length=1, max_length=MAX_NEW_ITEMS)]


class ConversationBody(msgspec.Struct, frozen=True):
    """The body of a request that creates a conversation."""

    items: Annotated[list[dict[str, object]], msgspec.Meta(max_length=MAX_NEW_ITEMS)] | None = None
    metadata: Metadata | None = None


class ConversationChange(msgspec.Struct, frozen=True):
    """The body of a request that changes a conversation."""

    metadata: Metadata | None


class Conversations:
    """Answers the requests of clients about conversations."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._chats = context.commands.chats
        self._store = context.commands.store

    async def create(self, request: Request) -> Response:
        """Create a conversation, with its first items."""
        owner = (await self._context.principal(request)).owner
        body = await request.body()
        asked = parsed_body(body, ConversationBody) if body.strip() else ConversationBody()
        messages = parse_items(asked.items) if asked.items else ()
        chat = await self._chats.create(owner, metadata=dict(asked.metadata or {}))
        if messages:
            await self._context.commands.conversations.append(owner, chat.id, None, messages)
        return JSONResponse(_view(chat))

    async def read(self, request: Request, conversation_id: str) -> Response:
        """Return a conversation."""
        return JSONResponse(_view(await self._chat(request, conversation_id)))

    async def change(self, request: Request, conversation_id: str) -> Response:
        """Replace the metadata of a conversation."""
        owner = (await self._context.principal(request)).owner
        asked = parsed_body(await request.body(), ConversationChange)
        metadata = dict(asked.metadata or {})
        return JSONResponse(
            _view(await self._chats.update(owner, chat_of(conversation_id), metadata=metadata))
        )

    async def delete(self, request: Request, conversation_id: str) -> Response:
        """Delete a conversation with its items and responses."""
        owner = (await self._context.principal(request)).owner
        await self._chats.delete(owner, chat_of(conversation_id))
        return JSONResponse({"id": conversation_id, "object": "conversation.deleted", "deleted": True})

    async def add_items(self, request: Request, conversation_id: str) -> Response:
        """Add items at the end of a conversation, without an answer."""
        chat = await self._chat(request, conversation_id)
        messages = parse_items(parsed_body(await request.body(), ItemsBody).items)
        before = len(await self._items(chat))
        commands = self._context.commands.conversations
        await commands.append(chat.owner, chat.id, chat.active_turn_id, messages)
        items = await self._items(await self._chat(request, conversation_id))
        return JSONResponse(item_list(items[before:]))

    async def list_items(self, request: Request, conversation_id: str) -> Response:
        """Return a page of the items."""
        return JSONResponse(item_page(request, await self._items(await self._chat(request, conversation_id))))

    async def read_item(self, request: Request, conversation_id: str, item_id: str) -> Response:
        """Return one item."""
        return JSONResponse((await self._item(await self._chat(request, conversation_id), item_id)).raw)

    async def delete_item(self, request: Request, conversation_id: str, item_id: str) -> Response:
        """Delete an item of a turn that has ended. Later answers do not see it."""
        chat = await self._chat(request, conversation_id)
        item = await self._item(chat, item_id)
        if self._context.commands.registry.executor(item.turn_id) is not None:
            raise Conflict("the answer of this item is being written: cancel its response first")
        await self._chats.delete_blocks(chat.owner, item.turn_id, item.sequences)
        return JSONResponse(_view(chat))

    async def _chat(self, request: Request, conversation_id: str) -> ChatRecord:
        owner = (await self._context.principal(request)).owner
        return await self._store.read(GetChat(owner=owner, chat_id=chat_of(conversation_id)))

    async def _items(self, chat: ChatRecord) -> list[StoredItem]:
        path: Path = []
        if chat.active_turn_id is not None:
            path = await read_history(self._store, chat.active_turn_id)
        return items_of_path(path)

    async def _item(self, chat: ChatRecord, item_id: str) -> StoredItem:
        for item in await self._items(chat):
            if item.identity == item_id:
                return item
        raise NotFound("no such item in this conversation: list its items")


def _view(chat: ChatRecord) -> dict[str, object]:
    return {
        "id": conversation_id(chat.id),
        "object": "conversation",
        "created_at": chat.created_at // 1_000_000,
        "metadata": chat.metadata,
    }
