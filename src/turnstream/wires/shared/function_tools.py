"""Reads and writes the function tools of a request."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.base import ToolDefinition
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.request_bodies import expect_if_given

_FIELDS = frozenset({"name", "description", "strict"})


def dump_function(tool: ToolDefinition, schema: str, *, strict: bool = True) -> JsonObject:
    """Return a tool as a function object.

    Args:
        tool: The tool.
        schema: Name of the field for the JSON Schema.
        strict: True if the API has the field `strict`.
    """
    described = {"description": tool.description} if tool.description else {}
    inputs = tool.input_schema or {"type": "object", "properties": {}}
    strictly = {"strict": True} if strict and tool.strict else {}
    return {"name": tool.name, **described, schema: inputs, **strictly}


def split_tools(
    raw: Any, *, schema: str, types: Collection[str | None], inside: str | None = None
) -> tuple[tuple[ToolDefinition, ...], list[Any]]:
    """Return the functions among a request's tools, and all other tools unchanged.

    A field that is null counts as missing. A function with a field that ToolDefinition does not have is one
    of the other tools.

    Args:
        raw: The request's `tools`, or None.
        schema: Field that holds the JSON Schema of the arguments.
        types: Values of `type` that mean a function. None matches a tool without a type.
        inside: Field of a tool that holds the function. None if the tool itself is the function.

    Raises InvalidRequest if the tools are not a list, or if a function has no name or its schema is not an
    object.
    """
    functions: list[ToolDefinition] = []
    others: list[Any] = []
    for tool in expect_if_given(raw, list, "tools"):
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
