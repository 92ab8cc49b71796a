"""What a call of the library may be given beside the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from turnstream.llm.callbacks import Callbacks
from turnstream.llm.offering import AnyTool
from turnstream.llm.output import OutputMode
from turnstream.llm.prompts import MessageLike


class CallOptions(TypedDict, total=False):
    """What a call may be given beside the prompt; all of it may be left out.

    `messages`: what was said before. `system`: instructions. `tools`: functions that the model may call; the library runs them
    and goes on by itself, unless `run_tools` is False: then the calls are in `message.tool_calls`. `params`: of the model call,
    `max_tokens`, `temperature`, `thinking`, … and whatever the provider takes. `metadata`: for tools that ask for a
    `ToolContext`. `callbacks`: who is told. `output_mode`: how a type is asked for, by a JSON Schema or a tool.
    """

    messages: Sequence[MessageLike]
    system: str | None
    tools: Sequence[AnyTool]
    run_tools: bool
    params: Mapping[str, Any]
    metadata: dict[str, Any]
    callbacks: Callbacks | None
    output_mode: OutputMode


def checked(options: CallOptions) -> CallOptions:
    """`options` without what is None. Raises TypeError for a name that is none of them."""
    unknown = sorted(options.keys() - CallOptions.__annotations__.keys())
    if unknown:
        names = ", ".join(unknown)
        raise TypeError(f"a call has no option {names}: what is for the model goes into params={{…}}")
    return cast("CallOptions", {name: value for name, value in options.items() if value is not None})
