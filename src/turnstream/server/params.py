"""JSON objects in a client's request, and the params that a client may not send.

Unknown params go to the provider unchanged, and `extra_body` overrides all others. Without this check a
client could call a model other than the one that is allowed, counted and stored, or send messages that the
turn does not show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, cast

from pydantic import AfterValidator

from turnstream.core.admission import nests_deeper
from turnstream.limits import MAX_METADATA, NESTING_LIMIT
from turnstream.wires.base import WIRE_PARAMS

_NEVER = (
    "model",
    "models",
    "model_id",
    "messages",
    "input",
    "contents",
    "prompt",
    "system",
    "system_instruction",
    "instructions",
    "stream",
    "previous_response_id",
    "conversation",
    "cached_content",
)
_TURN_FIELDS = frozenset(name.replace("_", "") for name in _NEVER)
"""Params, by any provider's name, that the turn's fields set: model, instructions, messages, streaming."""
_REPLACED = _TURN_FIELDS | {"tools", "toolconfig", "functions"}
"""Fields that are refused in `extra_body`, where `tools` would replace the turn's tools.

The param `tools` is allowed: its tools are added to the turn's.
"""
_MERGED = frozenset({"extrabody", "additionalmodelrequestfields"})
"""Params whose fields the wire or the provider merges into the request."""
_BY_WIRE = WIRE_PARAMS.replace("_", "")


def checked_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return a client's params. Raises ValueError if one of them replaces a field of the turn."""
    _check(params, _TURN_FIELDS, "")
    return params


def _check(fields: Mapping[str, Any], refused: frozenset[str], where: str) -> None:
    for name, value in fields.items():
        plain = name.replace("_", "").replace("-", "").lower()
        if plain in refused:
            raise ValueError(
                f"{where}{name} cannot be given: the turn's own fields give the model, system, messages "
                "and tools"
            )
        if plain == _BY_WIRE:
            _check_by_wire(name, value, where)
        if plain in _MERGED and isinstance(value, dict):
            _check(cast("dict[str, Any]", value), _REPLACED, f"{where}{name}.")


def _check_by_wire(name: str, value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where}{name} must be an object of params by wire")
    for wire, fields in cast("dict[str, Any]", value).items():
        if not isinstance(fields, dict):
            raise ValueError(f"{where}{name}.{wire} must be an object of params")
        _check(cast("dict[str, Any]", fields), _TURN_FIELDS, f"{where}{name}.{wire}.")


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    """Raise ValueError if `value` is nested too deeply or contains numbers that JSON does not have.

    Python's parser accepts NaN and 1e400, which would change on their way back to the client.
    """
    if nests_deeper(value):
        raise ValueError(f"is nested deeper than {NESTING_LIMIT} levels")
    json.dumps(value, allow_nan=False)
    return value


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) > MAX_METADATA:
        raise ValueError(f"is larger than {MAX_METADATA} bytes")
    return value


JsonObject: TypeAlias = Annotated[dict[str, Any], AfterValidator(_as_json)]
Params: TypeAlias = Annotated[JsonObject, AfterValidator(checked_params)]
Metadata: TypeAlias = Annotated[JsonObject, AfterValidator(_small)]
