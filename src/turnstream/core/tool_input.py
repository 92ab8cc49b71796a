"""A tool call's arguments: JSON text that a model wrote, parsed once it is whole (requirement B4)."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from turnstream.core.blocks import Content

NESTING_LIMIT = 200
"""Levels of JSON that arguments may have."""


def finish_tool_use(content: Content, input_json: str) -> Content:
    """The content of a stopped tool_use block. `input` is an object, or None with `input_error` saying why;
    `input_json` is the provider's text, untouched. Without any text the `input` of the block's start holds. Where
    `free_text` names a key the text is no JSON, and the input is `{key: text}`."""
    given: Any = content.get("input")
    finished: Content = {
        "tool_use_id": "",
        "tool_name": "",
        **content,
        "input": cast(Content, given) if isinstance(given, dict) else {},
        "input_json": input_json,
    }
    if not input_json.strip():
        return finished
    if isinstance(key := content.get("free_text"), str):
        return {**finished, "input": {key: input_json}}
    try:
        value: Any = msgspec.json.decode(input_json)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        return {**finished, "input": None, "input_error": f"not valid JSON: {error}"}
    if not isinstance(value, dict):
        return {**finished, "input": None, "input_error": "the arguments are not a JSON object"}
    if input_json.count("[") + input_json.count("{") > NESTING_LIMIT and nests_deeper(value, NESTING_LIMIT):
        return {**finished, "input": None, "input_error": f"nested deeper than {NESTING_LIMIT} levels"}
    return {**finished, "input": value}


def nests_deeper(value: Any, limit: int) -> bool:
    """Whether parsed JSON has more than `limit` levels. What is nested very deeply can be read, but not written
    again from everywhere: the interpreter's limit counts the caller's stack too."""
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _nested_in(outer)]
        if not level:
            return False
    return True


def _nested_in(value: Any) -> list[Any]:
    items = cast(dict[str, Any], value).values() if isinstance(value, dict) else cast(list[Any], value)
    return [item for item in items if isinstance(item, dict | list)]
