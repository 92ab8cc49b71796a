"""The addresses of OpenAI Responses and of its conversations."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.server.context import ServerContext
from turnstream.server.protocols.openai_responses.conversations import Conversations
from turnstream.server.protocols.openai_responses.estimate import estimated_tokens
from turnstream.server.protocols.openai_responses.item_lists import item_page
from turnstream.server.protocols.openai_responses.responses import Responses

_RESPONSES = "/v1/responses"
_CONVERSATIONS = "/v1/conversations"


def add_openai_responses_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes to `router`."""
    _add_responses(router, context, Responses(context))
    _add_conversations(router, Conversations(context))


def _add_responses(router: APIRouter, context: ServerContext, responses: Responses) -> None:
    @router.post(_RESPONSES, include_in_schema=False)
    async def create(request: Request) -> Response:
        return await responses.create(request)

    @router.post(_RESPONSES + "/input_tokens", include_in_schema=False)
    async def count_tokens(request: Request) -> Response:
        return await estimated_tokens(context, request)

    @router.get(_RESPONSES + "/{response_id}", include_in_schema=False)
    async def retrieve(request: Request, response_id: str) -> Response:
        return await responses.retrieve(request, response_id)

    @router.delete(_RESPONSES + "/{response_id}", include_in_schema=False)
    async def delete(request: Request, response_id: str) -> Response:
        return await responses.delete(request, response_id)

    @router.post(_RESPONSES + "/{response_id}/cancel", include_in_schema=False)
    async def cancel(request: Request, response_id: str) -> Response:
        return await responses.cancel(request, response_id)

    @router.get(_RESPONSES + "/{response_id}/input_items", include_in_schema=False)
    async def input_items(request: Request, response_id: str) -> Response:
        owner = (await context.principal(request)).owner
        return JSONResponse(item_page(request, await responses.input_items(owner, response_id)))


def _add_conversations(router: APIRouter, conversations: Conversations) -> None:
    one = _CONVERSATIONS + "/{conversation_id}"

    @router.post(_CONVERSATIONS, include_in_schema=False)
    async def create(request: Request) -> Response:
        return await conversations.create(request)

    @router.get(one, include_in_schema=False)
    async def read(request: Request, conversation_id: str) -> Response:
        return await conversations.read(request, conversation_id)

    @router.post(one, include_in_schema=False)
    async def change(request: Request, conversation_id: str) -> Response:
        return await conversations.change(request, conversation_id)

    @router.delete(one, include_in_schema=False)
    async def delete(request: Request, conversation_id: str) -> Response:
        return await conversations.delete(request, conversation_id)

    @router.post(one + "/items", include_in_schema=False)
    async def add_items(request: Request, conversation_id: str) -> Response:
        return await conversations.add_items(request, conversation_id)

    @router.get(one + "/items", include_in_schema=False)
    async def list_items(request: Request, conversation_id: str) -> Response:
        return await conversations.list_items(request, conversation_id)

    @router.get(one + "/items/{item_id}", include_in_schema=False)
    async def read_item(request: Request, conversation_id: str, item_id: str) -> Response:
        return await conversations.read_item(request, conversation_id, item_id)

    @router.delete(one + "/items/{item_id}", include_in_schema=False)
    async def delete_item(request: Request, conversation_id: str, item_id: str) -> Response:
        return await conversations.delete_item(request, conversation_id, item_id)
