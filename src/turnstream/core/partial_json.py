"""JSON that is still being written: what can be said of it by now."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from turnstream.core.admission import NESTING_LIMIT

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?P<quote>")?|[{}\[\]:,]|[^\s"{}\[\]:,]++', re.DOTALL)
_WHOLE_CHARACTERS = re.compile(r'(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+', re.DOTALL)
_HALF_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_CLOSING = {"{": "}", "[": "]"}
_WORDS = frozenset({"true", "false", "null"})

NOTHING = object()
"""There is no value yet, or what there is cannot become JSON."""


def partial_value(text: str) -> Any:
    """The value that `text`, the beginning of a JSON text, has so far; NOTHING where it has none.

    A string is as long as it has come. A number is left out until something follows it, a key until its value has begun.
    One pass over the text.
    """
    completed = complete(text)
    if completed is None:
        return NOTHING
    try:
        return msgspec.json.decode(completed)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return NOTHING


def complete(text: str) -> str | None:
    """`text` with its end cut back to what holds, and everything that is open closed; None where nothing is left, or it is
    nested too deeply."""
    opened: list[str] = []
    before = ""
    kept, end = "", 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        first = token[0]
        if first == '"' and match["quote"] is None:
            if _is_value(opened, before):
                kept, end = text[: match.start()] + _closed(text, match.start()), 0
            break
        if first in "{[":
            opened.append(first)
            if len(opened) > NESTING_LIMIT:
                return None
            end = match.end()
        elif first in "}]":
            if not opened or _CLOSING[opened.pop()] != first:
                return None
            end = match.end()
        elif first == '"':
            if _is_value(opened, before):
                end = match.end()
        elif first not in ":," and (match.end() < len(text) or token in _WORDS):
            end = match.end()
        before = first
    kept = kept or text[:end]
    closing = "".join(_CLOSING[bracket] for bracket in reversed(opened))
    return kept + closing if kept.strip() else None


def _is_value(opened: list[str], before: str) -> bool:
    """Whether a string in this place is a value, and no key."""
    return before == ":" or not (opened and opened[-1] == "{")


def _closed(text: str, start: int) -> str:
    """The string that begins at `start`, without a character that is not whole yet, closed."""
    whole = _WHOLE_CHARACTERS.match(text, start + 1)
    inner = whole[0] if whole is not None else ""
    return '"' + _HALF_PAIR.sub("", inner) + '"'
