"""Provider protocols. `WIRES` holds each by its name, as configuration and the command line write it."""

from __future__ import annotations

from collections.abc import Iterator

from turnstream.errors import ConfigurationError
from turnstream.wires import anthropic, bedrock, gemini, ollama, openai_chat, openai_responses
from turnstream.wires.base import Wire

WIRES: dict[str, Wire] = {
    wire.name: wire
    for wire in (
        anthropic.WIRE,
        openai_chat.WIRE,
        openai_responses.WIRE,
        ollama.WIRE,
        gemini.WIRE,
        bedrock.BedrockWire(anthropic.WIRE),
    )
}


def usable_wires() -> Iterator[Wire]:
    """The wires whose answers can be decoded here: one may need a library that is not installed."""
    for wire in WIRES.values():
        try:
            wire.decoder()
        except ConfigurationError:
            continue
        yield wire
