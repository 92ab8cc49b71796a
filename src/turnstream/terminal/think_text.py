"""Splits the thinking off a text, where a model writes it between tags such as `<think>`."""

from __future__ import annotations

from typing import NamedTuple

from turnstream.core.stream_events import ContentBlockStop, StreamEvent, TextDelta, ThinkingDelta
from turnstream.wires.shared.think_tags import ThinkTagSplitter


class ThoughtPiece(NamedTuple):
    """A piece of a text. `thinking`: True if it was between the tags."""

    text: str
    thinking: bool


class ThinkText:
    """A growing text whose thinking is split off. The pieces do not depend on how the text is split."""

    def __init__(self) -> None:
        self._splitter = ThinkTagSplitter()

    def feed(self, text: str) -> list[ThoughtPiece]:
        """Return the pieces that `text` completes. The beginning of a possible tag waits for more text."""
        return _said(self._splitter.split([TextDelta(0, text)]))

    def close(self) -> list[ThoughtPiece]:
        """Return the rest, when the text has ended."""
        return _said(self._splitter.split([ContentBlockStop(0)]))


def _said(events: list[StreamEvent]) -> list[ThoughtPiece]:
    return [
        ThoughtPiece(event.text, isinstance(event, ThinkingDelta))
        for event in events
        if isinstance(event, TextDelta | ThinkingDelta)
    ]
