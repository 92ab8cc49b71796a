"""Routes for clients of Anthropic Messages."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.dialects.anthropic.encoder import (
    HEADERS,
    HEARTBEAT,
    encoder_of,
    message_id,
    projection_of,
)
from turnstream.dialects.anthropic.errors import encode_error
from turnstream.dialects.anthropic.request import estimated_tokens, parse_messages
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
from turnstream.wires.anthropic.answers import encode_answer
from turnstream.wires.anthropic.wire import WIRE

ESTIMATE_HEADER = "turnstream-estimate"
"""Header of an answer whose count of tokens is an estimate."""
SHAPE = ProviderShape(
    "anthropic", WIRE, StreamFormat(HEADERS, HEARTBEAT, must_end=True), "request-id", encode_error
)


def add_anthropic_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes to `router`."""

    @router.post("/v1/messages", include_in_schema=False)
    async def answer(request: Request) -> Response:
        principal = await context.principal(request)
        seal = await context.origin_key.seal()
        asked, streams, stop_sequence = parse_messages(await request.body(), seal)
        asked = without_asking_tools(asked, context.commands.tools.tools)
        turn_id = (await start_answer(context, principal, asked)).assistant_turn.id
        turn = turn_of(context, SHAPE, turn_id)
        projection = projection_of(asked.client_tools, seal)
        if streams:
            encoder = encoder_of(turn_id, projection, stop_sequence)
            subscription = await context.watching.subscribe_in(encoder, principal.owner, turn_id)
            return StreamedAnswer(context, SHAPE, turn, subscription)
        owner, answer_id = principal.owner, message_id(turn_id)
        whole = partial(whole_answer, context, owner, turn_id, projection, answer_id=answer_id)
        shape = SHAPE._replace(encode_answer=partial(encode_answer, stop_sequence=stop_sequence))
        return WholeAnswer(shape, turn, whole)

    @router.post("/v1/messages/count_tokens", include_in_schema=False)
    async def count_tokens(request: Request) -> Response:
        await context.principal(request)
        counted = {"input_tokens": estimated_tokens(await request.body())}
        return JSONResponse(counted, headers={ESTIMATE_HEADER: "input_tokens"})
