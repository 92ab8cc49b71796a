"""JSON that is still being written, and the value that it has so far."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from turnstream.limits import NESTING_LIMIT

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?P<quote>")?|[{}\[\]:,]|[^\s"{}\[\]:,]++', re.DOTALL)
_WHOLE_CHARACTERS = re.compile(r'(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+', re.DOTALL)
_HALF_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_CLOSING = {"{": "}", "[": "]"}
_WORDS = frozenset({"true", "false", "null"})

NOTHING = object()
"""Returned if there is no value yet, or if the text cannot become JSON."""


def partial_value(text: str) -> Any:
    """Return the value so far of `text`, the beginning of a JSON text, or NOTHING.

    A string is included as far as it has come. A number is included once a character follows it, a key once
    its value has begun. The text is read once.
    """
    completed = complete(text)
    if completed is None:
        return NOTHING
    try:
        return msgspec.json.decode(completed)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return NOTHING


def complete(text: str) -> str | None:
    """Return the valid part of `text`, closed, or None if there is none or it nests too deeply."""
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
    """Return True if a string at this place is a value, not a key."""
    return before == ":" or not (opened and opened[-1] == "{")


def _closed(text: str, start: int) -> str:
    """Return the string that begins at `start`, closed, without an incomplete character at its end."""
    whole = _WHOLE_CHARACTERS.match(text, start + 1)
    inner = whole[0] if whole is not None else ""
    return '"' + _HALF_PAIR.sub("", inner) + '"'
