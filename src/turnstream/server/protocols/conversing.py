"""Starting and finding turns for clients that send their whole conversation."""

from __future__ import annotations

import msgspec

from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.dialects.client_request import ClientRequest
from turnstream.server.attachments import check_attachment
from turnstream.server.auth import Principal
from turnstream.server.context import ServerContext
from turnstream.server.streams import EventStreamResponse, StreamFormat, Watcher
from turnstream.store.base import TurnRecord
from turnstream.store.queries import CurrentAnswers
from turnstream.turns.clock import now_microseconds
from turnstream.turns.commands import StartedTurn


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
    commands = context.commands
    request = await commands.conversations.continue_from(principal.owner, asked.conversation)
    request = msgspec.structs.replace(
        asked.options_of(request), idempotency_key=idempotency_key, fingerprint=idempotency_key
    )
    return await commands.send(principal.owner, request)


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
    """Return the event stream of an answer to the client that asked for it.

    The settings say if the client stops the turn of its `protocol` when it closes the connection.
    """

    def stop() -> None:
        executor = context.commands.registry.executor(turn_id)
        if executor is not None and not executor.ended.is_set():
            executor.stop("cancelled")

    on_disconnect = stop if protocol in context.stop_on_disconnect else None
    return EventStreamResponse(watcher, context.keep_alive, form=form, on_disconnect=on_disconnect)
