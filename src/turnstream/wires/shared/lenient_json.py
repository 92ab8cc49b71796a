"""JSON as providers send it: strict and fast, except that halves of an escaped surrogate pair,
which some providers put into two events, are let through."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from turnstream.core.admission import NESTING_LIMIT, admitted, encodes_deeper

EVENT_NESTING_LIMIT = NESTING_LIMIT + 20
"""Levels that one event of a provider may have: a value that is kept, and what the wire puts around it."""


class NestedTooDeeply(ValueError):
    """JSON that nests deeper than what reads it allows."""

    def __init__(self) -> None:
        super().__init__("nested too deeply")


def decode_json(data: bytes) -> Any:
    """Decode one JSON text that has at most EVENT_NESTING_LIMIT levels of objects and arrays.

    Lone surrogate escapes stay in the strings as they are; `mend_surrogates` takes them out.
    Raises ValueError for other bytes than JSON in UTF-8, and NestedTooDeeply.
    """
    try:
        return decode_strictly(data)
    except NestedTooDeeply:
        raise
    except (ValueError, RecursionError):
        return _shallow(_decode_loosely(data), data)


def decode_strictly(data: bytes) -> Any:
    """Decode as `decode_json` does, but refuse lone surrogates, escaped ones included. Raises ValueError or RecursionError."""
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


def mend_surrogates(value: Any) -> Any:
    """Return `value`, a decoded JSON text, with every lone surrogate in it replaced by U+FFFD.

    Raises ValueError if it nests more deeply than it could be encoded again.
    """
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return admitted(value)
    except RecursionError as error:
        raise NestedTooDeeply from error
    return value


_encode_string = msgspec.json.Encoder().encode

_LONG_LIST = 100
"""Items of a list above which they are encoded one by one."""


def encode_json(value: Any) -> bytes:
    """Encode as compact UTF-8; text that holds lone surrogates becomes ASCII with escapes."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def encode_text(text: str) -> bytes:
    """Encode one string as `encode_json` does, quickly."""
    try:
        return _encode_string(text)
    except UnicodeEncodeError:
        return encode_json(text)


def encode_mended(value: Any) -> bytes:
    """Encode the body of a request; a lone surrogate in it becomes U+FFFD."""
    try:
        return _encode_body(value)
    except UnicodeEncodeError:
        return _encode_body(admitted(value))


def _encode_body(value: Any) -> bytes:
    """Encode a body. A long list in it is encoded item by item: another thread waits for one item at most, not for the whole
    conversation."""
    if value.__class__ is not dict or not any(_is_long(field) for field in value.values()):
        return msgspec.json.encode(value)
    parts: list[bytes] = []
    for name, field in value.items():
        parts += (b"," if parts else b"{", msgspec.json.encode(name), b":")
        if not _is_long(field):
            parts.append(msgspec.json.encode(field))
            continue
        separator = b"["
        for item in field:  # a loop of Python's: other threads run between two items
            parts += (separator, msgspec.json.encode(item))
            separator = b","
        parts.append(b"]")
    parts.append(b"}")
    return b"".join(parts)


def _is_long(value: Any) -> bool:
    return value.__class__ is list and len(value) > _LONG_LIST


def _parse_integer(digits: str) -> int | float:
    """An integer that JSON libraries can write again; a larger one as a float."""
    number = int(digits) if len(digits) <= 20 else float(digits)
    return number if -(2**63) <= number < 2**63 else float(number)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
