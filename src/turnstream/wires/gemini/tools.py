"""Conversions between turnstream's tools and tool choice and Gemini's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.base import ToolDefinition
from turnstream.wires.gemini.chunks import named
from turnstream.wires.shared.function_tools import dump_function
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.request_bodies import expect_if_given

_DECLARATION = frozenset({"name", "description", "parameters", "parametersJsonSchema"})


def dump_tools(tools: Iterable[ToolDefinition], others: Iterable[Any]) -> list[Any]:
    """Return the tools as function declarations, then tools in Gemini's own form."""
    declared = [dump_function(tool, "parametersJsonSchema", strict=False) for tool in tools]
    return [*([{"functionDeclarations": declared}] if declared else []), *others]


def _declares(tool: Any) -> bool:
    """Return True if a tool declares functions. The model can be made to call only those."""
    return is_object(tool) and bool(tool.get("functionDeclarations") or tool.get("function_declarations"))


def dump_tool_config(params: JsonObject, tools: Iterable[Any]) -> JsonObject:
    """Return the toolConfig. The tool choice applies to functions only."""
    given = params.get("toolConfig")
    config: JsonObject = dict(given) if is_object(given) else {}
    choice = params.get("tool_choice")
    if choice is None or not any(map(_declares, tools)):
        return config
    match choice:
        case {"name": name}:
            wanted: Any = {"mode": "ANY", "allowedFunctionNames": [name]}
        case str():
            wanted = {"mode": {"required": "ANY", "any": "ANY"}.get(choice, choice.upper())}
        case _:
            wanted = choice
    return {**config, "functionCallingConfig": wanted}


def parse_tool_config(config: JsonObject) -> JsonObject:
    """Return the params for a toolConfig: `tool_choice`, and the rest of it."""
    rest = dict(config)
    calling = rest.pop("functionCallingConfig", None)
    params: JsonObject = {}
    if is_object(calling):
        calling = named(calling)
        match calling:
            case {"mode": "AUTO" | "NONE" as mode} if len(calling) == 1:
                params["tool_choice"] = mode.lower()
            case {"mode": "ANY"} if len(calling) == 1:
                params["tool_choice"] = "required"
            case {"mode": "ANY", "allowedFunctionNames": [name]} if len(calling) == 2:
                params["tool_choice"] = {"name": name}
            case _:
                params["tool_choice"] = calling
    if rest:
        params["toolConfig"] = rest
    return params


def parse_tools(raw: Any) -> tuple[tuple[ToolDefinition, ...], list[Any]]:
    """Return the plain functions, and all other tools unchanged.

    Raises InvalidRequest if `raw` is invalid.
    """
    tools: list[ToolDefinition] = []
    others: list[Any] = []
    for item in expect_if_given(raw, list, "tools"):
        fields = named(item) if is_object(item) else {}
        declared = fields.get("functionDeclarations")
        if fields.keys() != {"functionDeclarations"} or not is_list(declared):
            others.append(item)
            continue
        for declaration in declared:
            tool = _parse_tool(named(declaration)) if is_object(declaration) else None
            if tool is None:
                others.append({"functionDeclarations": [declaration]})
            else:
                tools.append(tool)
    return tuple(tools), others


def _parse_tool(declaration: JsonObject) -> ToolDefinition | None:
    """Return a function, or None if it has fields without an equivalent.

    Raises InvalidRequest without a name.
    """
    name = declaration.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest("a function has no name")
    schema = declaration.get("parametersJsonSchema", declaration.get("parameters", {}))
    if declaration.keys() - _DECLARATION or not is_object(schema):
        return None
    if "parametersJsonSchema" not in declaration:
        schema = _json_schema(schema)
    return ToolDefinition(name, str(declaration.get("description") or ""), schema)


def _json_schema(schema: JsonObject) -> JsonObject:
    """Return a schema of this API's older kind, which has upper-case types, as JSON Schema."""
    found: JsonObject = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, str):
            found[key] = value.lower()
        elif key == "properties" and is_object(value):
            found[key] = {
                name: _json_schema(inner) if is_object(inner) else inner for name, inner in value.items()
            }
        elif key == "items" and is_object(value):
            found[key] = _json_schema(value)
        elif key in ("anyOf", "any_of") and is_list(value):
            found["anyOf"] = [_json_schema(inner) if is_object(inner) else inner for inner in value]
        else:
            found[key] = value
    return found
