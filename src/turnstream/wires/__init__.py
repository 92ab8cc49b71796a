"""Protocols of model providers. `WIRES` maps the names used in configuration and on the command line to
wires."""

from __future__ import annotations

from collections.abc import Iterator

from turnstream.errors import ConfigurationError
from turnstream.wires.anthropic import wire as anthropic
from turnstream.wires.base import Wire
from turnstream.wires.bedrock import wire as bedrock
from turnstream.wires.gemini import wire as gemini
from turnstream.wires.ollama import wire as ollama
from turnstream.wires.openai_chat import wire as openai_chat
from turnstream.wires.openai_responses import wire as openai_responses

WIRES: dict[str, Wire] = {
    wire.name: wire
    for wire in (
        anthropic.WIRE,
        openai_chat.WIRE,
        openai_responses.WIRE,
        ollama.WIRE,
        gemini.WIRE,
        bedrock.bedrock_wire(anthropic.WIRE),
    )
}


def usable_wires() -> Iterator[Wire]:
    """Yield the wires that can decode answers here. A wire is skipped if it needs a library that is not
    installed."""
    for wire in WIRES.values():
        try:
            wire.decoder()
        except ConfigurationError:
            continue
        yield wire
