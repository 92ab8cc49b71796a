"""Keeps fields that some vendors add to every event: the first value of each, as metadata of the message.

Later values are discarded, so that memory does not grow with the length of a stream. A notice reports each
field whose later values have other text. An object keeps the first value of each of its fields.

Structs are generated for the fields that a stream has brought so far. A decoder of these structs is fast, and
refuses every event that has an effect: a new field, or a value that must be kept or reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from turnstream.core.blocks import Content
from turnstream.core.stream_events import StreamEvent, StreamNotice
from turnstream.wires.shared.json_values import JsonObject, is_blank, is_list, is_object

MOST_FIELDS = 64
NOISE = frozenset(
    {
        "created", "finish_reason", "id", "index", "logprobs", "model", "name", "object", "token_id",
        "token_ids", "type",
    }
)  # fmt: skip
"""Fields without information about the message. They are discarded."""
METADATA = frozenset({"provider_metadata", "provider_specific_fields"})
"""Fields that are metadata by name. Changes of their values are not reported."""


class KeptFields:
    """The extra fields of one message.

    Attributes:
        values: Kept values by field.
        changed: Fields for which a notice has been given.
    """

    def __init__(self) -> None:
        self.values: JsonObject = {}
        self.changed: set[str] = set()

    def keep(self, fields: JsonObject, events: list[StreamEvent]) -> Content:
        """Keep the new values among an event's extra fields.

        Return them. A changed object is returned whole.
        """
        new: Content = {}
        for key, value in fields.items():
            if key in NOISE or is_blank(value):
                continue
            known = self.values.get(key)
            if (gained := self._gained(known, value)) is not None:
                new[key] = self.values[key] = gained
            elif value != known and key not in METADATA and key not in self.changed and holds_text(value):
                self._note(key, events)
        return new

    def _gained(self, known: Any, value: Any) -> Any:
        """Return the value to keep from now on, or None if nothing is new."""
        if known is None:
            return value if len(self.values) < MOST_FIELDS else None
        if not is_object(known) or not is_object(value) or len(known) >= MOST_FIELDS:
            return None
        fresh = [(name, item) for name, item in value.items() if name not in known and not is_blank(item)]
        return {**known, **dict(fresh[: MOST_FIELDS - len(known)])} if fresh else None

    def _note(self, key: str, events: list[StreamEvent]) -> None:
        if len(self.changed) < MOST_FIELDS:
            self.changed.add(key)
            words = f"the answer's field {key[:100]!r} is not read; its first value is kept as metadata"
            events.append(StreamNotice("unread_field", words))


def holds_text(value: Any) -> bool:
    """Return True if there is a string in `value`."""
    items: Iterable[Any] = value.values() if is_object(value) else value if is_list(value) else ()
    return isinstance(value, str) or any(holds_text(item) for item in items)


Shape: TypeAlias = str | tuple[tuple[str, Any], ...]
"""Values of a field that have no effect: `any`, `blank`, `numbers`, `=` and a string, or the fields of an
object."""
Shapes: TypeAlias = tuple[tuple[str, Shape], ...]

_LONGEST_STRING = 200
_Number: TypeAlias = int | float | bool | None
Blank: TypeAlias = Literal[""] | Annotated[list[Any], msgspec.Meta(max_length=0)] | None


def shape_of(key: str, fields: KeptFields) -> Shape:
    """Return the values without effect for a field whose first value is kept. Empty if no shape describes
    them."""
    if not is_plain(key):
        return ""
    if key in fields.changed:
        return "any"
    is_metadata = key in METADATA
    return _shape(fields.values.get(key, {} if is_metadata else None), is_metadata=is_metadata)


def blank_shape(inner: JsonObject) -> Shape:
    """Return the shape of a field without a kept value, whose objects have had the fields `inner`."""
    return with_blanks((), inner) if inner else "blank"


def with_blanks(shape: Shapes, inner: JsonObject) -> Shape:
    """Add the fields in `inner` that are not in `shape`: their values were blank, and may be again. Return an
    empty shape if no struct can describe them, or if there are too many."""
    known = dict(shape)
    others = {key: value for key, value in inner.items() if key not in known}
    if len(inner) > MOST_FIELDS or not all(map(is_plain, others)):
        return ""
    blanks = {key: blank_shape(value if is_object(value) else {}) for key, value in others.items()}
    return "" if "" in blanks.values() else (*shape, *blanks.items())


def is_plain(name: str) -> bool:
    """Return True if a struct can have a JSON field of this name."""
    return name.isprintable() and '"' not in name and "\\" not in name


def type_of(shape: Shape) -> Any:
    """Return the type of the values of this shape."""
    if isinstance(shape, tuple):
        return struct_of("Fields", {name: type_of(inner) for name, inner in shape}) | None
    match shape:
        case "any":
            return msgspec.Raw
        case "blank":
            return Blank
        case "numbers":
            return _Number | list[_Number | dict[str, _Number]]
        case _:
            return Literal[shape[1:], None]


def struct_of(name: str, fields: dict[str, Any], *, base: type[msgspec.Struct] = msgspec.Struct) -> Any:
    """Return a struct type with optional JSON fields. It refuses other fields.

    Args:
        name: Name of the type.
        fields: Types by JSON field. The names of the attributes are generated.
        base: Base class of the type.
    """
    members: list[Any] = [
        (f"field_{n}", kind, msgspec.field(name=key, default=msgspec.Raw() if kind is msgspec.Raw else None))
        for n, (key, kind) in enumerate(fields.items())
    ]
    return msgspec.defstruct(name, members, bases=(base,), gc=False, forbid_unknown_fields=True, kw_only=True)


def _shape(value: Any, *, is_metadata: bool) -> Shape:
    if is_object(value):
        if not all(map(is_plain, value)):
            return ""
        inner = {
            key: "any" if is_metadata else _shape(item, is_metadata=False) for key, item in value.items()
        }
        return "" if "" in inner.values() else tuple(inner.items())
    if is_metadata:
        return "any"
    if isinstance(value, str):
        return f"={value}" if len(value) <= _LONGEST_STRING else ""
    return "" if holds_text(value) else "numbers"
