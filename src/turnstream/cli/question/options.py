"""Parameters of the model, as `-o key=value`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from turnstream.errors import ConfigurationError


def params_of(options: Iterable[str]) -> dict[str, Any]:
    """Return the params of options `key=value`.

    A value is JSON if it can be read as JSON, else text. A dot in a key names a field of an object:
    `thinking.effort=high`. A later option replaces an earlier one. Raises ConfigurationError.
    """
    params: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise ConfigurationError(f"-o {option!r} is not KEY=VALUE: write -o temperature=0.2")
        _put(params, names, _value(value))
    return params


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params of both. The params of `second` win, field by field."""
    result = dict(first)
    for name, value in second.items():
        before = result.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            result[name] = merged(cast("dict[str, Any]", before), cast("dict[str, Any]", value))
        else:
            result[name] = value
    return result


def _put(params: dict[str, Any], names: list[str], value: object) -> None:
    *outer, last = names
    for name in outer:
        inner = params.get(name)
        if not isinstance(inner, dict):
            inner = params[name] = {}
        params = cast("dict[str, Any]", inner)
    params[last] = value


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
