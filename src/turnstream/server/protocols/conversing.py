"""Starting and finding turns for clients that send their whole conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from turnstream.core.admission import plain_request_json
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.dialects.client_request import ClientApproval, ClientRequest
from turnstream.errors import Conflict, InvalidRequest
from turnstream.limits import MAX_REASON
from turnstream.providers.conversations import run_work
from turnstream.server.attachments.checks import check_attachment
from turnstream.server.auth import Principal
from turnstream.server.context import ServerContext
from turnstream.server.requests.limited_route import validation_error
from turnstream.server.streams import EventStreamResponse, StreamFormat, Watcher
from turnstream.server.views import CallBody
from turnstream.store.approvals import FindApproval
from turnstream.store.base import ApprovalRecord, TurnRecord
from turnstream.store.queries import CurrentAnswers, GetTurn
from turnstream.tools.asking import ApprovalAnswer
from turnstream.tools.base import Tool
from turnstream.turns.clock import now_microseconds
from turnstream.turns.model_turns import tools_that_never_ask
from turnstream.turns.new_turns import StartedTurn, TurnRequest

_LATE = frozenset({"approval_decided", "approval_expired", "turn_ended"})
"""Codes of answers to approvals that have another answer, or none and no time left."""


class AnsweredApprovals(NamedTuple):
    """A turn, and a client's answers to its approvals."""

    turn: TurnRecord
    answers: Sequence[tuple[ApprovalRecord, ApprovalAnswer]]


async def start_answer(
    context: ServerContext, principal: Principal, asked: ClientRequest, *, new_key: str | None = None
) -> StartedTurn:
    """Start the answer that a client asks for. Raises TurnstreamError.

    Args:
        new_key: Idempotency key that the caller has claimed, and that has started no turn. None: without one.
    """
    if new_key is not None:
        request = await _turn_request(context, principal, asked)
        request = msgspec.structs.replace(
            request, idempotency_key=new_key, fingerprint=new_key, is_first_use=True
        )
        return await context.commands.send(principal.owner, request)
    key = await _key_of(asked)
    if key is None:
        return await context.commands.send(principal.owner, await _turn_request(context, principal, asked))
    async with context.commands.keys.claim(principal.owner, key):
        return await _start_or_join(context, principal, asked, key)


async def _start_or_join(
    context: ServerContext, principal: Principal, asked: ClientRequest, key: str
) -> StartedTurn:
    """Start an answer, or return the one that an earlier request with the claimed key has started.

    An answer that failed or was stopped is not joined: the client asks for another one.
    """
    while True:
        request = await _turn_request(context, principal, asked)
        request = msgspec.structs.replace(request, idempotency_key=key, fingerprint=key, is_claimed=True)
        started = await context.commands.send(principal.owner, request)
        answer = started.assistant_turn
        if not started.replayed or answer.status not in {"error", "cancelled"}:
            return started
        key = sha256(f"{key} {answer.id}".encode()).hexdigest()


async def _key_of(asked: ClientRequest) -> str | None:
    """Return the idempotency key of a request that repetitions join, or None for any other request.

    The key is a digest of the conversation and the options. So another model, or an edited message before the
    new one, makes another request.
    """
    given = asked.conversation
    if not (asked.joins and given.new and given.chat_id and given.new_message_id):
        return None

    def digested() -> str:
        options = (asked.model, asked.system, asked.fallbacks, asked.params, asked.tools)
        return sha256(repr((given, options)).encode()).hexdigest()  # repr also takes text that UTF-8 lacks

    return await run_work((*given.messages, *given.last), digested)


async def _turn_request(context: ServerContext, principal: Principal, asked: ClientRequest) -> TurnRequest:
    """Return the request for the turn that a client asks for. Raises TurnstreamError."""
    for place, block in enumerate(asked.conversation.new):
        if block.block_type in ("image", "document"):
            check_attachment(f"part {place} of the last message", block.block_type, block.content or {})
    _check_options(asked)
    commands = context.commands
    if commands.is_stored(store=asked.store):
        request = await commands.conversations.continue_from(principal.owner, asked.conversation)
    else:
        request = commands.conversations.transient_request(asked.conversation)
    metadata = {**asked.metadata, **principal.metadata}
    return msgspec.structs.replace(asked.options_of(request), metadata=metadata)


def without_asking_tools(asked: ClientRequest, tools: Mapping[str, Tool]) -> ClientRequest:
    """Return a request without tools that ask first, for clients that cannot approve a call.

    Raises InvalidRequest if the client asks for such a tool.

    Args:
        tools: Tools that run here, by name.
    """
    kept = tools_that_never_ask(asked.tools, tools, "clients of this address")
    return asked if kept is asked.tools else msgspec.structs.replace(asked, tools=kept)


async def find_answered(
    context: ServerContext, principal: Principal, approvals: Sequence[ClientApproval]
) -> AnsweredApprovals:
    """Return the turn whose approvals a client answers, and the answers, which are not stored yet.

    Raises InvalidRequest, and NotFound if there is no such approval.
    """
    store, owner = context.commands.store, principal.owner
    answers: list[tuple[ApprovalRecord, ApprovalAnswer]] = []
    for approval in approvals:
        if len(approval.reason or "") > MAX_REASON:
            raise InvalidRequest(
                f"the reason of an approval has more than {MAX_REASON:,} characters: shorten it"
            )
        found = await store.read(FindApproval(owner=owner, approval_id=approval.approval_id))
        reason = plain_request_json(approval.reason, "the reason")
        answers.append((found, ApprovalAnswer(approval.is_approved, reason)))
    turn_id, *others = {found.turn_id for found, _ in answers}
    if others:
        raise InvalidRequest("the approvals belong to several turns: answer those of one turn at a time")
    return AnsweredApprovals(await store.read(GetTurn(owner=owner, turn_id=turn_id)), answers)


async def store_answers(context: ServerContext, principal: Principal, answered: AnsweredApprovals) -> bool:
    """Store a client's answers. Return True if one of them is the first answer to its approval.

    An answer that comes too late changes nothing: the turn's events show the answer that counts. Raises
    NotFound, Conflict (`input_changed`), StoreError.
    """
    approvals, has_counted = context.commands.approvals, False
    for found, answer in answered.answers:
        try:
            await approvals.answer(principal.owner, found.turn_id, found.id, answer)
            has_counted = has_counted or found.approved is None
        except Conflict as error:
            if error.code not in _LATE:
                raise
            if error.code == "approval_expired":
                await approvals.check()
    return has_counted


def _check_options(asked: ClientRequest) -> None:
    """Raise InvalidRequest for options that the native protocol refuses."""
    given = {name: getattr(asked, name) for name in ("model", "fallbacks", "system", "params", "metadata")}
    options: dict[str, object] = {name: value for name, value in given.items() if value}  # others are valid
    if asked.tools is not None:
        options["tools"] = [
            tool
            if isinstance(tool, str)
            else {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
            for tool in asked.tools
        ]
    try:
        CallBody.model_validate(options)
    except ValidationError as error:
        raise validation_error(RequestValidationError(error.errors())) from None


async def running_turns(
    context: ServerContext, owner: str, client_chat_id: str, *, ended_within: float = 0
) -> list[TurnRecord]:
    """Return the turns that run or wait in a chat, the newest first.

    There are none in an unknown chat. Raises InvalidRequest (`invalid_client_id`), StoreError.

    Args:
        client_chat_id: The client's id of the chat.
        ended_within: Seconds. Turns that ended in this time are included.
    """
    commands = context.commands
    chat_id = await commands.conversations.chat_of(owner, client_chat_id)
    if chat_id is None:
        return []
    found = await commands.store.read(
        CurrentAnswers(chat_id=chat_id, since=now_microseconds() - int(ended_within * 1_000_000))
    )
    return [turn for turn in found if ended_within or turn.status not in TERMINAL_STATUSES]


def answer_stream(  # noqa: PLR0913
    context: ServerContext,
    protocol: str,
    turn_id: str,
    watcher: Watcher,
    form: StreamFormat,
    *,
    has_started: bool = True,
) -> EventStreamResponse:
    """Return the event stream of an answer to a client. See `stop_on_disconnect`.

    Args:
        has_started: The client's request has started the turn, or continued it. A client that only watches
            never stops the turn.
    """
    on_disconnect = stop_on_disconnect(context, protocol, turn_id) if has_started else None
    return EventStreamResponse(watcher, context.keep_alive, form=form, on_disconnect=on_disconnect)


def stop_on_disconnect(context: ServerContext, protocol: str, turn_id: str) -> Callable[[], None] | None:
    """Return the function that stops a turn when its client disconnects.

    Return None if the settings say that the turns of `protocol` continue.
    """
    if protocol not in context.stop_on_disconnect:
        return None

    def stop() -> None:
        executor = context.commands.registry.executor(turn_id)
        if executor is not None and not executor.ended.is_set():
            executor.stop("cancelled")

    return stop
