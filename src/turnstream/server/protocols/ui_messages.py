"""The messages of a chat for a page of the AI SDK that loads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from turnstream.core.blocks import Block
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.core.turn_events import ApprovalResponse, Data, Source, TurnEvent
from turnstream.dialects.ai_sdk.message_metadata import account_of
from turnstream.dialects.ai_sdk.ui_messages import MessageBuilder, ShownTurn
from turnstream.server.context import ServerContext
from turnstream.store.base import TurnRecord
from turnstream.store.portions import Bounds, unchanged
from turnstream.store.queries import StoredEvents
from turnstream.turns.ending import terminal_event
from turnstream.turns.new_turns import start_event

PORTION = Bounds(turns=8, size=128 * 1024, repeats_settings=False)
_decode = msgspec.json.Decoder(TurnEvent).decode


async def messages_json(
    context: ServerContext, owner: str, client_chat_id: str
) -> AsyncGenerator[bytes, None]:
    """Yield the messages of a chat's shown branch as JSON, without an answer that has not ended.

    An unknown chat has no messages. Raises InvalidRequest (`invalid_client_id`), NotFound, StoreError.
    """
    chat_id = await context.commands.conversations.chat_of(owner, client_chat_id)
    builder, has_some = MessageBuilder(), False
    yield b"["
    if chat_id is not None:
        async with aclosing(_turns(context, owner, chat_id)) as turns:
            async for turn, blocks in turns:
                if turn.status not in TERMINAL_STATUSES:
                    break
                for message in builder.add(await _shown(context, turn, blocks)):
                    yield b"%b%b" % (b"," if has_some else b"", msgspec.json.encode(message))
                    has_some = True
        for message in builder.end():
            yield b"%b%b" % (b"," if has_some else b"", msgspec.json.encode(message))
    yield b"]"


async def _turns(
    context: ServerContext, owner: str, chat_id: str
) -> AsyncGenerator[tuple[TurnRecord, Sequence[Block]], None]:
    """Yield the turns of a chat's shown branch with their blocks, in order."""
    chats = context.commands.chats
    page = await chats.branch(owner, chat_id)
    turn: TurnRecord | None = None
    blocks: list[Block] = []
    async with aclosing(chats.portions(page, PORTION, unchanged)) as portions:
        async for portion in portions:
            for piece in portion.pieces:
                turn = piece.turn or turn
                blocks.extend(row.block for row in piece.blocks)
                if piece.ends and turn is not None:
                    yield turn, blocks
                    blocks = []


async def _shown(context: ServerContext, turn: TurnRecord, blocks: Sequence[Block]) -> ShownTurn:
    if turn.role == "user":
        return ShownTurn(turn.id, turn.role, blocks)
    store = context.commands.store
    stored = [_decode(event) for event in await store.read(StoredEvents(turn_id=turn.id))]
    events = [event for event in stored if isinstance(event, Data | Source)]
    approvals = {event.tool_use_id: event for event in stored if isinstance(event, ApprovalResponse)}
    start, end = start_event(turn), terminal_event(turn, total_blocks=0, blocks_completed=0)
    metadata = {"turnId": turn.id, "chatId": turn.chat_id, "createdAt": start.timestamp, **account_of(end)}
    if start.model is not None:
        metadata["model"] = start.model
    if turn.status == "complete":
        metadata["stopReason"] = turn.stop_reason
    elif turn.status == "error":
        metadata["errorCode"] = turn.error_code
    return ShownTurn(turn.id, turn.role, blocks, metadata, events, approvals)
