"""Starting and finding turns for clients that send their whole conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from turnstream.core.admission import plain_request_json
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.dialects.client_request import ClientApproval, ClientRequest
from turnstream.errors import Conflict, InvalidRequest
from turnstream.server.attachments import check_attachment
from turnstream.server.auth import Principal
from turnstream.server.context import ServerContext
from turnstream.server.error_answers import validation_error
from turnstream.server.streams import EventStreamResponse, StreamFormat, Watcher
from turnstream.server.views import CallBody
from turnstream.store.approvals import FindApproval
from turnstream.store.base import TurnRecord
from turnstream.store.queries import CurrentAnswers, GetTurn
from turnstream.tools.asking import MAX_REASON, ApprovalAnswer
from turnstream.tools.base import Tool
from turnstream.turns.clock import now_microseconds
from turnstream.turns.model_turns import tools_that_never_ask
from turnstream.turns.new_turns import StartedTurn

_LATE = frozenset({"approval_decided", "approval_expired", "turn_ended"})
"""Codes of answers to approvals that have another answer, or none and no time left."""


async def start_answer(
    context: ServerContext,
    principal: Principal,
    asked: ClientRequest,
    *,
    idempotency_key: str | None = None,
) -> StartedTurn:
    """Start the answer that a client asks for. Raises TurnstreamError.

    Args:
        idempotency_key: Requests of a chat with the same key start one answer. None: each starts one.
    """
    for place, block in enumerate(asked.conversation.new):
        if block.block_type in ("image", "document"):
            check_attachment(f"part {place} of the last message", block.block_type, block.content or {})
    _check_options(asked)
    commands = context.commands
    if commands.is_stored(store=asked.store):
        request = await commands.conversations.continue_from(principal.owner, asked.conversation)
    else:
        request = commands.conversations.transient_request(asked.conversation)
    request = msgspec.structs.replace(
        asked.options_of(request),
        metadata={**asked.metadata, **principal.metadata},
        idempotency_key=idempotency_key,
        fingerprint=idempotency_key,
    )
    return await commands.send(principal.owner, request)


def without_asking_tools(asked: ClientRequest, tools: Mapping[str, Tool]) -> ClientRequest:
    """Return a request without tools that ask first, for clients that cannot approve a call.

    Raises InvalidRequest if the client asks for such a tool.

    Args:
        tools: Tools that run here, by name.
    """
    kept = tools_that_never_ask(asked.tools, tools, "clients of this address")
    return asked if kept is asked.tools else msgspec.structs.replace(asked, tools=kept)


async def answer_approvals(
    context: ServerContext, principal: Principal, approvals: Sequence[ClientApproval]
) -> TurnRecord:
    """Store a client's answers to the approvals of a turn, and return the turn.

    An answer that comes too late changes nothing: the turn's events show what counts. Raises NotFound if
    there is no such approval, InvalidRequest, and Conflict (`input_changed`).
    """
    commands, owner = context.commands, principal.owner
    if any(len(approval.reason or "") > MAX_REASON for approval in approvals):
        raise InvalidRequest(f"the reason of an approval has more than {MAX_REASON:,} characters")
    turn_ids: set[str] = set()
    for approval in approvals:
        found = await commands.store.read(FindApproval(owner=owner, approval_id=approval.approval_id))
        turn_ids.add(found.turn_id)
        answer = ApprovalAnswer(approval.is_approved, plain_request_json(approval.reason, "the reason"))
        try:
            await commands.approvals.answer(owner, found.turn_id, found.id, answer)
        except Conflict as error:
            if error.code not in _LATE:
                raise
            if error.code == "approval_expired":
                await commands.approvals.check()
    return await commands.store.read(GetTurn(owner=owner, turn_id=max(turn_ids)))


def _check_options(asked: ClientRequest) -> None:
    """Raise InvalidRequest for options that the native protocol refuses."""
    options: dict[str, object] = {
        name: getattr(asked, name) for name in ("model", "fallbacks", "system", "params", "metadata")
    }
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


def answer_stream(
    context: ServerContext, protocol: str, turn_id: str, watcher: Watcher, form: StreamFormat
) -> EventStreamResponse:
    """Return the event stream of an answer to the client that asked for it. See `stop_on_disconnect`."""
    on_disconnect = stop_on_disconnect(context, protocol, turn_id)
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
