"""Tools of a request that are functions, both ways."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.base import ToolDefinition
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object

_FIELDS = frozenset({"name", "description", "strict"})


def dump_function(tool: ToolDefinition, schema: str, *, strict: bool = True) -> JsonObject:
    """Return a tool as a function whose JSON Schema is in the field `schema`. `strict`: the API knows of that."""
    described = {"description": tool.description} if tool.description else {}
    inputs = tool.input_schema or {"type": "object", "properties": {}}
    strictly = {"strict": True} if strict and tool.strict else {}
    return {"name": tool.name, **described, schema: inputs, **strictly}


def split_tools(
    raw: Any, *, schema: str, types: Collection[str | None], inside: str | None = None
) -> tuple[tuple[ToolDefinition, ...], list[Any]]:
    """Return the functions among a request's tools, and the tools that are something else, as they are.

    A field that is null counts as left out. A function with fields that a ToolDefinition does not have is something else.

    Args:
        raw: The request's `tools`; None for none.
        schema: The field that holds the JSON Schema of the arguments.
        types: The values of `type` that mean a function; None stands for a tool without one.
        inside: The field of a tool that holds the function; None if the tool is the function.

    Raises InvalidRequest for tools that are not a list, and for a function without a name or with a schema that is not an
    object.
    """
    if raw is not None and not is_list(raw):
        raise InvalidRequest("tools is not a list")
    functions: list[ToolDefinition] = []
    others: list[Any] = []
    for tool in raw or []:
        found = _function_of(tool, types, inside)
        if found is None or found.keys() - _FIELDS - {schema}:
            others.append(tool)
        else:
            functions.append(_definition(found, found.get(schema, {})))
    return tuple(functions), others


def _function_of(tool: Any, types: Collection[str | None], inside: str | None) -> JsonObject | None:
    if not is_object(tool) or tool.get("type") not in types:
        return None
    function: Any = tool if inside is None else tool.get(inside)
    if not is_object(function):
        return None
    left_out = "type" if inside is None else None
    return {key: value for key, value in function.items() if value is not None and key != left_out}


def _definition(function: JsonObject, schema: Any) -> ToolDefinition:
    name = function.get("name")
    if not isinstance(name, str) or not name or not is_object(schema):
        raise InvalidRequest("a tool has no name, or its parameters are not an object")
    return ToolDefinition(
        name, str(function.get("description", "")), schema, function.get("strict", False) is True
    )
