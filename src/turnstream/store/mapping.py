"""Tables from records. A struct's fields define the columns of its table, and the conversions of its rows.

The type of a field decides how the field is stored:

    str           text. With a `max_length`: an id or a word of turnstream, stored without checks
    int           an integer. With bounds: a stored number outside them reads as the default, or as 0
    bool, float   unchanged
    dict, tuple   JSON. An empty tuple is NULL, unless the field is marked `base.NOT_NULL`
    a struct      a column for each of its fields
    … | None      the column may be NULL

SQLite accepts any value in any column. If a value cannot be read, its row can still be read: the value reads
as the field's default, or as a text that reports the damage. JSON that cannot be read is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import NoneType
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import inspect
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String
from sqlalchemy.types import TypeEngine

from turnstream.core.admission import repair_text, unreadable
from turnstream.store.base import NOT_NULL
from turnstream.store.columns import JsonText, StoredText, encode_json

logger = logging.getLogger(__name__)

Record = TypeVar("Record", bound=msgspec.Struct)
Read = Callable[[Any, str], Any]
Write = Callable[[Any], Any]

_LONGEST_WORD = 16
_LARGEST_INTEGER = 2**31 - 1


class _StoredColumn(NamedTuple):
    """A column.

    Args:
        plain: Classes of stored values that need no conversion.
        read: Converts a stored value of any other class.
        write: Converts a value for the driver. None if the driver takes it unchanged.
        empty: Value that is stored as NULL.
    """

    name: str
    kind: TypeEngine[Any]
    nullable: bool
    plain: frozenset[type]
    read: Read
    write: Write | None
    empty: Any = None


class RowMapping(Generic[Record]):
    """Makes the columns of a record's table, and converts between records and rows.

    Log lines name a row by its `id`, or by its first column if it has no `id`.
    """

    def __init__(self, record: type[Record]) -> None:
        self._record = record
        self._stored = list(_columns_of(record))
        self._names = record.__struct_fields__
        self._key = next((n for n, stored in enumerate(self._stored) if stored.name == "id"), 0)
        self._readers = [(stored.plain, stored.read) for stored in self._stored]
        self._writers = [(place, s.write) for place, s in enumerate(self._stored) if s.write is not None]
        self._spread = list(_spread_of(record))

    def columns(self) -> list[Column[Any]]:
        """Return new columns for a table, in the order of the fields."""
        return [Column(stored.name, stored.kind, nullable=stored.nullable) for stored in self._stored]

    def record(self, row: Sequence[Any]) -> Record:
        """Return the record of a row that begins with the columns in order."""
        row_id = row[self._key]
        values = [
            value if value.__class__ in plain else read(value, row_id)
            for (plain, read), value in zip(self._readers, row, strict=False)
        ]
        for start, end, struct in self._spread:
            values[start:end] = (struct(*values[start:end]),)
        return self._record(**dict(zip(self._names, values, strict=True)))

    def row(self, record: Record) -> tuple[Any, ...]:
        """Return the columns in order, as the driver takes them."""
        values = self._values_of(record)
        for place, write in self._writers:
            if (value := values[place]) is not None:
                values[place] = write(value)
        return tuple(values)

    def values(self, record: Record) -> dict[str, Any]:
        """Return the columns by name, as statements of SQLAlchemy take them."""
        values = zip(self._stored, self._values_of(record), strict=True)
        return {stored.name: None if value == stored.empty else value for stored, value in values}

    def read(self, column: str, value: Any, row_id: str) -> Any:
        """Return the value of one stored column."""
        stored = next(stored for stored in self._stored if stored.name == column)
        return stored.read(value, row_id)

    def _values_of(self, record: Record) -> list[Any]:
        values: list[Any] = list(msgspec.structs.astuple(record))
        for start, _, _ in reversed(self._spread):
            values[start : start + 1] = msgspec.structs.astuple(values[start])
        return values


def _columns_of(record: type[msgspec.Struct]) -> Iterator[_StoredColumn]:
    info = inspect.type_info(record)
    assert isinstance(info, inspect.StructType)
    types = {field.name: field.type for field in msgspec.structs.fields(record)}
    for field in info.fields:
        kind, nullable = _unwrapped(field.type)
        if isinstance(kind, inspect.StructType):
            yield from _columns_of(kind.cls)
            continue
        default = field.default if field.default is not msgspec.NODEFAULT else None
        yield _column_of(field.name, kind, default, types[field.name], nullable=nullable)


def _spread_of(record: type[msgspec.Struct]) -> Iterator[tuple[int, int, type[msgspec.Struct]]]:
    """Yield the start and end index of the values of each struct within a record, and the struct."""
    info = inspect.type_info(record)
    assert isinstance(info, inspect.StructType)
    for place, field in enumerate(info.fields):
        kind, _ = _unwrapped(field.type)
        if isinstance(kind, inspect.StructType):
            yield place, place + len(kind.fields), kind.cls


def _unwrapped(kind: inspect.Type) -> tuple[inspect.Type, bool]:
    """Return a field's type without None and without marks, and True if the column may be NULL."""
    if isinstance(kind, inspect.Metadata):
        inner, nullable = _unwrapped(kind.type)
        marked = kind.extra == NOT_NULL.extra  # pyright: ignore[reportUnknownMemberType]
        return inner, nullable and not marked
    if isinstance(kind, inspect.UnionType):
        (inner,) = (choice for choice in kind.types if not isinstance(choice, inspect.NoneType))
        return _unwrapped(inner)[0], True
    return kind, isinstance(kind, inspect.VarTupleType)


def _column_of(name: str, kind: inspect.Type, default: Any, of: Any, *, nullable: bool) -> _StoredColumn:
    plain: set[type] = {NoneType} if nullable else set()
    write: Write | None = None
    empty: Any = None
    match kind:
        case inspect.StrType(max_length=None):
            column, read, write = StoredText(), read_text, repair_text
            plain.add(str)
        case inspect.StrType() | inspect.LiteralType():
            column, read = String(getattr(kind, "max_length", _LONGEST_WORD)), read_text
            plain.add(str)
        case inspect.IntType(le=None):
            column, read = BigInteger(), _none if nullable else _unchanged
            plain.add(int)
        case inspect.IntType(ge=least, le=int(most)):
            column = Integer() if most <= _LARGEST_INTEGER else BigInteger()
            read = bounded(least or 0, most, None if nullable else 0)
        case inspect.FloatType():
            column, read = Float(), _zero
            plain.add(float)
        case inspect.BoolType():
            # The driver binds an int directly, and looks up an adapter for a bool.
            column, read, write = Boolean(), _unchanged, int
            plain.add(bool)
        case inspect.DictType():
            column, read, write = JsonText(), partial(read_mapping, name), encode_json
            plain.add(dict)
        case inspect.VarTupleType():
            column, read, write = JsonText(), _converted(name, of, default), encode_json
            if nullable and default is not None:
                write, empty = _unless_empty, default
            plain.clear()
        case _:
            raise TypeError(f"no column is known for {name}: {kind}")
    return _StoredColumn(name, column, nullable, frozenset(plain), read, write, empty)


def _unless_empty(value: tuple[Any, ...]) -> str | None:
    return encode_json(value) if value else None


def _unchanged(value: Any, row_id: str) -> Any:
    return value


def _none(value: Any, row_id: str) -> None:
    return None


def _zero(value: Any, row_id: str) -> float:
    return 0.0


def read_text(value: Any, row_id: str) -> Any:
    """Return the text of a column, converted from a stored value of any class."""
    if value is None or value.__class__ is str:
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def read_mapping(column: str, value: Any, row_id: str) -> dict[str, Any]:
    """Return the JSON object of a column, or an object that reports that the stored value cannot be read."""
    if value.__class__ is dict:
        return value
    log_unreadable(row_id, column)
    return unreadable("the stored value is damaged, or nests too deeply")


def bounded(least: int, most: int, default: int | None) -> Read:
    """Return a function that reads integers from `least` to `most`, and any other value as `default`."""

    def read(value: Any, row_id: str) -> int | None:
        return value if value.__class__ is int and least <= value <= most else default

    return read


def _converted(column: str, kind: Any, default: Any) -> Read:
    def read(value: Any, row_id: str) -> Any:
        if value is None or (default is not None and not value):
            return default
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            log_unreadable(row_id, column)
            return default

    return read


def log_unreadable(row_id: str, column: str) -> None:
    """Log that a column of a row cannot be read."""
    logger.error("row %s: %s cannot be read", row_id, column)
