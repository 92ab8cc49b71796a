"""What a model is offered with a call: tools, and a way to give an answer of a type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from turnstream.errors import ConfigurationError
from turnstream.llm.output import OutputFormat
from turnstream.tools.base import Tool, ToolFunction, by_name
from turnstream.tools.runner import ToolLimits, ToolRunner
from turnstream.wires.base import ToolDefinition

AnyTool: TypeAlias = ToolFunction | Tool | ToolDefinition | Mapping[str, Any]
"""A Python function; or `{"name", "description", "input_schema"}` of a tool whose calls the caller answers."""


class Offer(NamedTuple):
    """The tools of a call: who runs them, what the model is told of them, and the names of those that run here."""

    runner: ToolRunner
    definitions: tuple[ToolDefinition, ...]
    offered: tuple[str, ...]


def offer_of(tools: Sequence[AnyTool], limits: ToolLimits, *, runs: bool) -> Offer:
    """`runs` False: all calls are the caller's. Raises ConfigurationError for what no model could call."""
    known = by_name([tool for tool in tools if not isinstance(tool, ToolDefinition | Mapping)])
    definitions = {name: tool.definition for name, tool in known.items()}
    for tool in tools:
        if isinstance(tool, ToolDefinition | Mapping):
            definition = (
                tool if isinstance(tool, ToolDefinition) else _definition(cast("Mapping[str, Any]", tool))
            )
            if definition.name in definitions:
                raise ConfigurationError(f"two tools are called {definition.name}")
            definitions[definition.name] = definition
    return Offer(ToolRunner(known, limits), tuple(definitions.values()), tuple(known) if runs else ())


def _definition(tool: Mapping[str, Any]) -> ToolDefinition:
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigurationError("a tool that is given as a mapping needs a name")
    return ToolDefinition(
        name, str(tool.get("description") or ""), dict(tool.get("input_schema") or {"type": "object"})
    )


def ask_for(
    shape: OutputFormat[Any],
    definitions: tuple[ToolDefinition, ...],
    params: dict[str, Any],
    *,
    as_tool: bool,
) -> tuple[ToolDefinition, ...]:
    """The tools, and in `params` the rest, with which a model is asked for a value."""
    if not as_tool:
        params.setdefault("response_format", shape.response_format)
        return definitions
    if "thinking" not in params:  # which goes with a free choice only
        params.setdefault("tool_choice", "required" if definitions else {"name": shape.tool.name})
    return (*definitions, shape.tool)
