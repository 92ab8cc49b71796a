"""The deltas of a Responses stream, typed: nearly every event is one of them.

msgspec reads such an event straight into a struct, by its `type`. Whatever surprises it (every other event, a delta that
is no string, half of a surrogate pair) is read as plain JSON instead, which costs more and means the same.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from turnstream.core.stream_events import TextDelta, ThinkingDelta, ToolInputDelta

DeltaEvent: TypeAlias = type[TextDelta] | type[ThinkingDelta] | type[ToolInputDelta]


class _Delta(msgspec.Struct, gc=False):
    """`content_index` or `summary_index` says which part of the item grows; the other is never sent."""

    delta: str
    output_index: int
    content_index: int = 0
    summary_index: int = 0
    sequence_number: int = -1


class _OutputText(_Delta, gc=False, tag="response.output_text.delta"):
    pass


class _Refusal(_Delta, gc=False, tag="response.refusal.delta"):
    pass


class _SummaryText(_Delta, gc=False, tag="response.reasoning_summary_text.delta"):
    pass


class _ReasoningText(_Delta, gc=False, tag="response.reasoning_text.delta"):
    pass


class _ArgumentsDelta(_Delta, gc=False, tag="response.function_call_arguments.delta"):
    pass


class _McpArguments(_Delta, gc=False, tag="response.mcp_call_arguments.delta"):
    pass


class _CustomInput(_Delta, gc=False, tag="response.custom_tool_call_input.delta"):
    pass


class _Code(_Delta, gc=False, tag="response.code_interpreter_call_code.delta"):
    pass


TypedDelta: TypeAlias = (
    _OutputText
    | _Refusal
    | _SummaryText
    | _ReasoningText
    | _ArgumentsDelta
    | _McpArguments
    | _CustomInput
    | _Code
)

decode_delta = msgspec.json.Decoder(TypedDelta).decode
"""Raises ValueError or RecursionError for what is no such delta."""


class PartKind(NamedTuple):
    """A piece of an item that grows. `name`: of the part in its item; `item_type`: of an item that has such a part;
    `event`: what its deltas become; `field`: where its `.done` event has the whole text."""

    name: str
    item_type: str
    event: DeltaEvent
    field: str


TEXT = PartKind("output_text", "message", TextDelta, "text")
REFUSAL = PartKind("refusal", "message", TextDelta, "refusal")
SUMMARY = PartKind("summary_text", "reasoning", ThinkingDelta, "text")
REASONING = PartKind("reasoning_text", "reasoning", ThinkingDelta, "text")
ARGUMENTS = PartKind("arguments", "function_call", ToolInputDelta, "arguments")
MCP_ARGUMENTS = PartKind("arguments", "mcp_call", ToolInputDelta, "arguments")
CUSTOM_INPUT = PartKind("input", "custom_tool_call", ToolInputDelta, "input")
CODE = PartKind("code", "code_interpreter_call", ToolInputDelta, "code")

DELTA_OF: dict[PartKind, type[TypedDelta]] = {
    TEXT: _OutputText,
    REFUSAL: _Refusal,
    SUMMARY: _SummaryText,
    REASONING: _ReasoningText,
    ARGUMENTS: _ArgumentsDelta,
    MCP_ARGUMENTS: _McpArguments,
    CUSTOM_INPUT: _CustomInput,
    CODE: _Code,
}
STEMS: dict[str, PartKind] = {
    "response.output_text": TEXT,
    "response.refusal": REFUSAL,
    "response.reasoning_summary_text": SUMMARY,
    "response.reasoning_text": REASONING,
    "response.function_call_arguments": ARGUMENTS,
    "response.mcp_call_arguments": MCP_ARGUMENTS,
    "response.custom_tool_call_input": CUSTOM_INPUT,
    "response.code_interpreter_call_code": CODE,
}
"""What stands before `.delta` and `.done` in an event's type."""
PARTS: dict[str, PartKind] = {kind.name: kind for kind in (TEXT, REFUSAL, SUMMARY, REASONING)}
"""Parts by the type that they have in an item."""
INPUTS: dict[str, PartKind] = {
    kind.item_type: kind for kind in (ARGUMENTS, MCP_ARGUMENTS, CUSTOM_INPUT, CODE)
}
"""What grows in an item that is a call."""
