"""Answers that the simulated OpenAI stores: the model, and what the provider reports of its requests."""

from __future__ import annotations

from collections.abc import Sequence

from turnstream.config import ProviderSettings
from turnstream.core.stream_events import TextDelta
from turnstream.safety.redaction import Redaction
from turnstream.safety.rules import RedactionRule
from turnstream.simulator.script import story

BACKGROUND = {"background": True}
RULES = Redaction(shown=[RedactionRule("metal", "copper paper")])
"""Rules that change the text of a story."""


def text_of(events: int) -> str:
    """Return the whole text of a story."""
    return "".join(event.text for event in story(events, 0) if isinstance(event, TextDelta))


def redacted(text: str) -> str:
    """Return a text as `RULES` show it."""
    return text.replace("copper paper", "[metal]")


def provider_at(port: int) -> dict[str, ProviderSettings]:
    """Return the setting of a provider `stored` at a port of this machine."""
    return {"stored": ProviderSettings(wire="openai-responses", base_url=f"http://127.0.0.1:{port}/v1")}


def made_in(requests: Sequence[str]) -> int:
    """Return the number of answers that the model has made. `requests`: lines of the provider's report."""
    return sum("model=story" in line and "went away" not in line for line in requests)


def cancelled_in(requests: Sequence[str]) -> int:
    """Return the number of answers that the provider was told to cancel."""
    return sum("the response is cancelled" in line for line in requests)
