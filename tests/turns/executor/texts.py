"""Blocks of text for the tests of the executor."""

from __future__ import annotations

from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    StreamEvent,
    TextDelta,
)


def text_block(index: int, text: str) -> tuple[StreamEvent, ...]:
    return ContentBlockStart(index, "text"), TextDelta(index, text), ContentBlockStop(index)
