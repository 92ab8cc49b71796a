"""Typed deltas of a Responses stream: nearly all of its events.

msgspec decodes such an event directly into a struct, by its `type`. Every other event, a delta that is not a
string, and half a surrogate pair are decoded as plain JSON, which is slower and gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from turnstream.core.stream_events import TextDelta, ThinkingDelta, ToolInputDelta

DeltaEvent: TypeAlias = type[TextDelta] | type[ThinkingDelta] | type[ToolInputDelta]


class TypedDelta(msgspec.Struct, gc=False):
    """A delta of a part. Either `content_index` or `summary_index` is sent, and names the part of
    the item."""

    delta: str
    output_index: int
    content_index: int = 0
    summary_index: int = 0
    sequence_number: int = -1


class PartKind(NamedTuple):
    """A kind of growing piece of an item.

    Args:
        name: Name of the part in its item.
        item_type: Type of the items that have such parts.
        event: Class of the events for its deltas.
        field: Field of its `.done` event that has the whole text.
        stem: Event type without `.delta` or `.done`.
    """

    name: str
    item_type: str
    event: DeltaEvent
    field: str
    stem: str


TEXT = PartKind("output_text", "message", TextDelta, "text", "response.output_text")
REFUSAL = PartKind("refusal", "message", TextDelta, "refusal", "response.refusal")
SUMMARY = PartKind("summary_text", "reasoning", ThinkingDelta, "text", "response.reasoning_summary_text")
REASONING = PartKind("reasoning_text", "reasoning", ThinkingDelta, "text", "response.reasoning_text")
ARGUMENTS = PartKind(
    "arguments", "function_call", ToolInputDelta, "arguments", "response.function_call_arguments"
)
MCP_ARGUMENTS = PartKind("arguments", "mcp_call", ToolInputDelta, "arguments", "response.mcp_call_arguments")
CUSTOM_INPUT = PartKind(
    "input", "custom_tool_call", ToolInputDelta, "input", "response.custom_tool_call_input"
)
CODE = PartKind(
    "code", "code_interpreter_call", ToolInputDelta, "code", "response.code_interpreter_call_code"
)

_TEXTS = (TEXT, REFUSAL, SUMMARY, REASONING)
_INPUTS = (ARGUMENTS, MCP_ARGUMENTS, CUSTOM_INPUT, CODE)
STEMS: dict[str, PartKind] = {kind.stem: kind for kind in (*_TEXTS, *_INPUTS)}
PARTS: dict[str, PartKind] = {kind.name: kind for kind in _TEXTS}
"""Kinds of parts by their type in an item."""
INPUTS: dict[str, PartKind] = {kind.item_type: kind for kind in _INPUTS}
"""Kinds of call inputs by the type of the item."""


def _typed(kind: PartKind) -> type[TypedDelta]:
    made: Any = msgspec.defstruct("Delta", [], bases=(TypedDelta,), tag=f"{kind.stem}.delta", gc=False)
    return made


DELTA_OF: dict[PartKind, type[TypedDelta]] = {kind: _typed(kind) for kind in STEMS.values()}
_any_delta: Any = reduce(lambda union, kind: union | kind, cast("Iterable[Any]", DELTA_OF.values()))
decode_delta: Callable[[bytes], TypedDelta] = msgspec.json.Decoder(_any_delta).decode
"""Decoder of a delta event. Raises ValueError or RecursionError for other events."""
