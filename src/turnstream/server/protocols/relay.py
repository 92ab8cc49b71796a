"""Routes of the relay: a message to a preset agent, answered as chunks, cost and end."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.dialects.relay.encoder import (
    HEADERS,
    HEARTBEAT,
    encoder_of,
    parse_position,
    relay_state,
)
from turnstream.dialects.relay.request import AgentPreset, RelayMessage, message_of, parse_message
from turnstream.errors import Forbidden, InvalidRequest, NotFound, ProviderError, TurnstreamError
from turnstream.server.auth import Principal, is_cross_site
from turnstream.server.context import ServerContext
from turnstream.server.protocols.conversing import answer_stream, stop_on_disconnect
from turnstream.server.protocols.first_output import OutputStream
from turnstream.server.protocols.route_table import add_routes
from turnstream.server.streams import EventStream, StreamFormat
from turnstream.store.queries import GetChat, GetTurn, ListChats
from turnstream.turnlog.dialect_subscription import DialectSubscription
from turnstream.turns.clock import iso_timestamp
from turnstream.turns.executor import Executor
from turnstream.turns.new_turns import TurnRequest

PATH = "/command-center"
HISTORY = 10
"""Messages before the question that the model gets."""
TITLE_LENGTH = 50
MAX_REPEATED = 1000
"""GET requests that are remembered, so that a repetition joins their turn."""
MAX_LISTED = 1000
"""Chats of which a list of conversations is made."""

_FORMAT = StreamFormat(HEADERS, HEARTBEAT, must_end=True)


class _Question(NamedTuple):
    """A message of an owner. A repeated GET has an equal one."""

    owner: str
    message: RelayMessage


def add_relay_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes to `router`."""
    relay = Relay(context)
    add_routes(
        router,
        {
            f"POST {PATH}/message": relay.post,
            f"GET {PATH}/message": relay.listen,
            f"GET {PATH}/conversations": relay.conversations,
            "GET /agents": relay.agents,
        },
    )


class Relay:
    """Answers the relay's requests."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._asked: dict[_Question, tuple[str, str]] = {}
        """The turn and the chat of each GET request. The oldest entry is evicted first."""

    async def post(self, request: Request) -> Response:
        """Start a turn that answers the message in the body.

        A turn that fails without output is answered with the provider's status.
        """
        context = self._context
        principal = await context.principal(request)
        turn_id, chat_id = await self._start(principal, parse_message(await request.body()))
        executor = context.commands.registry.executor(turn_id)
        subscription = await context.watching.subscribe_in(encoder_of(turn_id), principal.owner, turn_id)
        stream = EventStream(subscription, context.keep_alive, _FORMAT)
        stream.on_disconnect = stop_on_disconnect(context, "relay", turn_id)
        return _RelayedAnswer(subscription, stream, chat_id, executor, debug=context.debug)

    async def listen(self, request: Request) -> Response:
        """Start a turn for an EventSource, or resume the turn of its last id.

        A repeated request without an id joins the turn of the first one, as long as that turn runs.
        """
        principal = await self._context.principal(request)
        if is_cross_site(request):
            raise Forbidden("a page of another origin may not send messages by GET: send them by POST")
        if last := request.headers.get("last-event-id"):
            return await self._resume(principal, last)
        commands, owner = self._context.commands, principal.owner
        question = _Question(owner, message_of(dict(request.query_params)))
        key = "relay-" + sha256(msgspec.json.encode(question.message)).hexdigest()
        async with commands.keys.claim(owner, key):
            turn_id, chat_id = self._asked.get(question, ("", ""))
            if commands.registry.executor(turn_id) is None:
                turn_id, chat_id = await self._start(principal, question.message)
                self._asked.pop(question, None)
                if len(self._asked) >= MAX_REPEATED:
                    del self._asked[next(iter(self._asked))]
                self._asked[question] = (turn_id, chat_id)
        return await self._stream(principal, turn_id, chat_id)

    async def conversations(self, request: Request) -> Response:
        """List the conversations with an agent, the last changed first."""
        owner = (await self._context.principal(request)).owner
        agent_id = request.query_params.get("agentId")
        chats = await self._context.commands.store.read(ListChats(owner=owner, limit=MAX_LISTED))
        found = [
            {
                "id": chat.id,
                "agentId": chat.metadata["agentId"],
                "title": chat.title,
                "createdAt": iso_timestamp(chat.created_at),
                "updatedAt": iso_timestamp(chat.updated_at),
            }
            for chat in chats
            if "agentId" in chat.metadata and agent_id in (None, chat.metadata["agentId"])
        ]
        return JSONResponse({"conversations": found})

    async def agents(self, request: Request) -> Response:
        """List the presets."""
        await self._context.principal(request)
        presets = [
            {"id": name, "model": preset.model, "active": preset.active}
            for name, preset in self._context.presets.items()
        ]
        return JSONResponse({"agents": presets})

    async def _resume(self, principal: Principal, last: str) -> Response:
        position = parse_position(last)
        if position is None:
            raise InvalidRequest(
                "the Last-Event-ID is not an id of this stream: give one, or none", code="invalid_cursor"
            )
        query = GetTurn(owner=principal.owner, turn_id=position.turn_id)
        turn = await self._context.commands.store.read(query)
        if position.shown is None:
            return Response(status_code=204)
        return await self._stream(principal, turn.id, turn.chat_id, position.shown)

    async def _stream(self, principal: Principal, turn_id: str, chat_id: str, shown: int = 0) -> Response:
        context = self._context
        encoder = encoder_of(turn_id, shown)
        subscription = await context.watching.subscribe_in(encoder, principal.owner, turn_id)
        form = _FORMAT._replace(headers={**HEADERS, "x-conversation-id": chat_id})
        return answer_stream(context, "relay", turn_id, subscription, form)

    async def _start(self, principal: Principal, asked: RelayMessage) -> tuple[str, str]:
        """Start a turn, and return its id and its chat."""
        commands, owner = self._context.commands, principal.owner
        preset = self._preset(asked.agent_id)
        previous: str | None = None
        if asked.conversation_id is None:
            title = asked.message[:TITLE_LENGTH]
            chat = await commands.chats.create(owner, title=title, metadata={"agentId": asked.agent_id})
        else:
            chat = await commands.store.read(GetChat(owner=owner, chat_id=asked.conversation_id))
            previous = chat.active_turn_id
        traces = {"agentId": asked.agent_id, "traceSessionId": chat.id, "taskTraceId": new_id()}
        started = await commands.send(
            owner,
            TurnRequest(
                chat_id=chat.id,
                blocks=(Block(0, "text", asked.message),),
                prev_turn_id=previous,
                model=preset.model,
                system=preset.system,
                params=preset.params,
                tools=self._tools(preset),
                metadata={**traces, **principal.metadata},
                history_limit=HISTORY,
            ),
        )
        return started.assistant_turn.id, chat.id

    def _preset(self, agent_id: str) -> AgentPreset:
        preset = self._context.presets.get(agent_id)
        if preset is None:
            raise NotFound("no such agent: choose one of the list", code="agent_not_found")
        if not preset.active:
            raise InvalidRequest("this agent is not active: choose another", code="agent_inactive")
        return preset

    def _tools(self, preset: AgentPreset) -> tuple[str, ...]:
        """Return the preset's tools, without those that ask first: a client of the relay cannot answer."""
        known = self._context.commands.tools.tools
        return tuple(name for name in preset.tools if name not in known or known[name].ask == "never")


class _RelayedAnswer(OutputStream):
    """The stream of an answer to a POST."""

    def __init__(
        self,
        subscription: DialectSubscription,
        stream: EventStream,
        chat_id: str,
        executor: Executor | None,
        *,
        debug: bool,
    ) -> None:
        super().__init__(subscription, stream, {**HEADERS, "x-conversation-id": chat_id}, debug=debug)
        self._executor = executor

    def has_output(self, state: object) -> bool:
        return relay_state(state).length > 0

    def refusal(self, state: object) -> Response | None:
        if (end := relay_state(state).failure) is None:
            return None
        failure = None if self._executor is None else self._executor.failure
        status = None if failure is None else failure.provider_status
        response = relay_error(ProviderError(end.error, code=end.code, provider_status=status))
        response.headers["x-conversation-id"] = self.headers["x-conversation-id"]
        return response

    def error_response(self, error: TurnstreamError) -> Response:
        return relay_error(error)


def relay_error(error: TurnstreamError) -> Response:
    """Return the response of an error before the stream: `{error, message}`."""
    status = error.status
    if isinstance(error, ProviderError) and error.provider_status is not None:
        status = error.provider_status
    headers = {"Retry-After": "1"} if status == 503 else None
    body = {"error": error.code, "message": error.message}
    return JSONResponse(body, status_code=status, headers=headers)
