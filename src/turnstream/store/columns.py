"""Column types: text that any database takes, and JSON kept as text."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from sqlalchemy import Dialect, Text, TypeDecorator

from turnstream.core.admission import encodes_deeper, mended

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


READABLE_LEVELS = 210
"""Levels of a stored value that can still be shown. What was stored before there was a lower limit stays readable."""


class _Unreadable:
    """The type of `UNREADABLE`."""


UNREADABLE: Final = _Unreadable()
"""Value of a JSON column whose text is not JSON, or nests so deeply that it could not be shown. `store.rows` replaces it with a value that says so, or an empty one, and logs the row: one bad
column costs neither the row nor the list that the row is in."""


def encode_json(value: object) -> str:
    """JSON text of `value`. Raises TypeError for what is not JSON."""
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError:
        return mended(json.dumps(msgspec.to_builtins(value), ensure_ascii=False))


def decode_json(text: str) -> Any:
    return _decoder.decode(text)


class StoredText(TypeDecorator[str]):
    """Text from outside, whatever is in it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's
        return None if value is None else mended(value)


class JsonText(TypeDecorator[Any]):
    """A JSON value as text, by msgspec: measured, a tool call is written in 0.4 µs and read in 0.8; SQLAlchemy's own
    JSON type, by the standard library, takes 4.2 and 3.6."""

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
