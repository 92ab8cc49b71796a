"""Routes for clients of the AI SDK: `useChat` and its transports."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.core.blocks import Block
from turnstream.core.identifiers import is_id
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.dialects.ai_sdk.chunk_writer import Major
from turnstream.dialects.ai_sdk.encoder import HEADERS, HEARTBEAT, encoder_of
from turnstream.dialects.ai_sdk.request import parse_request
from turnstream.errors import NotFound
from turnstream.server.context import ServerContext
from turnstream.server.json_answers import json_answer
from turnstream.server.protocols.conversing import (
    answer_stream,
    find_answered,
    running_turns,
    start_answer,
    store_answers,
    without_asking_tools,
)
from turnstream.server.protocols.route_table import add_routes
from turnstream.server.protocols.ui_messages import messages_json
from turnstream.server.protocols.workflow import (
    FINISH,
    RUN_HEADER,
    TAIL_HEADER,
    ContinuedStream,
    WorkflowRun,
    continued,
    parse_run,
    parse_start,
    tail_of,
    uncountable,
)
from turnstream.server.streams import EventStreamResponse, StreamFormat, Watcher
from turnstream.store.base import TurnRecord
from turnstream.store.queries import CurrentAnswers, GetTurn
from turnstream.turnlog.dialect_chain import DialectChain
from turnstream.turnlog.dialect_subscription import DialectSubscription
from turnstream.turns.histories import chain_of

PATHS: dict[str, Major] = {"/chat": 5, "/ai-sdk/chat": 5, "/ai-sdk/v6/chat": 6, "/ai-sdk/v7/chat": 7}
"""Addresses, and the oldest major version of the AI SDK that reads their answers."""
REPLAY_SECONDS = 30.0
"""Seconds after the end of an answer in which it is replayed.

The answer may end while a client whose connection was cut reconnects, or while a page loads.
"""

MESSAGE_HEADER = "x-message-id"
"""Header with the id of the message that a client has in part."""

_FORMAT = StreamFormat(HEADERS, HEARTBEAT, must_end=True)


def add_ai_sdk_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes for each major version to `router`."""
    for path, major in PATHS.items():
        answers, chat = AiSdkAnswers(context, major), f"{path}/{{chat_id:path}}"
        add_routes(
            router,
            {
                f"POST {path}": answers.start,
                f"GET {chat}/stream": answers.resume,
                f"GET {chat}/messages": answers.messages,
                f"POST {chat}/stop": answers.stop,
            },
        )


class AiSdkAnswers:
    """Answers the requests of clients of one major version."""

    def __init__(self, context: ServerContext, major: Major) -> None:
        self._context = context
        self._major: Major = major

    async def start(self, request: Request) -> Response:
        """Start an answer, or continue a turn whose approvals the client answers."""
        context, principal = self._context, await self._context.principal(request)
        tools = context.commands.tools.tools
        asked = parse_request(await request.body(), tools)
        question: Sequence[Block] = ()
        if asked.approvals and self._major > 5:
            answered = await find_answered(context, principal, asked.approvals)
            turn, has_started = answered.turn, await store_answers(context, principal, answered)
        else:
            if self._major == 5:
                asked = without_asking_tools(asked, tools)
            started = await start_answer(context, principal, asked)
            turn, has_started = started.assistant_turn, not started.replayed
            question = started.question
        run = WorkflowRun(turn.id, frozenset(approval.approval_id for approval in asked.approvals))
        subscription = await self._watch_run(principal.owner, run, turn, question)
        form = self._form(turn, {RUN_HEADER: run.run_id})
        return answer_stream(context, "ai_sdk", turn.id, subscription, form, has_started=has_started)

    async def resume(self, request: Request, chat_id: str) -> Response:
        """Replay an answer of a chat, or continue a run after a number of chunks.

        The client may name the message that it has in part. Without that, it is the newest one, and a client
        whose answer was lost cannot be told from one that has it all.
        """
        owner = (await self._context.principal(request)).owner
        start = request.query_params.get("startIndex")
        if start is not None:
            return await self._continue(owner, chat_id, parse_start(start))
        turn = await self._of_message(owner, request.headers.get(MESSAGE_HEADER))
        if turn is None:
            turn = await self._newest(owner, chat_id)
        if turn is None:
            return Response(status_code=204)
        return self._stream(turn, await self._replay(owner, turn), {})

    async def messages(self, request: Request, chat_id: str) -> Response:
        """Return the messages of a chat, for a page that loads."""
        owner = (await self._context.principal(request)).owner
        return await json_answer(messages_json(self._context, owner, chat_id), self._context.keep_alive)

    async def stop(self, request: Request, chat_id: str) -> Response:
        """Stop the running and waiting turns of a chat, or the turn of a run."""
        owner = (await self._context.principal(request)).owner
        turn = await self._turn_of_run(owner, parse_run(chat_id))
        running = await running_turns(self._context, owner, chat_id) if turn is None else [turn]
        stopped = [turn.id for turn in running if turn.status not in TERMINAL_STATUSES]
        for turn_id in stopped:
            await self._context.commands.interrupt(owner, turn_id)
        return JSONResponse({"stopped": stopped})

    async def _continue(self, owner: str, run_id: str, start: int) -> Response:
        """Return a stream to a client that counts chunks: all of it, or the rest after `start` chunks."""
        run = parse_run(run_id)
        turn = await self._turn_of_run(owner, run)
        is_run = turn is not None
        if turn is None:  # a page that has loaded knows the chat only
            turn = await self._newest(owner, run_id)
        if turn is None:
            if start > 0:  # a client with a part of an answer must not take it for all of it
                raise uncountable()
            return Response(FINISH, headers=HEADERS)
        if not is_run and len(await chain_of(self._context.commands.store, turn)) > 1:
            if start > 0:
                raise uncountable()
            watcher = ContinuedStream(await self._replay(owner, turn))
        else:
            subscription = await self._watch_run(owner, run if is_run else WorkflowRun(turn.id), turn)
            watcher = await continued(subscription, start) if start > 0 else ContinuedStream(subscription)
        return self._stream(turn, watcher, {TAIL_HEADER: str(tail_of(start))} if start <= 0 else {})

    async def _turn_of_run(self, owner: str, run: WorkflowRun) -> TurnRecord | None:
        """Return the turn of a run, or None if the id is not that of a turn.

        Raises NotFound (`turn_lost`) for a turn that was lost with its server: its client must not take the
        answer for complete.
        """
        if not is_id(run.turn_id):
            return None
        try:
            return await self._context.commands.store.read(GetTurn(owner=owner, turn_id=run.turn_id))
        except NotFound as error:
            if error.code == "turn_lost":
                raise
            return None

    async def _of_message(self, owner: str, message_id: str | None) -> TurnRecord | None:
        """Return the last turn of a message, or None if the id does not belong to an answer.

        Raises NotFound for an answer that is not here any more: its client must not take it for complete.
        """
        if message_id is None or not is_id(message_id):
            return None
        store = self._context.commands.store
        first = await store.read(GetTurn(owner=owner, turn_id=message_id))
        if first.role == "user":
            return None
        later = await store.read(CurrentAnswers(chat_id=first.chat_id, since=first.created_at))
        if later and (await chain_of(store, later[0]))[0] == first.id:
            return later[0]
        return first

    async def _newest(self, owner: str, chat_id: str) -> TurnRecord | None:
        """Return the newest answer of a chat if it runs, waits, or has just ended."""
        found = await running_turns(self._context, owner, chat_id, ended_within=REPLAY_SECONDS)
        return found[0] if found else None

    async def _replay(self, owner: str, turn: TurnRecord) -> DialectChain:
        """Return the stream of the UI message that ends with `turn`, from its start."""
        chain = await chain_of(self._context.commands.store, turn)

        async def subscribe(turn_id: str, state: object) -> DialectSubscription:
            encoder = encoder_of(turn_id, chain[0], self._major, ends_message=turn_id == turn.id)
            watching = self._context.watching
            return await watching.subscribe_in(encoder, owner, turn_id, state=state, is_exact=False)

        rest = [partial(subscribe, turn_id) for turn_id in chain[1:]]
        return DialectChain(await subscribe(chain[0], None), rest)

    async def _watch_run(
        self, owner: str, run: WorkflowRun, turn: TurnRecord, asked: Sequence[Block] = ()
    ) -> DialectSubscription:
        chain = await chain_of(self._context.commands.store, turn, asked)
        encoder = encoder_of(turn.id, chain[0], self._major, answered=run.answered)
        return await self._context.watching.subscribe_in(encoder, owner, turn.id)

    def _stream(self, turn: TurnRecord, watcher: Watcher, headers: dict[str, str]) -> Response:
        return EventStreamResponse(watcher, self._context.keep_alive, form=self._form(turn, headers))

    def _form(self, turn: TurnRecord, headers: dict[str, str]) -> StreamFormat:
        """Return the form of a turn's stream. No other server can continue that of a transient turn."""
        is_stored = turn.id not in self._context.commands.registry.transient
        return _FORMAT._replace(headers={**_FORMAT.headers, **headers}, reconnects=is_stored)
