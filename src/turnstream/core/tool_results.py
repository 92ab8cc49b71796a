"""A tool's result as the events of its own block."""

from __future__ import annotations

from typing import Any, NamedTuple

from turnstream.core.blocks import Content
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, ContentDelta, StreamEvent


class ToolCallName(NamedTuple):
    """The tool call that a result answers."""

    tool_use_id: str
    tool_name: str


def result_start(call: ToolCallName) -> Content:
    """Return the content of a result before the tool has finished."""
    return {"tool_use_id": call.tool_use_id, "tool_name": call.tool_name}


def result_events(index: int, call: ToolCallName, content: Any, *, is_error: bool) -> list[StreamEvent]:
    """Return the events of block `index` with a call's result. `content` is text, or any JSON value."""
    return [
        ContentBlockStart(index, "tool_result", result_start(call)),
        ContentDelta(index, {"content": content, "is_error": is_error}),
        ContentBlockStop(index),
    ]
