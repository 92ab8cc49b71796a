"""The tools that a model gets with a call, and the request for a typed answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from turnstream.errors import ConfigurationError
from turnstream.llm.output import OutputFormat
from turnstream.tools.base import AskRule, Tool, ToolFunction, by_name, with_rules
from turnstream.tools.runner import ToolLimits, ToolRunner
from turnstream.wires.base import ToolDefinition

AnyTool: TypeAlias = ToolFunction | Tool | ToolDefinition | Mapping[str, Any]
"""A Python function, or the `{"name", "description", "input_schema"}` of a tool that the caller runs."""


class Offer(NamedTuple):
    """The tools of a call.

    Attributes:
        runner: Runs the tools that are functions.
        definitions: Definitions of all tools, for the model.
        offered: Names of the tools that run here.
    """

    runner: ToolRunner
    definitions: tuple[ToolDefinition, ...]
    offered: tuple[str, ...]


def offer_of(
    tools: Sequence[AnyTool],
    limits: ToolLimits,
    *,
    runs: bool,
    rules: Mapping[str, AskRule] | None = None,
) -> Offer:
    """Return the tools of a call. Raises ConfigurationError for a tool that no model could call.

    Args:
        runs: True if turnstream runs the calls, False if the caller runs all of them.
        rules: Rules of approval by tool name. They override those of the functions.
    """
    functions = by_name([tool for tool in tools if not isinstance(tool, ToolDefinition | Mapping)])
    known = with_rules(functions, rules or {})
    definitions = {name: tool.definition for name, tool in known.items()}
    for tool in tools:
        if isinstance(tool, ToolDefinition | Mapping):
            definition = (
                tool if isinstance(tool, ToolDefinition) else _definition(cast("Mapping[str, Any]", tool))
            )
            if definition.name in definitions:
                raise ConfigurationError(f"two tools are called {definition.name}: rename one")
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
    """Add the request for a typed answer to `params`, and return the tools of the call."""
    if not as_tool:
        params.setdefault("response_format", shape.response_format)
        return definitions
    if "thinking" not in params:  # thinking does not work with a forced tool
        params.setdefault("tool_choice", "required" if definitions else {"name": shape.tool.name})
    return (*definitions, shape.tool)
