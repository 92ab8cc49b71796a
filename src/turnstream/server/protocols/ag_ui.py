"""Routes for clients of AG-UI. One starts, joins and resumes runs, the other stops a run."""

from __future__ import annotations

from hashlib import sha256

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.dialects.ag_ui.encoder import HEADERS, HEARTBEAT, AgUiEncoder
from turnstream.dialects.ag_ui.request import RunRequest, parse_run
from turnstream.errors import NotFound
from turnstream.server.auth import Principal
from turnstream.server.context import ServerContext
from turnstream.server.protocols.conversing import answer_approvals, answer_stream, start_answer
from turnstream.server.streams import StreamFormat

PATH = "/ag-ui"
_FORMAT = StreamFormat(HEADERS, HEARTBEAT, must_end=True)


def add_ag_ui_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes to `router`."""

    @router.post(PATH, summary="Start, join or resume a run of AG-UI", include_in_schema=False)
    async def run(request: Request) -> Response:
        principal = await context.principal(request)
        owner = principal.owner
        asked = parse_run(await request.body())
        turn_id = await _known_turn(context, owner, asked)
        if asked.answers and turn_id is None:
            turn_id = (await answer_approvals(context, principal, asked.answers)).id
            await context.commands.conversations.name_run(owner, turn_id, asked.facts.run_id)
        joins = turn_id is not None
        if turn_id is None:
            turn_id, joins = await _start(context, principal, asked)
        encoder = AgUiEncoder(turn_id, asked.facts, asked.earlier(turn_id), joins=joins)
        subscription = await context.watching.subscribe_in(encoder, owner, turn_id, is_exact=not joins)
        return answer_stream(context, "ag_ui", turn_id, subscription, _FORMAT)

    @router.post(PATH + "/runs/{run_id}/stop", include_in_schema=False)
    async def stop(request: Request, run_id: str) -> Response:
        owner = (await context.principal(request)).owner
        turn_id = await context.commands.conversations.turn_of(owner, None, run_id, kind="run")
        if turn_id is None:
            raise NotFound("no such run")
        state = await context.commands.interrupt(owner, turn_id)
        return JSONResponse({"runId": run_id, "turnId": turn_id, "status": state.turn.status})


async def _known_turn(context: ServerContext, owner: str, asked: RunRequest) -> str | None:
    """Return the turn of a run that the thread has, or None."""
    conversations = context.commands.conversations
    chat_id = await conversations.chat_of(owner, asked.facts.thread_id)
    if chat_id is None:
        return None
    return await conversations.turn_of(owner, chat_id, asked.facts.run_id, kind="run")


async def _start(context: ServerContext, principal: Principal, asked: RunRequest) -> tuple[str, bool]:
    """Start a run. Return its turn, and True if another request has started it."""
    question = asked.question(context.commands.tools.tools)
    run_id = asked.facts.run_id
    key = "ag-ui-" + sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()
    started = await start_answer(context, principal, question, idempotency_key=key)
    return started.assistant_turn.id, started.replayed
