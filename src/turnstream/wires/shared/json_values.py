"""Checks and converts parsed JSON from outside."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias, TypeGuard

from turnstream.errors import MalformedEvent
from turnstream.wires.shared.lenient_json import NestedTooDeeply, decode_json

JsonObject: TypeAlias = dict[str, Any]

_LONGEST_DETAIL = 500
_LARGEST_COUNT = 2**53


def is_object(value: Any) -> TypeGuard[JsonObject]:
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def is_one_of(value: Any, words: Collection[str]) -> bool:
    """Return True if `value` is one of `words`. Unlike `in`, accepts unhashable values."""
    return isinstance(value, str) and value in words


def is_blank(value: Any) -> bool:
    """Return True if `value` is null, an empty string, or a container of blank values only."""
    if is_object(value):
        return all(is_blank(item) for item in value.values())
    if is_list(value):
        return all(is_blank(item) for item in value)
    return value is None or value == ""


def as_text(value: Any) -> str | None:
    if isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) else None


def object_in(fields: JsonObject, key: str) -> JsonObject:
    """Return the object at `key`. Raises ValueError if there is none."""
    value = fields.get(key)
    if not is_object(value):
        raise ValueError(f"{key} is not an object")
    return value


def text_in(fields: JsonObject, key: str) -> str:
    """Return the text at `key`, empty if there is none. Raises ValueError for a value of another type."""
    return optional_text(fields, key) or ""


def optional_text(fields: JsonObject, key: str) -> str | None:
    """Return the text at `key`, or None. Raises ValueError for a value of another type."""
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is not a string")
    return value


def list_in(fields: JsonObject, key: str) -> list[Any]:
    """Return the list at `key`, or an empty list."""
    value = fields.get(key)
    return value if is_list(value) else []


def without(fields: JsonObject, *known: str) -> JsonObject:
    """Return the fields whose names are not in `known`."""
    return {key: value for key, value in fields.items() if key not in known}


def detail_of(data: bytes) -> str:
    """Return the beginning of undecodable bytes, for the detail of an error."""
    return data[:_LONGEST_DETAIL].decode(errors="replace")


def whole_count(value: Any) -> int | None:
    """Return a token count, or None if the value is not one. A count too large for a database column is not
    one."""
    return value if type(value) is int and 0 <= value < _LARGEST_COUNT else None


def first_count(*values: Any) -> int | None:
    """Return the first value that is a token count, of type int or float, or None."""
    for value in values:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LARGEST_COUNT:
            return int(value)
    return None


def read_json(data: bytes) -> Any:
    """Decode JSON. Raises MalformedEvent if it is invalid or nested too deeply."""
    try:
        return decode_json(data)
    except NestedTooDeeply as error:
        raise MalformedEvent("an event is nested too deeply") from error
    except ValueError as error:
        raise MalformedEvent("an event is not JSON", detail=data[:200].decode("utf-8", "replace")) from error
