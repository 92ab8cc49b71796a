"""A turn as Ollama's lines, of `/api/chat` or of `/api/generate` (docs/reference/protocols.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection

from turnstream.core.blocks import BlockType
from turnstream.core.stream_events import MessageStart
from turnstream.core.turn_events import TurnStart
from turnstream.dialects.provider_shaped.encoder import ProviderShapedEncoder
from turnstream.dialects.provider_shaped.projection import Projection
from turnstream.dialects.repetition import RepetitionEncoder
from turnstream.wires.ollama.encoder import LineForm, OllamaEncoder

BLOCK_TYPES: tuple[BlockType, ...] = ("text", "thinking", "tool_use", "image")
HEADERS = {
    "content-type": "application/x-ndjson",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


def encoder_of(
    client_tools: Collection[str], *, model: str, form: LineForm, clock: Callable[[], int]
) -> RepetitionEncoder:
    """Return the encoder of a turn.

    Args:
        client_tools: Names of the tools that the client runs.
        model: Name of the model as the client gave it.
        form: Form of the lines.
        clock: Returns the nanoseconds since the request.
    """

    def new_encoder(_start: TurnStart) -> OllamaEncoder:
        return OllamaEncoder(model=model, message_id="", form=form, clock=clock)

    return RepetitionEncoder(
        ProviderShapedEncoder("ollama", new_encoder, Projection(client_tools, BLOCK_TYPES))
    )


def heartbeat_of(model: str, form: LineForm) -> bytes:
    """Return the line of a quiet stream, which has no text. Clients take any other line for an answer."""
    return OllamaEncoder(model=model, message_id="", form=form).feed((MessageStart(),))
