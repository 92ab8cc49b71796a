"""Routes of chats, and of the lists of turns and models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from turnstream.errors import InvalidRequest
from turnstream.limits import MAX_SEARCH
from turnstream.server.context import ServerContext, checked_id, request_events_cursor, request_paging
from turnstream.server.json_answers import json_answer
from turnstream.server.openapi_additions import (
    EVENTS_CURSOR_SCHEMA,
    MAX_PAGE,
    Identifier,
    Limit,
    Media,
    OptionalIdentifier,
    Position,
    errors,
)
from turnstream.server.streams import EventStreamResponse
from turnstream.server.turn_json import page_json
from turnstream.server.views import (
    ChatBody,
    ChatChange,
    ChatList,
    ChatView,
    ModelView,
    PathView,
    TurnListView,
)
from turnstream.store.base import ChatRecord
from turnstream.store.chats.search import SearchChats
from turnstream.store.queries import GetChat, ListChats
from turnstream.turns.chats import LIST_PORTION, PATH_PORTION

_EVENTS_DOCS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "the events of all turns; see PROTOCOL.md"}
}
_EVENTS_CURSOR_DOCS: dict[str, Any] = {
    "parameters": [
        {"name": "after", "in": "query", "schema": EVENTS_CURSOR_SCHEMA},
        {"name": "Last-Event-ID", "in": "header", "schema": EVENTS_CURSOR_SCHEMA},
    ]
}


def add_chat_routes(router: APIRouter, context: ServerContext) -> None:
    commands, store = context.commands, context.commands.store
    chats = commands.chats

    @router.post("/chats", status_code=201, responses=errors(400, 401, 408, 413, 503), summary="Make a chat")
    async def create_chat(request: Request, body: ChatBody | None = None) -> ChatView:
        principal = await context.principal(request)
        body = body or ChatBody()
        metadata = {**body.metadata, **principal.metadata}
        return ChatView.of(await chats.create(principal.owner, title=body.title, metadata=metadata))

    @router.get("/chats", responses=errors(400, 401, 503), summary="List chats, last changed first")
    async def list_chats(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        before: Position = None,
        search: Annotated[str | None, Query(max_length=MAX_SEARCH)] = None,
    ) -> ChatList:
        owner = (await context.principal(request)).owner
        after = _position(before)
        if search:
            found = await store.read(SearchChats(owner=owner, text=search, limit=limit, before=after))
            return _page(found.chats, found.next)
        listed = await store.read(ListChats(owner=owner, limit=limit + 1, before=after))
        page = listed[:limit]
        return _page(page, (page[-1].updated_at, page[-1].id) if len(listed) > limit else None)

    @router.get("/chats/{chat_id}", responses=errors(400, 401, 404, 503), summary="Read a chat")
    async def read_chat(request: Request, chat_id: Identifier) -> ChatView:
        owner = (await context.principal(request)).owner
        return ChatView.of(await store.read(GetChat(owner=owner, chat_id=checked_id(chat_id, "chat_id"))))

    @router.patch(
        "/chats/{chat_id}",
        responses=errors(400, 401, 404, 408, 409, 413, 503),
        summary="Rename a chat, replace its metadata, or show another branch",
    )
    async def change_chat(request: Request, chat_id: Identifier, body: ChatChange) -> ChatView:
        owner = (await context.principal(request)).owner
        given = body.model_fields_set
        chat = await chats.update(
            owner,
            checked_id(chat_id, "chat_id"),
            title=body.title if "title" in given else msgspec.UNSET,
            metadata=(body.metadata or {}) if "metadata" in given else msgspec.UNSET,
            active_turn_id=(
                msgspec.UNSET
                if body.active_turn_id is None
                else checked_id(body.active_turn_id, "active_turn_id")
            ),
        )
        return ChatView.of(chat)

    @router.delete(
        "/chats/{chat_id}",
        status_code=204,
        responses=errors(400, 401, 404, 503),
        summary="Delete a chat and all its turns",
    )
    async def delete_chat(request: Request, chat_id: Identifier) -> Response:
        owner = (await context.principal(request)).owner
        await chats.delete(owner, checked_id(chat_id, "chat_id"))
        return Response(status_code=204)

    @router.get(
        "/chats/{chat_id}/turns",
        response_model=TurnListView,
        responses=errors(400, 401, 404, 503),
        summary="List a chat's turns, oldest first, without their blocks",
    )
    async def list_turns(
        request: Request, chat_id: Identifier, limit: Limit = None, before: OptionalIdentifier = None
    ) -> Response:
        owner = (await context.principal(request)).owner
        paging = request_paging(before, limit)
        page = await chats.all_turns(owner, checked_id(chat_id, "chat_id"), paging)
        return await json_answer(page_json(chats, page, LIST_PORTION), context.keep_alive)

    @router.get(
        "/chats/{chat_id}/path",
        response_model=PathView,
        responses=errors(400, 401, 404, 503),
        summary="Read the branch of a chat that is shown, with its blocks",
    )
    async def read_path(  # noqa: PLR0913, PLR0917 - the query of the request
        request: Request,
        chat_id: Identifier,
        turn_id: OptionalIdentifier = None,
        limit: Limit = None,
        before: OptionalIdentifier = None,
        media: Media = "data",
    ) -> Response:
        owner = (await context.principal(request)).owner
        page = await chats.branch(
            owner,
            checked_id(chat_id, "chat_id"),
            through=None if turn_id is None else checked_id(turn_id, "turn_id"),
            paging=request_paging(before, limit),
        )
        return await json_answer(
            page_json(chats, page, PATH_PORTION, chat_id, with_media=media == "data"), context.keep_alive
        )

    @router.get(
        "/chats/{chat_id}/events",
        response_class=Response,
        responses={**_EVENTS_DOCS, **errors(400, 401, 404, 503)},
        openapi_extra=_EVENTS_CURSOR_DOCS,
        summary="Watch all turns of a chat over one connection",
    )
    async def watch_chat(request: Request, chat_id: Identifier) -> Response:
        owner = (await context.principal(request)).owner
        checked_id(chat_id, "chat_id")
        events = await context.events.watch(owner, chat_id, after=request_events_cursor(request))
        return EventStreamResponse(events, context.keep_alive)

    @router.get(
        "/events",
        response_class=Response,
        responses={**_EVENTS_DOCS, **errors(400, 401, 503)},
        openapi_extra=_EVENTS_CURSOR_DOCS,
        summary="Watch all turns of all chats over one connection",
    )
    async def watch_all(request: Request) -> Response:
        owner = (await context.principal(request)).owner
        events = await context.events.watch(owner, after=request_events_cursor(request))
        return EventStreamResponse(events, context.keep_alive)

    @router.get("/models", responses=errors(401), summary="List the models that turns may name")
    async def list_models(request: Request) -> list[ModelView]:
        await context.principal(request)
        return [ModelView.of(model) for model in commands.models()]


def _page(chats: Sequence[ChatRecord], following: tuple[int, str] | None) -> ChatList:
    more = None if following is None else f"{following[0]}:{following[1]}"
    return ChatList(chats=[ChatView.of(chat) for chat in chats], next=more)


def _position(before: str | None) -> tuple[int, str] | None:
    if before is None:
        return None
    changed, _, chat_id = before.partition(":")
    if not (changed.isascii() and changed.isdecimal() and len(changed) < 18):
        raise InvalidRequest("`before` is not a position: give the `next` of the last page")
    return int(changed), checked_id(chat_id, "before")
