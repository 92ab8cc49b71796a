"""Fields of Anthropic's events, checked. Each raises ValueError for a value of another type."""

from __future__ import annotations

from typing import Any

from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.lenient_json import decode_json, mend_surrogates


def object_in(fields: JsonObject, key: str) -> JsonObject:
    value = fields.get(key)
    if not is_object(value):
        raise ValueError(f"{key} is not an object")
    return value


def text_in(fields: JsonObject, key: str) -> str:
    return optional_text(fields, key) or ""


def optional_text(fields: JsonObject, key: str) -> str | None:
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is not a string")
    return value


def json_or_text(payload: bytes) -> Any:
    try:
        return mend_surrogates(decode_json(payload))
    except ValueError:
        return payload.decode(errors="replace")
