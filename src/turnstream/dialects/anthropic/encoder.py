"""A turn as a stream of Anthropic Messages (docs/reference/protocols.md)."""

from __future__ import annotations

from collections.abc import Collection

from turnstream.core.blocks import BlockType
from turnstream.core.turn_events import TurnStart
from turnstream.dialects.provider_shaped.encoder import ProviderShapedEncoder
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal
from turnstream.dialects.provider_shaped.projection import Projection
from turnstream.dialects.repetition import RepetitionEncoder
from turnstream.wires.anthropic.encoder import AnthropicEncoder

_BLOCK_TYPES: tuple[BlockType, ...] = ("text", "thinking", "tool_use", "tool_result", "image", "provider")
HEARTBEAT = b'event: ping\ndata: {"type":"ping"}\n\n'
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


def message_id(turn_id: str) -> str:
    """Return the id of a turn's answer for clients."""
    return f"msg_{turn_id}"


def projection_of(client_tools: Collection[str], seal: OriginSeal) -> Projection:
    """Return the projection of a turn.

    Args:
        client_tools: Names of the tools that the client runs.
        seal: Seals the signatures of thinking.
    """
    return Projection(client_tools, _BLOCK_TYPES, seal)


def encoder_of(turn_id: str, projection: Projection, stop_sequence: str | None = None) -> RepetitionEncoder:
    """Return the encoder of a turn.

    Args:
        turn_id: The turn.
        projection: A projection of `projection_of`.
        stop_sequence: The only stop sequence of the request, or None.
    """

    def new_encoder(start: TurnStart) -> AnthropicEncoder:
        return AnthropicEncoder(
            model=start.model or "",
            message_id=message_id(turn_id),
            request_id=turn_id,
            stop_sequence=stop_sequence,
        )

    return RepetitionEncoder(ProviderShapedEncoder("anthropic", new_encoder, projection))
