"""Decodes complete (non-streamed) answers of Converse into StreamEvents."""

from __future__ import annotations

from typing import Any

from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    RedactContent,
    SignatureDelta,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.errors import MalformedEvent
from turnstream.wires.bedrock.blocks import parse_block
from turnstream.wires.bedrock.ends import stop_events, usage_event
from turnstream.wires.bedrock.errors import ERRORS
from turnstream.wires.bedrock.guardrail import SentText, redactions_of
from turnstream.wires.shared.json_values import detail_of, is_list, is_object, object_in, without
from turnstream.wires.shared.lenient_json import decode_json, replace_surrogates

_STOP_FIELDS = ("stopReason", "additionalModelResponseFields")


def decode_answer(body: bytes) -> list[StreamEvent]:
    """Return the events that a stream of the same answer would have had.

    Raises MalformedEvent if the body is neither an answer nor an error.
    """
    try:
        return _decode_answer(replace_surrogates(decode_json(body)))
    except (ValueError, RecursionError) as error:
        reason = f"the answer is none of Converse: {error}"
        raise MalformedEvent(reason, detail=detail_of(body)) from error


def _decode_answer(value: Any) -> list[StreamEvent]:
    if not is_object(value):
        raise ValueError("it is not an object")
    if not isinstance(value.get("stopReason"), str):
        if (reported := ERRORS.read(value)) is None:
            raise ValueError("it has no stopReason")
        return [ERRORS.stream_error(reported)]
    message = object_in(object_in(value, "output"), "message")
    content = message.get("content")
    if not is_list(content) or not all(map(is_object, content)):
        raise ValueError("its content is not a list of blocks")
    role = message.get("role")
    events: list[StreamEvent] = [MessageStart(role=role if isinstance(role, str) else "assistant")]
    for index, raw in enumerate(content):
        events += _events_of(index, parse_block(index, raw))
    ending = {key: value[key] for key in _STOP_FIELDS if value.get(key) is not None}
    has_output = any(
        isinstance(event, ContentBlockStart) and event.block_type != "thinking" for event in events
    )
    ended = stop_events(ending, has_output=has_output)
    usage = usage_event(without(value, "output", *_STOP_FIELDS))
    if isinstance(ended[0], StreamError):
        return [*events, usage, *ended]
    return [*events, *ended, usage, *_blocked_input(value.get("trace"), events)]


def _blocked_input(trace: Any, events: list[StreamEvent]) -> list[RedactContent]:
    """Return the redactions of the user's message.

    The output needs none: a complete answer does not contain blocked output.
    """
    sent = SentText()
    for event in events:
        if isinstance(event, TextDelta):
            sent.add(event.text)
    return [found for found in redactions_of(trace, sent) if found.side == "user"]


def _events_of(index: int, block: Block) -> list[StreamEvent]:
    """Return the events of a complete block."""
    content = dict(block.content or {})
    text = block.text_content or ""
    match block.block_type:
        case "tool_use":
            deltas: list[StreamEvent] = [ToolInputDelta(index, content.pop("input_json", ""))]
            content.pop("input", None)
            content.pop("input_error", None)
        case "thinking":
            signature = content.pop("signature", "")
            deltas = [ThinkingDelta(index, text)] if text else []
            deltas += [SignatureDelta(index, signature)] if signature else []
        case "text":
            deltas = [TextDelta(index, text)]
        case _:
            deltas = []
    return [ContentBlockStart(index, block.block_type, content or None), *deltas, ContentBlockStop(index)]
