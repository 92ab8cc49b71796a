"""Names of models with `*` for anything, as the settings have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


def most_exact_first(named: Mapping[str, Value]) -> list[tuple[re.Pattern[str], Value]]:
    """The entries with their names as patterns, for `fullmatch` of a name in lower case; of two that fit, the one that
    leaves less open comes first."""
    ordered = sorted(named.items(), key=lambda item: _exactness(item[0]), reverse=True)
    return [(_matcher(pattern), value) for pattern, value in ordered]


def _exactness(pattern: str) -> tuple[int, bool]:
    return len(pattern.replace("*", "")), "*" not in pattern


def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.lower().split("*")), re.DOTALL)
