"""Column types: text that any database accepts, and JSON as text."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from sqlalchemy import Dialect, Text, TypeDecorator

from turnstream.core.admission import encodes_deeper, repair_text

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


READABLE_LEVELS = 210
"""Largest nesting of a stored value that can be shown.

Higher than the limit for new values: old ones stay readable.
"""


class _Unreadable:
    """The type of `UNREADABLE`."""


UNREADABLE: Final = _Unreadable()
"""Value of a JSON column whose text is not JSON, or nests too deeply to be shown.

`store.mapping` replaces it with a value that reports the damage, or with an empty one, and logs the row. So
one bad column makes neither its row nor a list with that row unreadable.
"""


def encode_json(value: object) -> str:
    """Return the JSON text of `value`. Raises TypeError if a part of it has no JSON form."""
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError:
        return repair_text(json.dumps(msgspec.to_builtins(value), ensure_ascii=False))


def decode_json(text: str) -> Any:
    return _decoder.decode(text)


class StoredText(TypeDecorator[str]):
    """Text from outside. Half surrogate pairs, which a database does not accept, become U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else repair_text(value)


class JsonText(TypeDecorator[Any]):
    """A JSON value as text, encoded by msgspec.

    Measured: a tool call is written in 0.4 µs and read in 0.8 µs. SQLAlchemy's JSON type, which uses the
    standard library, takes 4.2 µs and 3.6 µs.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's
        return None if value is None else encode_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's
        if value is None:
            return None
        try:
            decoded = decode_json(value)
        except (TypeError, ValueError, RecursionError):
            return UNREADABLE
        return UNREADABLE if encodes_deeper(value, decoded, READABLE_LEVELS) else decoded
