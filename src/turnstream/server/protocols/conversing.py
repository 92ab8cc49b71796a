"""Starting and finding turns for clients that send their whole conversation."""

from __future__ import annotations

from turnstream.dialects.client_request import ClientRequest
from turnstream.server.attachments import check_attachment
from turnstream.server.auth import Principal
from turnstream.server.context import ServerContext
from turnstream.store.base import TurnRecord
from turnstream.turns.commands import StartedTurn


async def start_answer(context: ServerContext, principal: Principal, asked: ClientRequest) -> StartedTurn:
    """Start the answer that a client asks for. Raises TurnstreamError."""
    for place, block in enumerate(asked.conversation.new):
        if block.block_type in ("image", "document"):
            check_attachment(f"part {place} of the last message", block.block_type, block.content or {})
    commands = context.commands
    request = await commands.conversations.continue_from(principal.owner, asked.conversation)
    return await commands.send(principal.owner, asked.options_of(request))


async def running_turns(context: ServerContext, owner: str, client_chat_id: str) -> list[TurnRecord]:
    """Return the running turns of the chat that a client knows as `client_chat_id`, the newest first.

    There are none in an unknown chat.
    """
    chat_id = await context.commands.conversations.chat_of(owner, client_chat_id)
    if chat_id is None:
        return []
    running = (executor.turn for executor in context.commands.registry.active_in(chat_id))
    return sorted(running, key=lambda turn: turn.id, reverse=True)
