"""Routes for clients of the AI SDK: `useChat` and its transports."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.dialects.ai_sdk.encoder import HEADERS, HEARTBEAT, Major, encoder_of
from turnstream.dialects.ai_sdk.request import parse_request
from turnstream.server.context import ServerContext
from turnstream.server.protocols.conversing import answer_stream, running_turns, start_answer
from turnstream.server.streams import EventStreamResponse, StreamFormat
from turnstream.turnlog.dialect_chain import DialectChain
from turnstream.turnlog.dialect_subscription import DialectSubscription
from turnstream.turns.histories import chain_of

PATHS: dict[str, Major] = {"/ai-sdk/chat": 5, "/ai-sdk/v6/chat": 6, "/ai-sdk/v7/chat": 7}
"""Addresses, and the oldest major version of the AI SDK that reads their answers."""
REPLAY_SECONDS = 30.0
"""Seconds after the end of an answer in which it is replayed.

The answer may end while a client whose connection was cut reconnects, or while a page loads.
"""

_FORMAT = StreamFormat(HEADERS, HEARTBEAT, must_end=True)


def add_ai_sdk_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes for each major version to `router`."""
    for path, major in PATHS.items():
        _add_routes(router, context, path, major)


def _add_routes(router: APIRouter, context: ServerContext, path: str, major: Major) -> None:
    @router.post(path, summary=f"Answer a chat of the AI SDK {major} or newer", include_in_schema=False)
    async def chat(request: Request) -> Response:
        principal = await context.principal(request)
        asked = parse_request(await request.body(), context.commands.tools.tools)
        turn = (await start_answer(context, principal, asked)).assistant_turn
        chain = await chain_of(context.commands.store, turn)
        encoder = encoder_of(turn.id, chain[0], major)
        subscription = await context.watching.subscribe_in(encoder, principal.owner, turn.id)
        return answer_stream(context, "ai_sdk", turn.id, subscription, _FORMAT)

    @router.get(path + "/{chat_id:path}/stream", include_in_schema=False)
    async def resume(request: Request, chat_id: str) -> Response:
        owner = (await context.principal(request)).owner
        found = await running_turns(context, owner, chat_id, ended_within=REPLAY_SECONDS)
        turn = next(iter(found), None)
        if turn is None:
            return Response(status_code=204)
        chain = await chain_of(context.commands.store, turn)

        async def subscribe(turn_id: str, state: object) -> DialectSubscription:
            ends_message = turn_id == turn.id
            encoder = encoder_of(turn_id, chain[0], major, ends_message=ends_message)
            return await context.watching.subscribe_in(encoder, owner, turn_id, state=state, is_exact=False)

        rest = [partial(subscribe, turn_id) for turn_id in chain[1:]]
        watcher = DialectChain(await subscribe(chain[0], None), rest)
        return EventStreamResponse(watcher, context.keep_alive, form=_FORMAT)

    @router.post(path + "/{chat_id:path}/stop", include_in_schema=False)
    async def stop(request: Request, chat_id: str) -> Response:
        owner = (await context.principal(request)).owner
        running = await running_turns(context, owner, chat_id)
        for turn in running:
            await context.commands.interrupt(owner, turn.id)
        return JSONResponse({"stopped": [turn.id for turn in running]})
