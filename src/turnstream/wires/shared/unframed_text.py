"""Finds failures in text of a stream that is outside its events.

There are three kinds of such text: fields that the standard does not define, such as `error: {…}`; plain text
or HTML from a proxy; and keep-alives of a vendor, which are harmless. Bare JSON is not among them: the frame
reader passes it to the wire as if it were on data lines.
"""

from __future__ import annotations

import re
from typing import Any

from turnstream.wires.shared.failure_words import is_probably_failure
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.lenient_json import decode_json, replace_surrogates

_TEXT_LIMIT = 64 * 1024
"""Bytes of one text that are examined."""
_WORDS_LIMIT = 2000
_HEADLINE = 200
"""Characters of a page without its markup that tell if it reports a failure."""
_FIELD = re.compile(r"([A-Za-z][\w.\-]*)[ \t]*(?::|\Z)[ \t]*")
_ERROR_FIELD = re.compile(
    r"(?:.*[._-])?(?:error|exception|failure|fault)s?|[\w.]*(?:Error|Exception)", re.DOTALL
)
_HTML = re.compile(r"\s*<(?:!doctype|html|head|body|title|h1|center|\?xml)", re.IGNORECASE)
_TAGS = re.compile(r"<(?:style|script)\b.*?</(?:style|script)>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def names_failure(name: bytes) -> bool:
    """Return True if an event of this name always reports a failure."""
    return name == b"error" or _ERROR_FIELD.fullmatch(name.decode("utf-8", "replace")) is not None


class UnframedText:
    """Examines the unframed texts of one stream. `words` is the beginning of the texts that report no
    failure."""

    __slots__ = ("words",)

    def __init__(self) -> None:
        self.words = ""

    def take(self, data: bytes) -> JsonObject | None:
        """Return the failure that a text reports, as `{"error": …}` in the provider's words, or None."""
        text = data[:_TEXT_LIMIT].decode("utf-8", "replace")
        reported = _reported(text)
        if reported is None and len(self.words) < _WORDS_LIMIT:
            self.words = f"{self.words}\n{text}".strip()[:_WORDS_LIMIT]
        return reported


def _reported(text: str) -> JsonObject | None:
    if _HTML.match(text):
        words = _readable(text)
        return {"error": words} if is_probably_failure(words[:_HEADLINE]) else None
    lines = text.split("\n")
    for number, line in enumerate(lines):
        field = _FIELD.match(line)
        if field is None or field.end() == len(line) == field.end(1):
            if is_probably_failure(line):
                return {"error": "\n".join(lines[number:])[:_WORDS_LIMIT].strip()}
            continue
        if _ERROR_FIELD.fullmatch(field[1]) or _ERROR_FIELD.fullmatch(field[1].lower()):
            value = _value_of(line[field.end() :], lines[number + 1 :])
            if isinstance(value, str) and field[1].lower() != "error":
                value = f"{field[1]}: {value}"
        else:
            value = _json_in(line[field.end() :])
            value = value if is_object(value) and value.get("error") else None
        if value:
            return value if is_object(value) and value.get("error") else {"error": value}
    return None


def _value_of(first: str, more: list[str]) -> Any:
    """Return the value of a field, which may continue on the next lines: JSON if it parses, else text."""
    whole = "\n".join([first, *more])
    for text in (whole, first):
        value = _json_in(text)
        if value is not _NO_JSON:
            return value
    return whole.strip()[:_WORDS_LIMIT] or "the provider reported an error"


_NO_JSON = object()


def _json_in(text: str) -> Any:
    try:
        return replace_surrogates(decode_json(text.encode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return _NO_JSON


def _readable(html: str) -> str:
    """Return the text of a page without its markup."""
    return " ".join(_TAGS.sub(" ", html).split())[:_WORDS_LIMIT]
