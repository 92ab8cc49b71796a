"""Redaction of JSON text that arrives in pieces: the arguments of tool calls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from turnstream.safety.rules import RedactionFilter
from turnstream.safety.text_redactor import TextRedactor, redact_text

Json: TypeAlias = "str | int | float | bool | dict[str, Json] | list[Json] | None"

MAX_NUMBER = 1_024
"""Characters of a number in JSON text that are compared with the rules."""

_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_STRING_END = re.compile(r'["\\]')
_TOKEN_START = re.compile(r'["0-9-]')
_NUMBER_END = re.compile(r"[^0-9.eE+-]")


class JsonRedactor:
    """Replaces matches in the strings and numbers of a JSON text that arrives in pieces.

    The rules see the characters of a string, without escapes. The redacted text is JSON if the
    text was: a number that is replaced becomes a string. Text that is not JSON passes unchanged outside of
    strings and numbers.
    """

    def __init__(self, redaction: RedactionFilter) -> None:
        self._redaction = redaction
        self._text = TextRedactor(redaction)
        self._waiting = ""
        """An escape or a number that is not complete."""
        self._in_string = False
        self._has_replaced_number = False

    @property
    def has_replaced(self) -> bool:
        """True once a match was replaced."""
        return self._text.has_replaced or self._has_replaced_number

    def feed(self, text: str) -> str:
        """Return the JSON text that has become certain with `text`."""
        return "".join(self._redacted(self._waiting + text, is_last=False))

    def close(self) -> str:
        """Return the rest of the text. The redactor is ready for another text then."""
        rest = "".join(self._redacted(self._waiting, is_last=True))
        if self._in_string:
            self._in_string = False
            rest += _escaped(self._text.close()) + self._waiting
            self._waiting = ""
        return rest

    def _redacted(self, text: str, *, is_last: bool) -> Iterator[str]:
        place, self._waiting = 0, ""
        while place < len(text):
            if self._in_string:
                place, shown = self._string(text, place)
                yield shown
                if self._waiting:
                    return
                continue
            found = _TOKEN_START.search(text, place)
            if found is None:
                yield text[place:]
                return
            yield text[place : found.start()]
            place = found.start()
            if text[place] == '"':
                self._in_string = True
                yield '"'
                place += 1
                continue
            end = _NUMBER_END.search(text, place)
            if end is None and not is_last and len(text) - place < MAX_NUMBER:
                self._waiting = text[place:]
                return
            stop = len(text) if end is None else end.start()
            yield self._number(text[place:stop])
            place = stop

    def _string(self, text: str, place: int) -> tuple[int, str]:
        """Return the place after a part of a string, and the part's redacted JSON text."""
        found = _STRING_END.search(text, place)
        stop = len(text) if found is None else found.start()
        if stop > place:
            return stop, _escaped(self._text.feed(text[place:stop]))
        if text[place] == '"':
            self._in_string = False
            return place + 1, _escaped(self._text.close()) + '"'
        end = _escape_end(text, place)
        if end is None:
            self._waiting = text[place:]
            return len(text), ""
        return end, _escaped(self._text.feed(_unescaped(text[place:end])))

    def _number(self, number: str) -> str:
        redacted = redact_text(number, self._redaction)
        if redacted == number:
            return number
        self._has_replaced_number = True
        return f'"{_escaped(redacted)}"'


def redact_json(text: str, redaction: RedactionFilter) -> str:
    """Return a whole JSON text with its matches replaced."""
    redactor = JsonRedactor(redaction)
    return redactor.feed(text) + redactor.close()


def redact_value(value: Json, redaction: RedactionFilter) -> Json:
    """Return a JSON value with the matches in its strings, keys and numbers replaced."""
    match value:
        case str():
            return redact_text(value, redaction)
        case list():
            return [redact_value(item, redaction) for item in value]
        case dict():
            return {redact_text(key, redaction): redact_value(item, redaction) for key, item in value.items()}
        case bool() | None:
            return value
        case _:
            redacted = redact_text(str(value), redaction)
            return value if redacted == str(value) else redacted


def _escape_end(text: str, place: int) -> int | None:
    """Return the end of the escape at `place`, or None if it is not complete. A pair of surrogates is one."""
    kind = text[place + 1 : place + 2]
    if kind != "u":
        return place + 2 if kind else None
    if len(text) < place + 6:
        return None
    if text[place + 2 : place + 4].lower() not in _HIGH_SURROGATES:
        return place + 6
    following = text[place + 6 : place + 12]
    if len(following) == 6 and following.startswith("\\u"):
        return place + 12 if following[2:4].lower() in _LOW_SURROGATES else place + 6
    return None if "\\u".startswith(following[:2]) else place + 6


_HIGH_SURROGATES = frozenset(("d8", "d9", "da", "db"))
_LOW_SURROGATES = frozenset(("dc", "dd", "de", "df"))


def _unescaped(escape: str) -> str:
    """Return the characters of an escape. An escape that is not JSON stays; half a pair becomes U+FFFD."""
    if escape[1] != "u":
        return _ESCAPED.get(escape[1], escape[1] if escape[1] in '"\\/' else escape)
    try:
        units = [int(part, 16) for part in escape.split("\\u")[1:]]
    except ValueError:
        return escape
    return b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le", "replace")


def _escaped(text: str) -> str:
    """Return the inside of a JSON string."""
    return msgspec.json.encode(text).decode()[1:-1] if text else ""
