"""A tool's result as the events of a block of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

from turnstream.core.blocks import Content
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, ContentDelta, StreamEvent


class ToolCallName(NamedTuple):
    """Which call a result answers."""

    tool_use_id: str
    tool_name: str


def result_start(call: ToolCallName) -> Content:
    """What is known of a result before it is there."""
    return {"tool_use_id": call.tool_use_id, "tool_name": call.tool_name}


def result_events(index: int, call: ToolCallName, content: Any, *, is_error: bool) -> list[StreamEvent]:
    """The block `index` with what the call brought: `content` is text, or anything that is JSON."""
    return [
        ContentBlockStart(index, "tool_result", result_start(call)),
        ContentDelta(index, {"content": content, "is_error": is_error}),
        ContentBlockStop(index),
    ]
