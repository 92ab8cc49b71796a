"""Routes for clients of AG-UI. One starts, joins and resumes runs, the other stops a run."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.dialects.ag_ui.encoder import HEADERS, HEARTBEAT, AgUiEncoder
from turnstream.dialects.ag_ui.request import RunRequest, parse_run
from turnstream.errors import InvalidRequest, NotFound
from turnstream.server.auth import Principal
from turnstream.server.context import ServerContext
from turnstream.server.protocols.conversing import (
    answer_stream,
    find_answered,
    start_answer,
    store_answers,
)
from turnstream.server.streams import StreamFormat
from turnstream.store.client_ids import RunOfClient

PATH = "/ag-ui"
_FORMAT = StreamFormat(HEADERS, HEARTBEAT, must_end=True)


class _AskedRun(NamedTuple):
    """The turn of a run.

    Attributes:
        joins: The client joins a turn that has begun before. It gets a snapshot.
        has_started: The request has started or continued the turn.
    """

    turn_id: str
    joins: bool
    has_started: bool


def add_ag_ui_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes to `router`."""

    @router.post(PATH, summary="Start, join or resume a run of AG-UI", include_in_schema=False)
    async def run(request: Request) -> Response:
        principal = await context.principal(request)
        asked = parse_run(await request.body())
        found = await _asked_run(context, principal, asked)
        turn_id = found.turn_id
        encoder = AgUiEncoder(turn_id, asked.facts, asked.earlier(turn_id), joins=found.joins)
        subscription = await context.watching.subscribe_in(
            encoder, principal.owner, turn_id, is_exact=not found.joins
        )
        return answer_stream(context, "ag_ui", turn_id, subscription, _FORMAT, has_started=found.has_started)

    @router.post(PATH + "/runs/{run_id:path}/stop", include_in_schema=False)
    async def stop(request: Request, run_id: str) -> Response:
        owner = (await context.principal(request)).owner
        conversations = context.commands.conversations
        thread_id = request.query_params.get("threadId")
        if thread_id is None:
            turn_id = await conversations.turn_of(owner, None, run_id, kind="run")
        else:
            turn_id = (await conversations.run_of(owner, thread_id, run_id)).turn_id
        if turn_id is None:
            raise NotFound("no such run: give the runId of a run that was started here")
        state = await context.commands.interrupt(owner, turn_id)
        return JSONResponse({"runId": run_id, "turnId": turn_id, "status": state.turn.status})


async def _asked_run(context: ServerContext, principal: Principal, asked: RunRequest) -> _AskedRun:
    """Return the run of a request, which starts, continues or joins its turn. Raises TurnstreamError."""
    owner, facts, commands = principal.owner, asked.facts, context.commands
    key = "ag-ui-" + sha256(facts.run_id.encode()).hexdigest()
    async with commands.keys.claim(owner, key):
        known = await commands.conversations.run_of(owner, facts.thread_id, facts.run_id)
        if asked.answers:
            return await _resume(context, principal, asked, known)
        if known.turn_id is not None:
            return _AskedRun(known.turn_id, joins=True, has_started=False)
        question = asked.question(commands.tools.tools)
        started = await start_answer(context, principal, question, new_key=key)
    return _AskedRun(started.assistant_turn.id, joins=started.replayed, has_started=not started.replayed)


async def _resume(
    context: ServerContext, principal: Principal, asked: RunRequest, known: RunOfClient
) -> _AskedRun:
    """Answer the approvals of a turn of the thread, and give the turn the run's id."""
    answered = await find_answered(context, principal, asked.answers)
    turn = answered.turn
    if turn.chat_id != known.chat_id:
        raise NotFound("no such interrupt in this thread: give the id of an open one")
    if known.turn_id not in {None, turn.id}:
        raise InvalidRequest("this runId names another turn: resume with a new one")
    has_counted = await store_answers(context, principal, answered)
    await context.commands.conversations.name_run(principal.owner, turn.id, asked.facts.run_id)
    return _AskedRun(turn.id, joins=True, has_started=has_counted)
