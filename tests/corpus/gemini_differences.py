"""Allowed differences between a recorded request of the gemini wire and our request."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]


def with_rest_names(body: Body) -> Body:
    def renamed(item: Body) -> Body:
        return {re.sub("_([a-z])", lambda found: found[1].upper(), key): value for key, value in item.items()}

    return each_declaration(each_part(renamed(body), renamed), renamed)


def with_json_schema(body: Body) -> Body:
    def plain(schema: Any) -> Any:
        if isinstance(schema, list):
            return [plain(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        return {
            key: value.lower() if key == "type" and isinstance(value, str) else plain(value)
            for key, value in schema.items()
        }

    def changed(declaration: Body) -> Body:
        rest = {key: value for key, value in declaration.items() if not key.startswith("parameters")}
        schema = declaration.get("parametersJsonSchema", declaration.get("parameters"))
        return {**rest, "parametersJsonSchema": plain(schema)}

    return each_declaration(body, changed)


def without_empty_descriptions(body: Body) -> Body:
    return each_declaration(
        body,
        lambda tool: {key: value for key, value in tool.items() if key != "description" or value},
    )


def without_empty_text(body: Body) -> Body:
    contents = [
        {**content, "parts": [part for part in content["parts"] if part != {"text": ""}]}
        for content in body["contents"]
    ]
    return {**body, "contents": contents}


def without_system_role(body: Body) -> Body:
    system = body.get("systemInstruction")
    return {**body, "systemInstruction": {"parts": system["parts"]}} if system else body


def each_part(body: Body, change: Callable[[Body], Body]) -> Body:
    contents = [
        {**content, "parts": [change(part) for part in content["parts"]]} for content in body["contents"]
    ]
    return {**body, "contents": contents}


def each_declaration(body: Body, change: Callable[[Body], Body]) -> Body:
    tools = [
        {**tool, "functionDeclarations": [change(declared) for declared in tool["functionDeclarations"]]}
        if "functionDeclarations" in tool
        else tool
        for tool in body.get("tools", [])
    ]
    return {**body, "tools": tools} if tools else body


RULES = (
    ("proto names (`function_call`) are read, and written as the REST API has them", with_rest_names),
    ("a function's `parameters`, types in capitals, are written as JSON Schema", with_json_schema),
    ("a function without a description has none, or an empty one", without_empty_descriptions),
    ("a text part without text is left out, if no signature is on it", without_empty_text),
    ("the role of a systemInstruction says nothing", without_system_role),
)
