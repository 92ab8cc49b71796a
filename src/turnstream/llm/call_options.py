"""The options of a library call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from turnstream.llm.callbacks import Callbacks
from turnstream.llm.offering import AnyTool
from turnstream.llm.option_places import misplaced_in_call
from turnstream.llm.output import OutputMode
from turnstream.llm.prompts import MessageLike


class CallOptions(TypedDict, total=False):
    """Options of a call. All of them may be omitted.

    Attributes:
        messages: Earlier messages of the conversation.
        system: Instructions.
        tools: Functions that the model may call. The library runs them and continues the answer.
        run_tools: If False, the library does not run tools, and the calls are in `message.tool_calls`.
        params: Parameters of the model call: `max_tokens`, `temperature`, `thinking`, and any others that the
            provider takes.
        metadata: Data for tools that take a `ToolContext`.
        callbacks: Functions to call while the answer streams.
        output_mode: Way to request a typed answer: a JSON Schema or a tool.
    """

    messages: Sequence[MessageLike]
    system: str | None
    tools: Sequence[AnyTool]
    run_tools: bool
    params: Mapping[str, Any]
    metadata: dict[str, Any]
    callbacks: Callbacks | None
    output_mode: OutputMode


def check_options(options: CallOptions) -> CallOptions:
    """Return `options` without those that are None. Raises TypeError for an unknown name."""
    unknown = sorted(options.keys() - CallOptions.__annotations__.keys())
    if unknown:
        raise misplaced_in_call(unknown)
    return cast("CallOptions", {name: value for name, value in options.items() if value is not None})
