"""Decodes and encodes JSON of providers: fast and strict, but with lone surrogate escapes allowed. Some
providers split a surrogate pair between two events."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from turnstream.core.admission import encodes_deeper, plain_json
from turnstream.limits import NESTING_LIMIT

EVENT_NESTING_LIMIT = NESTING_LIMIT + 20
"""Most levels of nesting in one event of a provider: a value that is kept, and the levels that the
wire adds."""

_LINE_ENDS = tuple(
    (character.encode(), b"\\u%04x" % ord(character)) for character in ("\u0085", "\u2028", "\u2029")
)


class NestedTooDeeply(ValueError):
    """Raised for JSON that exceeds the nesting limit."""

    def __init__(self) -> None:
        super().__init__("nested too deeply")


def decode_json(data: bytes) -> Any:
    """Decode one JSON text with at most EVENT_NESTING_LIMIT levels of objects and arrays.

    Lone surrogate escapes stay in the strings, and `replace_surrogates` replaces them. Raises
    NestedTooDeeply, and ValueError for bytes that are not JSON in UTF-8.
    """
    try:
        return decode_strictly(data)
    except NestedTooDeeply:
        raise
    except (ValueError, RecursionError):
        return _shallow(_decode_loosely(data), data)


def decode_strictly(data: bytes) -> Any:
    """Decode as `decode_json` does, but refuse lone surrogates, escaped or not.

    Raises ValueError or RecursionError.
    """
    return _shallow(msgspec.json.decode(data), data)


def _shallow(value: Any, data: bytes) -> Any:
    if len(data) > 2 * EVENT_NESTING_LIMIT and encodes_deeper(data, value, EVENT_NESTING_LIMIT):
        raise NestedTooDeeply
    return value


def _decode_loosely(data: bytes) -> Any:
    try:
        text = data.decode("utf-8", "surrogatepass")
        return json.loads(text, parse_int=_parse_integer, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise NestedTooDeeply from error


def replace_surrogates(value: Any) -> Any:
    """Return `value`, a decoded JSON text, with lone surrogates replaced by U+FFFD.

    Raises NestedTooDeeply if it is nested too deeply to be encoded.
    """
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return plain_json(value)
    except RecursionError as error:
        raise NestedTooDeeply from error
    return value


_encode_string = msgspec.json.Encoder().encode

_LONG_LIST = 100
"""Items of a list above which the items are encoded one by one."""


def encode_json(value: Any) -> bytes:
    """Encode as compact UTF-8. Text with lone surrogates becomes ASCII with escapes."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def encode_text(text: str) -> bytes:
    """Encode one string as `encode_json` does, but faster."""
    try:
        return _encode_string(text)
    except UnicodeEncodeError:
        return encode_json(text)


def encode_repaired(value: Any) -> bytes:
    """Encode the body of a request. Lone surrogates become U+FFFD."""
    try:
        return _encode_body(value)
    except UnicodeEncodeError:
        return _encode_body(plain_json(value))


def _encode_body(value: Any) -> bytes:
    """Encode a body. A long list is encoded item by item, so that other threads wait for one item at most."""
    if value.__class__ is not dict or not any(_is_long(field) for field in value.values()):
        return msgspec.json.encode(value)
    parts: list[bytes] = []
    for name, field in value.items():
        parts += (b"," if parts else b"{", msgspec.json.encode(name), b":")
        if not _is_long(field):
            parts.append(msgspec.json.encode(field))
            continue
        separator = b"["
        for item in field:  # a Python loop: other threads run between two items
            parts += (separator, msgspec.json.encode(item))
            separator = b","
        parts.append(b"]")
    parts.append(b"}")
    return b"".join(parts)


def _is_long(value: Any) -> bool:
    return value.__class__ is list and len(value) > _LONG_LIST


def _parse_integer(digits: str) -> int | float:
    """Return an integer that JSON libraries can encode. A larger number becomes a float."""
    number = int(digits) if len(digits) <= 20 else float(digits)
    return number if -(2**63) <= number < 2**63 else float(number)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def on_one_line(data: bytes) -> bytes:
    """Return JSON text without U+0085, U+2028 and U+2029, which some line readers take for an end of line.

    They are escaped, as LF and CR always are.
    """
    if not data.isascii():
        for character, escaped in _LINE_ENDS:
            data = data.replace(character, escaped)
    return data
