"""Starting, reading, resuming, stopping and deleting responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.core.answers import Answer
from turnstream.core.blocks import Message
from turnstream.core.stream_events import StreamError
from turnstream.dialects.client_request import ClientRequest
from turnstream.dialects.openai_responses.encoder import (
    HEADERS,
    HEARTBEAT,
    encoder_of,
    repeating,
    response_of,
)
from turnstream.dialects.openai_responses.ids import turn_of
from turnstream.dialects.openai_responses.items import items_of_path
from turnstream.dialects.openai_responses.request import ResponsesRequest, parse_request
from turnstream.dialects.openai_responses.response_fields import facts_of
from turnstream.errors import Conflict, InvalidRequest, NotFound
from turnstream.model_loop.estimates import estimated_input_tokens
from turnstream.server.context import ServerContext
from turnstream.server.protocols.conversing import (
    start_answer,
    stop_on_disconnect,
    without_asking_tools,
)
from turnstream.server.protocols.openai_responses.item_lists import item_page
from turnstream.server.protocols.openai_responses.references import with_referenced_items
from turnstream.server.protocols.provider_shaped import ProviderShape, WholeAnswer
from turnstream.server.protocols.provider_shaped import turn_of as answered_turn
from turnstream.server.streams import EventStreamResponse, StreamFormat
from turnstream.store.base import TurnRecord
from turnstream.store.queries import GetChat, GetTurn
from turnstream.turns.conversations import ResentConversation
from turnstream.turns.histories import Path, read_history
from turnstream.wires.base import ModelRequest, ToolDefinition
from turnstream.wires.openai_responses.wire import WIRE
from turnstream.wires.shared.lenient_json import encode_json

FORM = StreamFormat(HEADERS, HEARTBEAT, must_end=True)
SHAPE = ProviderShape("openai_responses", WIRE, FORM, "x-request-id")
PROTOCOL = SHAPE.protocol


class Responses:
    """Answers the requests of clients about responses."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context

    async def create(self, request: Request) -> Response:
        """Start a response. Answer with its stream, or its end, or at once if it runs in the background."""
        context = self._context
        principal = await context.principal(request)
        owner = principal.owner
        body = await with_referenced_items(context, owner, await request.body())
        seal = await context.origin_key.seal()
        asked = parse_request(body, stores=context.commands.is_stored(store=None), seal=seal)
        called = without_asking_tools(await self._placed(owner, asked), context.commands.tools.tools)
        turn = (await start_answer(context, principal, called)).assistant_turn
        if asked.streams:
            stops = None if asked.background else stop_on_disconnect(context, PROTOCOL, turn.id)
            return await self._stream(owner, turn, on_disconnect=stops, request_id=turn.id)
        if asked.background:
            return JSONResponse(response_of(turn, ()))
        return WholeAnswer(
            SHAPE, answered_turn(context, SHAPE, turn.id), AwaitedResponse(context, owner, turn.id).body
        )

    async def retrieve(self, request: Request, response_id: str) -> Response:
        """Return a response, or the rest of its stream."""
        owner = (await self._context.principal(request)).owner
        turn_id = turn_of(response_id)
        if request.query_params.get("stream") not in {"true", "True", "1"}:
            state = await self._context.commands.state(owner, turn_id)
            check_response(state.turn)
            return JSONResponse(response_of(state.turn, state.blocks, await self._context.origin_key.seal()))
        turn = await self._context.commands.store.read(GetTurn(owner=owner, turn_id=turn_id))
        check_response(turn)
        return await self._stream(owner, turn, starting_after=_starting_after(request))

    async def cancel(self, request: Request, response_id: str) -> Response:
        """Stop a response. One that has ended stays as it is."""
        owner = (await self._context.principal(request)).owner
        turn_id = turn_of(response_id)
        check_response(await self._context.commands.store.read(GetTurn(owner=owner, turn_id=turn_id)))
        state = await self._context.commands.interrupt(owner, turn_id)
        return JSONResponse(response_of(state.turn, state.blocks, await self._context.origin_key.seal()))

    async def delete(self, request: Request, response_id: str) -> Response:
        """Delete a response that no other one continues, and its input."""
        owner = (await self._context.principal(request)).owner
        turn_id = turn_of(response_id)
        turn = await self._context.commands.store.read(GetTurn(owner=owner, turn_id=turn_id))
        check_response(turn)
        facts = facts_of(turn)
        if not facts.store:
            raise Conflict(
                "this response is not stored, so it cannot be deleted: wait until it is dropped after its end"
            )
        await self._context.commands.chats.delete_turn(owner, turn_id, keeps_chat=facts.conversation)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    async def input_items(self, request: Request, response_id: str) -> Response:
        """Answer with a page of the items that a request sent, in order."""
        owner = (await self._context.principal(request)).owner
        store = self._context.commands.store
        turn = await store.read(GetTurn(owner=owner, turn_id=turn_of(response_id)))
        check_response(turn)
        path = [] if turn.prev_turn_id is None else await read_history(store, turn.prev_turn_id)
        return JSONResponse(item_page(request, items_of_path(_sent_with(turn, path))))

    async def count_tokens(self, request: Request) -> Response:
        """Answer with the estimated tokens of a request's input. The answer says that it is an estimate.

        The history that `previous_response_id` or `conversation` names is not counted.
        """
        owner = (await self._context.principal(request)).owner
        body = await with_referenced_items(self._context, owner, await request.body())
        asked = parse_request(body, default_model="none").asked
        given = asked.conversation
        call = ModelRequest(
            model="",
            messages=(*given.messages, *given.last),
            system=asked.system,
            tools=tuple(tool for tool in asked.tools or () if isinstance(tool, ToolDefinition)),
        )
        tokens = estimated_input_tokens(call)
        return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens, "estimated": True})

    async def _placed(self, owner: str, asked: ResponsesRequest) -> ClientRequest:
        """Return the request with the place of its input in a chat."""
        client = asked.asked
        store = self._context.commands.store
        after, given = asked.after, client.conversation
        if after is not None:
            try:
                turn = await store.read(GetTurn(owner=owner, turn_id=after))
                check_response(turn)
            except NotFound:
                raise InvalidRequest(
                    "there is no response with this previous_response_id", code="previous_response_not_found"
                ) from None
        if asked.chat_id is not None:
            after = (await store.read(GetChat(owner=owner, chat_id=asked.chat_id))).active_turn_id
        if after is not None:
            await self._check_input(owner, after, given)
            given = await self._following(owner, after, given, stored=asked.stored)
        elif asked.chat_id is not None:
            if not given.new:
                raise InvalidRequest("the conversation has no message to answer: send input")
            given = msgspec.structs.replace(given, chat_id=asked.chat_id)
        return msgspec.structs.replace(client, conversation=given)

    async def _following(
        self, owner: str, after: str, given: ResentConversation, *, stored: bool
    ) -> ResentConversation:
        """Return a conversation that follows a turn.

        If it is not stored, it repeats the messages before it.
        """
        if stored:
            return msgspec.structs.replace(given, after=after)
        await self._context.commands.store.read(GetTurn(owner=owner, turn_id=after))
        path = await read_history(self._context.commands.store, after)
        before = [Message("user" if turn.role == "user" else "assistant", blocks) for turn, blocks in path]
        return msgspec.structs.replace(given, messages=(*before, *given.messages))

    async def _check_input(self, owner: str, after: str, given: ResentConversation) -> None:
        if given.new or given.messages:
            return
        last = await self._context.commands.store.read(GetTurn(owner=owner, turn_id=after))
        if last.role != "user":
            raise InvalidRequest("the conversation has no message to answer: send input")

    async def _stream(
        self,
        owner: str,
        turn: TurnRecord,
        *,
        starting_after: int | None = None,
        on_disconnect: Callable[[], None] | None = None,
        request_id: str | None = None,
    ) -> Response:
        """Return the stream of a turn.

        Args:
            starting_after: Number of the last event that the client has. None: the client has none, or drops
                repeated events itself.
        """
        seal = await self._context.origin_key.seal()
        encoder = encoder_of(turn, starting_after=-1 if starting_after is None else starting_after, seal=seal)
        subscription = await self._context.watching.subscribe_in(repeating(encoder), owner, turn.id)
        log = subscription.log
        encoder.resets = lambda: log.history.resets
        encoder.divides = starting_after is None and subscription.needs_catch_up
        headers = {} if request_id is None else {SHAPE.id_header: request_id}
        return EventStreamResponse(
            subscription, self._context.keep_alive, form=FORM, headers=headers, on_disconnect=on_disconnect
        )


class AwaitedResponse(NamedTuple):
    """The end of a response that its client waits for."""

    context: ServerContext
    owner: str
    turn_id: str

    async def body(self) -> Answer | bytes:
        """Wait for the end. Return the body, or the error of a response that failed without output."""
        commands = self.context.commands
        await commands.ended(self.turn_id)
        turn, rows, *_ = await commands.state(self.owner, self.turn_id)
        if turn.status == "error" and not rows:
            code, message = turn.error_code or "internal_error", turn.error_message or "the turn failed"
            return Answer(error=StreamError("internal_server", code, message))
        return encode_json(response_of(turn, rows, await self.context.origin_key.seal()))


def check_response(turn: TurnRecord) -> None:
    """Raise NotFound for a turn that is not an answer of a model."""
    if turn.role != "assistant" or turn.imported:
        raise NotFound("no such response")


def _starting_after(request: Request) -> int | None:
    text = request.query_params.get("starting_after")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise InvalidRequest("starting_after must be the sequence_number of an event (0, 1, …)")
    return int(text)


def _sent_with(turn: TurnRecord, path: Path) -> Path:
    """Return the turns of a path that the request of a response has sent."""
    facts = facts_of(turn)
    if facts.previous_response_id is not None:
        before = turn_of(facts.previous_response_id)
        place = next((place for place, (earlier, _) in enumerate(path) if earlier.id == before), -1)
        return path[place + 1 :]
    if facts.conversation:
        answers = [place for place, (earlier, _) in enumerate(path) if not is_sent(earlier)]
        return path[answers[-1] + 1 :] if answers else path
    return path


def is_sent(turn: TurnRecord) -> bool:
    """Return True for a turn that a client sent, and not a model."""
    return turn.role == "user" or turn.imported
