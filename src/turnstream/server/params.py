"""Params that a client may not send, because they would replace the turn's fields in the provider's request.

Unknown params go to the provider unchanged, and `extra_body` overrides all others. Without this check a
client could call a model other than the one that is allowed, counted and stored, or send messages that the
turn does not show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

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


def checked_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return a client's params. Raises ValueError if one of them replaces a field of the turn."""
    _check(params, _TURN_FIELDS, "")
    return params


def _check(fields: Mapping[str, Any], refused: frozenset[str], where: str) -> None:
    for name, value in fields.items():
        plain = name.replace("_", "").replace("-", "").lower()
        if plain in refused:
            raise ValueError(
                f"{where}{name} cannot be given: the turn's own fields say the model, system, messages "
                "and tools"
            )
        if plain in _MERGED and isinstance(value, dict):
            _check(cast("dict[str, Any]", value), _REPLACED, f"{where}{name}.")
