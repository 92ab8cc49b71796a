"""Routes of turns: start, read, watch, interrupt."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from functools import partial
from typing import Annotated, Any, TypeAlias

import msgspec
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from turnstream.core.admission import plain_request_json
from turnstream.core.cursor import Cursor
from turnstream.errors import InvalidRequest, NotFound
from turnstream.limits import MAX_KEY
from turnstream.server.attachments.content import file_response, stored_file
from turnstream.server.context import ServerContext, checked_id, request_block, request_cursor, request_paging
from turnstream.server.json_answers import json_answer
from turnstream.server.live_turn import stream_response
from turnstream.server.openapi_additions import (
    CURSOR_SCHEMA,
    KEY_SCHEMA,
    Identifier,
    Limit,
    OptionalIdentifier,
    errors,
)
from turnstream.server.turn_json import page_json, single_json
from turnstream.server.views import (
    AnswerBody,
    ApprovalBody,
    ApprovalView,
    BlocksView,
    CallBody,
    InterruptView,
    ToolBody,
    TurnBody,
    TurnListView,
    TurnView,
)
from turnstream.tools.asking import ApprovalAnswer
from turnstream.turns.chats import LIST_PORTION
from turnstream.turns.new_turns import Alternative, StartedTurn, TurnRequest
from turnstream.wires.base import ToolDefinition

BlockIndex: TypeAlias = Annotated[int, Path(ge=0, le=999_999_999)]
_KEY = re.compile(KEY_SCHEMA["pattern"])
_KEY_DOCS: dict[str, Any] = {
    "parameters": [{"name": "Idempotency-Key", "in": "header", "schema": KEY_SCHEMA}]
}
_CURSOR_DOCS: dict[str, Any] = {
    "parameters": [
        {"name": "after", "in": "query", "schema": CURSOR_SCHEMA},
        {
            "name": "from_block",
            "in": "query",
            "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
        },
        {"name": "Last-Event-ID", "in": "header", "schema": CURSOR_SCHEMA},
    ]
}
"""Parameters that the watch route reads from the request itself."""
_STREAM_DOCS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "the turn's events; see PROTOCOL.md"}
}


class StartedAlternative(BaseModel):
    assistant_turn: TurnView
    stream_url: str


class StartedView(BaseModel):
    user_turn: TurnView | None
    assistant_turn: TurnView
    stream_url: str
    alternatives: list[StartedAlternative]
    """Further answers that the request has started. Empty for one answer."""

    @classmethod
    def of(cls, started: StartedTurn, turns_url: str) -> StartedView:
        """Return the view. `turns_url`: address of the turns, to which the id of a turn is added."""
        user = started.user_turn
        answer, *others = [
            StartedAlternative(
                assistant_turn=TurnView.of_turn(turn), stream_url=f"{turns_url}/{turn.id}/stream"
            )
            for turn in (started.assistant_turn, *started.alternatives)
        ]
        return cls(
            user_turn=TurnView.of_turn(user, started.user_blocks) if user is not None else None,
            assistant_turn=answer.assistant_turn,
            stream_url=answer.stream_url,
            alternatives=others,
        )


_STARTS: dict[str, Any] = {
    "status_code": 201,
    "response_model": StartedView,
    "responses": {**_STREAM_DOCS, **errors(400, 401, 404, 408, 409, 413, 502, 503)},
    "openapi_extra": _KEY_DOCS,
}
"""Description of the routes that start a turn."""


def add_turn_routes(router: APIRouter, context: ServerContext) -> None:
    commands = context.commands

    @router.post(
        "/chats/{chat_id}/turns",
        **_STARTS,
        summary="Send a user turn and start the answer; with ?stream=true the answer is its event stream",
    )
    async def start_turn(
        request: Request, chat_id: Identifier, body: TurnBody, *, stream: Annotated[bool, Query()] = False
    ) -> Response:
        return await answer_turn(context, request, chat_id, body, stream=stream)

    @router.post(
        "/turns/{turn_id}/regenerate",
        **_STARTS,
        summary="Answer again: a sibling of an answer, or another answer to a user turn",
    )
    async def regenerate_turn(
        request: Request,
        turn_id: Identifier,
        body: CallBody | None = None,
        *,
        stream: Annotated[bool, Query()] = False,
    ) -> Response:
        principal = await context.principal(request)
        asked = _call_request(request, checked_id(turn_id, "turn_id"), body or CallBody(), principal.metadata)
        started = await commands.regenerate(principal.owner, turn_id, asked)
        if stream:
            return await _stream_of(context, principal.owner, started)
        return _started(started, request, "/turns/")

    @router.get(
        "/turns/{turn_id}/siblings",
        response_model=TurnListView,
        responses=errors(400, 401, 404, 503),
        summary="List a turn and its alternatives, oldest first",
    )
    async def list_siblings(
        request: Request, turn_id: Identifier, limit: Limit = None, before: OptionalIdentifier = None
    ) -> Response:
        owner = (await context.principal(request)).owner
        paging = request_paging(before, limit)
        page = await commands.chats.siblings(owner, checked_id(turn_id, "turn_id"), paging)
        return await json_answer(page_json(commands.chats, page, LIST_PORTION), context.keep_alive)

    @router.get(
        "/turns/{turn_id}",
        response_model=TurnView,
        responses=errors(400, 401, 404, 503),
        summary="Read a turn with its blocks",
    )
    async def read_turn(request: Request, turn_id: Identifier) -> Response:
        owner = (await context.principal(request)).owner
        state = await commands.state(owner, checked_id(turn_id, "turn_id"))
        view = partial(TurnView.of_turn, state.turn, (), state.attempts, state.approvals)
        return await json_answer(single_json(view, state.blocks), context.keep_alive)

    @router.get(
        "/turns/{turn_id}/blocks",
        response_model=BlocksView,
        responses=errors(400, 401, 404, 503),
        summary="Read a turn's blocks",
    )
    async def read_blocks(request: Request, turn_id: Identifier) -> Response:
        owner = (await context.principal(request)).owner
        state = await commands.state(owner, checked_id(turn_id, "turn_id"))
        view = partial(BlocksView.without_blocks, state)
        return await json_answer(single_json(view, state.blocks), context.keep_alive)

    @router.get(
        "/turns/{turn_id}/blocks/{sequence}/content",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}, **errors(400, 401, 404, 503)},
        summary="Read the image or the document of a block as bytes",
    )
    async def read_content(request: Request, turn_id: Identifier, sequence: BlockIndex) -> Response:
        owner = (await context.principal(request)).owner
        state = await commands.state(owner, checked_id(turn_id, "turn_id"))
        found = [row.block for row in state.blocks if row.block.sequence == sequence]
        if not found:
            raise NotFound("the turn has no such block: list them with /turns/{id}/blocks")
        file = await asyncio.to_thread(stored_file, found[0])
        return file_response(file, f"{turn_id}-{sequence}")

    @router.get(
        "/turns/{turn_id}/stream",
        response_class=Response,
        responses={
            **_STREAM_DOCS,
            204: {"description": "the cursor is at the turn's end: nothing follows"},
            **errors(400, 401, 404, 503),
        },
        openapi_extra=_CURSOR_DOCS,
        summary="Watch a turn: catch-up, then live",
    )
    async def watch_turn(request: Request, turn_id: Identifier) -> Response:
        owner = (await context.principal(request)).owner
        checked_id(turn_id, "turn_id")
        subscription = await context.watching.subscribe(
            owner, turn_id, after=request_cursor(request), from_block=request_block(request)
        )
        return stream_response(context, subscription)

    @router.post(
        "/turns/{turn_id}/interrupt",
        responses=errors(400, 401, 404, 408, 413, 503),
        summary="Stop a turn; its true end is answered",
    )
    async def interrupt_turn(request: Request, turn_id: Identifier) -> InterruptView:
        owner = (await context.principal(request)).owner
        return InterruptView.of(await commands.interrupt(owner, checked_id(turn_id, "turn_id")))

    @router.post(
        "/turns/{turn_id}/approvals/{approval_id}",
        responses=errors(400, 401, 404, 408, 409, 413, 503),
        summary="Approve or deny a tool call; after the last answer the turn continues",
    )
    async def answer_approval(
        request: Request, turn_id: Identifier, approval_id: Identifier, body: ApprovalBody
    ) -> ApprovalView:
        owner = (await context.principal(request)).owner
        answer = ApprovalAnswer(body.approved, plain_request_json(body.reason, "the reason"))
        approval = await commands.approvals.answer(
            owner, checked_id(turn_id, "turn_id"), checked_id(approval_id, "approval_id"), answer
        )
        return ApprovalView.of_approval(approval)


async def answer_turn(
    context: ServerContext, request: Request, chat_id: Identifier, body: TurnBody, *, stream: bool
) -> Response:
    """Start a turn. Return its ids or, if `stream`, its event stream. Raises TurnstreamError."""
    principal = await context.principal(request)
    turn_request = _turn_request(request, checked_id(chat_id, "chat_id"), body, principal.metadata)
    started = await context.commands.send(principal.owner, turn_request)
    if stream:
        return await _stream_of(context, principal.owner, started)
    return _started(started, request, "/chats/")


def _started(started: StartedTurn, request: Request, collection: str) -> Response:
    root = request.url.path.rpartition(collection)[0]
    view = StartedView.of(started, f"{root}/turns")
    return Response(view.model_dump_json(), 201, media_type="application/json")


async def _stream_of(context: ServerContext, owner: str, started: StartedTurn) -> Response:
    turn = started.assistant_turn
    beginning = Cursor(turn.generation, 0)
    return stream_response(context, await context.watching.subscribe(owner, turn.id, after=beginning))


def _turn_request(
    request: Request, chat_id: Identifier, body: TurnBody, principal_metadata: dict[str, object]
) -> TurnRequest:
    if body.prev_turn_id is not None:
        checked_id(body.prev_turn_id, "prev_turn_id")
    return msgspec.structs.replace(
        _call_request(request, chat_id, body, principal_metadata),
        chat_id=chat_id,
        blocks=tuple(block.to_block(place) for place, block in enumerate(body.turn_blocks)),
        prev_turn_id=body.prev_turn_id,
    )


def _call_request(
    request: Request, asked_of: str, body: CallBody, principal_metadata: dict[str, object]
) -> TurnRequest:
    """Return a request without blocks. `asked_of`: id of the chat or turn, for the fingerprint."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequest(
            f"Idempotency-Key must have 1 to {MAX_KEY} characters, without control characters"
        )
    asked = _answer_fields(body)
    asked["store"] = body.store
    asked["metadata"] = {**body.metadata, **principal_metadata}
    if body.alternatives is not None:
        asked["alternatives"] = tuple(Alternative(**_answer_fields(each)) for each in body.alternatives)
    fingerprint = _fingerprint(asked_of, body) if key is not None else None
    return TurnRequest(chat_id="", idempotency_key=key, fingerprint=fingerprint, **asked)


def _answer_fields(body: AnswerBody) -> dict[str, Any]:
    """Return the options of an answer, as a request of the engine has them."""
    asked: dict[str, Any] = {name: getattr(body, name) for name in AnswerBody.model_fields}
    asked["fallbacks"] = None if body.fallbacks is None else tuple(body.fallbacks)
    asked["tools"] = None if body.tools is None else tuple(_tool(tool) for tool in body.tools)
    return asked


def _tool(tool: str | ToolBody) -> str | ToolDefinition:
    return tool if isinstance(tool, str) else ToolDefinition(tool.name, tool.description, tool.input_schema)


def _fingerprint(asked_of: str, body: CallBody) -> str:
    """Return a hash of the request, which identifies a repetition."""
    canonical = json.dumps([asked_of, body.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
