"""Routes for clients of OpenAI Chat Completions."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from turnstream.dialects.openai_chat.encoder import BLOCK_TYPES, HEADERS, HEARTBEAT, completion_id, encoder_of
from turnstream.dialects.openai_chat.request import parse_request
from turnstream.dialects.provider_shaped.projection import Projection
from turnstream.server.context import ServerContext
from turnstream.server.protocols.conversing import start_answer, without_asking_tools
from turnstream.server.protocols.provider_shaped import (
    ProviderShape,
    StreamedAnswer,
    WholeAnswer,
    turn_of,
    whole_answer,
)
from turnstream.server.streams import StreamFormat
from turnstream.wires.openai_chat.wire import WIRE

SHAPE = ProviderShape("openai_chat", WIRE, StreamFormat(HEADERS, HEARTBEAT, must_end=True), "x-request-id")


def add_openai_chat_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes to `router`."""

    @router.post("/v1/chat/completions", include_in_schema=False)
    async def complete(request: Request) -> Response:
        principal = await context.principal(request)
        owner = principal.owner
        asked = parse_request(await request.body())
        called = without_asking_tools(asked.asked, context.commands.tools.tools)
        turn_id = (await start_answer(context, principal, called)).assistant_turn.id
        turn = turn_of(context, SHAPE, turn_id)
        client_tools = called.client_tools
        if asked.streams:
            encoder = encoder_of(turn_id, client_tools, includes_usage=asked.includes_usage)
            subscription = await context.watching.subscribe_in(encoder, owner, turn_id)
            return StreamedAnswer(context, SHAPE, turn, subscription)
        projection = Projection(client_tools, BLOCK_TYPES)
        answer_id = completion_id(turn_id)
        answer = partial(whole_answer, context, owner, turn_id, projection, answer_id=answer_id)
        return WholeAnswer(SHAPE, turn, answer)
