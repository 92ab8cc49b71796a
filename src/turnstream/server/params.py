"""Params that a client may not give: those that would make the request another one than the turn says.

Params that turnstream does not know go to the provider as they are, and `extra_body` wins over all others. So a client could
name another model than the one that is allowed, counted and stored, or say in another's place what the turn does not show.
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
"""Params that a turn's own fields already say, in any provider's words: the model, the instructions, what was said, and whether to stream."""
_REPLACED = _TURN_FIELDS | {"tools", "toolconfig", "functions"}
"""In `extra_body` these would replace the turn's tools. As a param, `tools` are added to them."""
_MERGED = frozenset({"extrabody", "additionalmodelrequestfields"})
"""Objects whose fields the wire, or the provider, merges into the request."""


def checked_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return the params of a client. Raises ValueError for those that replace the turn's own fields."""
    _check(params, _TURN_FIELDS, "")
    return params


def _check(fields: Mapping[str, Any], refused: frozenset[str], where: str) -> None:
    for name, value in fields.items():
        plain = name.replace("_", "").replace("-", "").lower()
        if plain in refused:
            raise ValueError(
                f"{where}{name} cannot be given: the turn's own fields say the model, system, messages and tools"
            )
        if plain in _MERGED and isinstance(value, dict):
            _check(cast("dict[str, Any]", value), _REPLACED, f"{where}{name}.")
