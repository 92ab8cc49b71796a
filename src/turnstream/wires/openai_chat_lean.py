"""A short cut for plain events whose extra fields differ from one to the next.

`openai_chat_template` reads events that differ in their text alone. Where a vendor adds token ids, times or counters to
each delta, the bytes around the text change too. A lean reader decodes such an event straight into structs that take
one text and, of everything that has an effect, nothing. The structs are made for the fields that the stream's deltas
have had so far (for extras see `openai_chat_extras`): a field that is new, or may bring more, is refused. What is refused is decoded in full,
which also ends the reader's life.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from turnstream.core.sse import ServerSentEvent
from turnstream.core.stream_events import StreamEvent, TextDelta, ThinkingDelta
from turnstream.wires.json_values import is_list, is_object
from turnstream.wires.lenient_json import decode_json
from turnstream.wires.openai_chat_extras import CONTENT, METADATA, NOISE, Extras, holds_text
from turnstream.wires.openai_chat_thinking_blocks import THINKING_BLOCKS, THINKING_FIELDS

Shape: TypeAlias = str | tuple[tuple[str, Any], ...]
"""Values that a field may have without an effect: `any`, `blank`, `entries` (of `thinking_blocks`), `numbers`, `=` and
a string, or the fields of an object."""

_TEXTS: dict[str, type[TextDelta] | type[ThinkingDelta]] = {
    "content": TextDelta,
    "reasoning_content": ThinkingDelta,
    "reasoning": ThinkingDelta,
}
_LONGEST_STRING = 200
_REPEATED = frozenset({"role", "channel", *NOISE})
_ANSWERS = (
    "content",
    "reasoning_content",
    "reasoning",
    "refusal",
    "tool_calls",
    "function_call",
    "annotations",
    "reasoning_details",
    "signature",
)
_Blank: TypeAlias = Literal[""] | Annotated[list[Any], msgspec.Meta(max_length=0)] | None
_Number: TypeAlias = int | float | bool | None
_Decode: TypeAlias = Callable[[bytes], Any]


class _Entry(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One of `thinking_blocks` that repeats the text beside it, and brings no signature."""

    thinking: str = ""
    type: Literal["thinking"] = "thinking"
    signature: Literal[""] | None = None


class LeanReader:
    """Reads plain events of one block. `hits` counts them."""

    __slots__ = ("_decode", "_event", "_index", "hits")

    def __init__(self, decode: _Decode, event: type[TextDelta] | type[ThinkingDelta], index: int) -> None:
        self._decode = decode
        self._event = event
        self._index = index
        self.hits = 0

    def read(self, frames: Sequence[ServerSentEvent], position: int, events: list[StreamEvent]) -> int:
        """Append the events that `frames` from `position` on stand for, as far as they are plain; return the place of
        the first that is not."""
        decode, event, index = self._decode, self._event, self._index
        first = position
        try:
            for name, payload, _ in frames[position:] if position else frames:
                if name is not None or not (text := decode(payload).choices[0].delta.text):
                    break
                events.append(event(index, text))
                position += 1
        except (ValueError, RecursionError):
            pass  # what it is, the full way finds out
        self.hits += position - first
        return position


class LeanLearner:
    """Makes the readers of one response, for the fields that its deltas have had."""

    def __init__(self, extras: Extras) -> None:
        self._extras = extras
        self._fields: set[str] = set()

    def learn(self, payload: bytes, index: int) -> LeanReader | None:
        """Return a reader of events like `payload`, which was decoded in full and made the block at `index` grow, or
        None."""
        self._fields.update(_fields_of(payload))
        shapes = self._shapes()
        if shapes is None:
            return None
        for text in sorted(self._fields & _TEXTS.keys()):
            decode = _decoder(text, shapes)
            try:
                found = decode(payload).choices[0].delta.text
            except (ValueError, RecursionError):
                continue
            if found:
                return LeanReader(decode, _TEXTS[text], index)
        return None

    def _shapes(self) -> tuple[tuple[str, Shape], ...] | None:
        """Return what the fields may hold without an effect, or None if one of them always may have one."""
        shapes = {field: self._shape_of(field) for field in self._fields}
        return None if "" in shapes.values() else tuple(sorted(shapes.items()))

    def _shape_of(self, field: str) -> Shape:
        if field in _ANSWERS:
            return "blank"
        if field in _REPEATED or field in self._extras.changed:
            return "any"
        if field == THINKING_BLOCKS:
            return "entries"
        kept = self._extras.kept.get(field, {} if field in METADATA else None)
        return "blank" if field in CONTENT or kept is None else _shape(kept, is_metadata=field in METADATA)


def _fields_of(payload: bytes) -> frozenset[str]:
    try:
        return frozenset(decode_json(payload)["choices"][0]["delta"])
    except (ValueError, LookupError, TypeError):
        return frozenset()


def _shape(value: Any, *, is_metadata: bool) -> Shape:
    """Return what a field may hold whose first value is kept; empty if that cannot be said."""
    if is_object(value):
        inner = {
            key: "any" if is_metadata else _shape(item, is_metadata=False) for key, item in value.items()
        }
        return "" if "" in inner.values() else tuple(inner.items())
    if is_metadata:
        return "any"
    if isinstance(value, str):
        return f"={value}" if len(value) <= _LONGEST_STRING else ""
    return "" if is_list(value) and (holds_text(value) or any(map(is_object, value))) else "numbers"


@lru_cache(maxsize=256)
def _decoder(text: str, shapes: tuple[tuple[str, Shape], ...]) -> _Decode:
    """Return the decoder of chunks whose delta has its text in `text`, and other fields of these shapes."""
    entries: Any = _Blank if text == "content" else list[_Entry] | None
    delta = {key: _type_of(key, shape, entries) for key, shape in shapes if key != text}
    choice = {
        "delta": _struct("LeanDelta", delta, text=text),
        "index": Literal[0],
        "finish_reason": Literal["", None],
        "usage": None,
        "error": None,
    }
    chunk = {
        "choices": tuple[_struct("LeanChoice", choice, forbid=False)],
        "usage": None,
        "error": None,
        "x_groq": None,
        "citations": None,
        "search_results": None,
    }
    return msgspec.json.Decoder(_struct("LeanChunk", chunk, forbid=False)).decode


def _type_of(key: str, shape: Shape, entries: Any) -> Any:
    if isinstance(shape, tuple):
        fields = {name: _type_of(name, inner, entries) for name, inner in shape}
        if key == "provider_specific_fields":
            fields |= {**dict.fromkeys(THINKING_FIELDS, _Blank), THINKING_BLOCKS: entries}
        return _struct("LeanObject", fields) | None
    match shape:
        case "any":
            return msgspec.Raw
        case "blank":
            return _Blank
        case "entries":
            return entries
        case "numbers":
            return _Number | list[_Number]
        case _:
            return Literal[shape[1:], None]


def _struct(name: str, fields: dict[str, Any], *, text: str = "", forbid: bool = True) -> Any:
    """Return a struct of these fields, under names of our own. `text`: the required string that is read as `text`."""
    members: list[Any] = [("text", str, msgspec.field(name=text))] if text else []
    for number, (key, kind) in enumerate(fields.items()):
        default: Any = msgspec.Raw() if kind is msgspec.Raw else None
        attribute = key if key in ("choices", "delta") else f"field_{number}"
        if attribute == key:
            members.append((key, kind))
        else:
            members.append((attribute, kind, msgspec.field(name=key, default=default)))
    members.sort(key=len)
    return msgspec.defstruct(name, members, gc=False, forbid_unknown_fields=forbid, kw_only=True)
