"""Provider protocols. `WIRES` holds each by its name, as configuration and the command line write it."""

from __future__ import annotations

from turnstream.wires import anthropic, gemini, ollama, openai_chat, openai_responses
from turnstream.wires.base import Wire

WIRES: dict[str, Wire] = {
    wire.name: wire
    for wire in (anthropic.WIRE, openai_chat.WIRE, openai_responses.WIRE, ollama.WIRE, gemini.WIRE)
}
