"""Structs made for the extra fields that a stream has brought so far (`kept_fields`).

A decoder of such structs takes events with these fields quickly, and refuses what would have an effect: a field that is
new, or a value of which more would be kept or told.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from turnstream.wires.shared.json_values import is_list, is_object
from turnstream.wires.shared.kept_fields import METADATA, KeptFields, holds_object, holds_text

Shape: TypeAlias = str | tuple[tuple[str, Any], ...]
"""Values that a field may have without an effect: `any`, `numbers`, `=` and a string, or the fields of an object."""
Shapes: TypeAlias = tuple[tuple[str, Shape], ...]

_LONGEST_STRING = 200
_Number: TypeAlias = int | float | bool | None


def shape_of(key: str, fields: KeptFields) -> Shape:
    """Return what the field may hold whose first value is kept; empty if that cannot be said."""
    if not is_plain(key):
        return ""
    if key in fields.changed:
        return "any"
    is_metadata = key in METADATA
    return _shape(fields.values.get(key, {} if is_metadata else None), is_metadata=is_metadata)


def is_plain(name: str) -> bool:
    """Return True if a struct can have a field of this name in JSON."""
    return name.isprintable() and '"' not in name and "\\" not in name


def type_of(shape: Shape) -> Any:
    """Return the type of values of this shape."""
    if isinstance(shape, tuple):
        return struct_of("Fields", {name: type_of(inner) for name, inner in shape}) | None
    match shape:
        case "any":
            return msgspec.Raw
        case "numbers":
            return _Number | list[_Number]
        case _:
            return Literal[shape[1:], None]


def struct_of(name: str, fields: dict[str, Any], *, base: type[msgspec.Struct] = msgspec.Struct) -> Any:
    """Return a struct of optional fields, under attributes of our own; it refuses other fields."""
    members: list[Any] = [
        (f"field_{n}", kind, msgspec.field(name=key, default=msgspec.Raw() if kind is msgspec.Raw else None))
        for n, (key, kind) in enumerate(fields.items())
    ]
    return msgspec.defstruct(name, members, bases=(base,), gc=False, forbid_unknown_fields=True, kw_only=True)


def _shape(value: Any, *, is_metadata: bool) -> Shape:
    if is_object(value):
        if not all(map(is_plain, value)):
            return ""
        inner = {
            key: "any" if is_metadata else _shape(item, is_metadata=False) for key, item in value.items()
        }
        return "" if "" in inner.values() else tuple(inner.items())
    if is_metadata:
        return "any"
    if isinstance(value, str):
        return f"={value}" if len(value) <= _LONGEST_STRING else ""
    return "" if is_list(value) and (holds_text(value) or holds_object(value)) else "numbers"
