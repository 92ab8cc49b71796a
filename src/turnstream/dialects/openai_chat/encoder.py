"""A turn as a stream of chat.completion.chunk events (docs/reference/protocols.md)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from turnstream.core.blocks import BlockType
from turnstream.core.turn_events import TurnStart
from turnstream.dialects.provider_shaped.encoder import ProviderShapedEncoder
from turnstream.dialects.provider_shaped.projection import Projection
from turnstream.dialects.repetition import RepetitionEncoder
from turnstream.wires.openai_chat.encoder import OpenAIChatEncoder

BLOCK_TYPES: tuple[BlockType, ...] = ("text", "thinking", "tool_use", "image")
HEARTBEAT = b": keep-alive\n\n"
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


def completion_id(turn_id: str) -> str:
    """Return the id of a turn's answer for clients."""
    return f"chatcmpl-{turn_id}"


def encoder_of(
    turn_id: str, client_tools: Collection[str], *, includes_usage: bool = False
) -> RepetitionEncoder:
    """Return the encoder of a turn.

    Args:
        client_tools: Names of the tools that the client runs.
        includes_usage: True to send the usage in a separate chunk (`stream_options.include_usage`).
    """

    def new_encoder(start: TurnStart) -> OpenAIChatEncoder:
        return OpenAIChatEncoder(
            model=start.model or "",
            message_id=completion_id(turn_id),
            created=int(datetime.fromisoformat(start.timestamp).timestamp()),
            includes_usage=includes_usage,
        )

    name = "openai-chat-usage" if includes_usage else "openai-chat"
    return RepetitionEncoder(ProviderShapedEncoder(name, new_encoder, Projection(client_tools, BLOCK_TYPES)))
