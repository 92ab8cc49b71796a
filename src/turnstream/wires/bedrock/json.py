"""Objects of Bedrock's JSON, read with care: what is not as expected is a ValueError."""

from __future__ import annotations

from typing import Any

from turnstream.wires.shared.json_values import JsonObject, is_list, is_object


def object_of(fields: JsonObject, key: str) -> JsonObject:
    """The object at `key`. Raises ValueError where there is none."""
    value = fields.get(key)
    if not is_object(value):
        raise ValueError(f"{key} is not an object")
    return value


def text_of(fields: JsonObject, key: str) -> str:
    """The text at `key`, empty where there is none. Raises ValueError for anything else."""
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is not a string")
    return value or ""


def list_of(fields: JsonObject, key: str) -> list[Any]:
    """The list at `key`, empty where there is none. Raises nothing."""
    value = fields.get(key)
    return value if is_list(value) else []


def without(fields: JsonObject, *known: str) -> JsonObject:
    return {key: value for key, value in fields.items() if key not in known}
