"""A short cut for plain events whose extra fields differ from one to the next.

`openai_chat_template` reads events that differ in their text alone. Where a vendor adds token ids, times or counters to
each delta, the bytes around the text change too. A lean reader decodes such an event straight into structs that take
one text and, of everything that has an effect, nothing. The structs are made for the fields that the stream's deltas
have had so far (`field_shapes`): a field that is new, or may bring more, is refused. What is refused is decoded in full,
which also ends the reader's life.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from turnstream.core.sse import ServerSentEvent
from turnstream.core.stream_events import StreamEvent, TextDelta, ThinkingDelta, ToolInputDelta
from turnstream.wires.openai_chat.extras import CONTENT
from turnstream.wires.openai_chat.template import Growing
from turnstream.wires.openai_chat.thinking_blocks import THINKING_BLOCKS, THINKING_FIELDS
from turnstream.wires.shared.field_shapes import Shape, Shapes, is_plain, shape_of, struct_of, type_of
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.kept_fields import METADATA, MOST_FIELDS, NOISE, KeptFields
from turnstream.wires.shared.lenient_json import decode_json

_TEXTS: dict[str, type[TextDelta] | type[ThinkingDelta]] = {
    "content": TextDelta,
    "reasoning_content": ThinkingDelta,
    "reasoning": ThinkingDelta,
}
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
_Decode: TypeAlias = Callable[[bytes], Any]


class _Entry(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One of `thinking_blocks` that repeats the text beside it, and brings no signature."""

    thinking: str = ""
    type: Literal["thinking"] = "thinking"
    signature: Literal[""] | None = None


class _Choice(msgspec.Struct, gc=False, kw_only=True):
    index: Literal[0] = 0
    finish_reason: Literal[""] | None = None
    usage: None = None
    error: None = None


class _Chunk(msgspec.Struct, gc=False, kw_only=True):
    usage: None = None
    error: None = None
    x_groq: None = None
    citations: None = None
    search_results: None = None


class _Arguments(msgspec.Struct, gc=False, kw_only=True):
    arguments: str
    name: Literal[""] | None = None


class _Fragment(msgspec.Struct, gc=False, kw_only=True, forbid_unknown_fields=True):
    """More arguments of a call that goes by its index."""

    function: _Arguments
    id: Literal[""] | None = None
    type: msgspec.Raw = msgspec.Raw()


def _fragment_at(position: int) -> Any:
    return msgspec.defstruct(
        "Fragment", [("index", Literal[position])], bases=(_Fragment,), gc=False, kw_only=True
    )


def _base(field: str, kind: Any) -> type[msgspec.Struct]:
    """Return a struct that requires `field`, and has it as `text`."""
    return msgspec.defstruct("Text", [("text", kind, msgspec.field(name=field))], gc=False, kw_only=True)


_TEXT_BASES = {field: _base(field, str) for field in _TEXTS}


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
        first, total = position, len(frames)
        try:
            while position < total:
                name, payload, _ = frames[position]
                if name is not None or not (text := decode(payload).choices[0].delta.text):
                    break
                events.append(event(index, text))
                position += 1
        except (ValueError, RecursionError):
            pass  # what it is, the full way finds out
        self.hits += position - first
        return position


class LeanCallReader:
    """Reads plain fragments of the arguments of one call. `hits` counts them."""

    __slots__ = ("_decode", "_index", "_texts", "hits")

    def __init__(self, decode: _Decode, index: int, texts: list[str]) -> None:
        self._decode = decode
        self._index = index
        self._texts = texts
        self.hits = 0

    def read(self, frames: Sequence[ServerSentEvent], position: int, events: list[StreamEvent]) -> int:
        """As `LeanReader.read`."""
        decode, index, texts = self._decode, self._index, self._texts
        first, total = position, len(frames)
        try:
            while position < total:
                name, payload, _ = frames[position]
                text = decode(payload).choices[0].delta.text[0].function.arguments
                if name is not None or not text:
                    break
                texts.append(text)
                events.append(ToolInputDelta(index, text))
                position += 1
        except (ValueError, RecursionError):
            pass
        self.hits += position - first
        return position


class LeanLearner:
    """Makes the readers of one response, for the fields that its deltas have had."""

    def __init__(self, kept: KeptFields) -> None:
        self._kept = kept
        self._fields: set[str] = set()

    def learn(self, payload: bytes, growing: Growing) -> LeanReader | LeanCallReader | None:
        """Return a reader of events like `payload`, which was decoded in full and made a block grow, or None."""
        delta = _delta_of(payload)
        self._fields.update(delta)
        shapes = self._shapes() if len(self._fields) <= MOST_FIELDS else None
        if shapes is None:
            return None
        if growing.texts is not None:
            return self._learn_call(payload, delta, shapes, growing)
        for text in sorted(delta.keys() & _TEXTS.keys()):
            decode = _decoder(text, shapes, None)
            if _text_in(decode, payload):
                return LeanReader(decode, _TEXTS[text], growing.block_index)
        return None

    @staticmethod
    def _learn_call(
        payload: bytes, delta: JsonObject, shapes: Shapes, growing: Growing
    ) -> LeanCallReader | None:
        calls = delta.get("tool_calls")
        position = calls[0].get("index") if is_list(calls) and calls and is_object(calls[0]) else None
        if growing.texts is None or not isinstance(position, int):
            return None
        decode = _decoder("tool_calls", shapes, position)
        found = _text_in(decode, payload)
        is_plain = bool(found) and bool(found[0].function.arguments)
        return LeanCallReader(decode, growing.block_index, growing.texts) if is_plain else None

    def _shapes(self) -> Shapes | None:
        """Return what the fields may hold without an effect, or None if one of them always may have one."""
        shapes = {field: self._shape_of(field) for field in self._fields}
        return None if "" in shapes.values() else tuple(sorted(shapes.items()))

    def _shape_of(self, field: str) -> Shape:
        if field in _ANSWERS:
            return "blank"
        if field in _REPEATED:
            return "any"
        if field == THINKING_BLOCKS:
            return "entries"
        if field in CONTENT or (field not in METADATA and field not in self._kept.values):
            return "blank" if is_plain(field) else ""
        shape = shape_of(field, self._kept)
        return shape if isinstance(shape, tuple) or field != "provider_specific_fields" else ""


def _delta_of(payload: bytes) -> JsonObject:
    try:
        delta = decode_json(payload)["choices"][0]["delta"]
    except (ValueError, LookupError, TypeError):
        return {}
    return delta if is_object(delta) else {}


def _text_in(decode: _Decode, payload: bytes) -> Any:
    try:
        return decode(payload).choices[0].delta.text
    except (ValueError, RecursionError):
        return None


@lru_cache(maxsize=256)
def _decoder(text: str, shapes: Shapes, position: int | None) -> _Decode:
    """Return the decoder of chunks whose delta has its text in `text`, and other fields of these shapes. `position`: the
    index that a fragment of a call must have."""
    entries: Any = list[_Entry] | None if text.startswith("reasoning") else _Blank
    base = _TEXT_BASES[text] if position is None else _base("tool_calls", tuple[_fragment_at(position)])
    delta = {key: _type_of(key, shape, entries) for key, shape in shapes if key != text}
    answer = struct_of("LeanDelta", delta, base=base)
    choice = msgspec.defstruct("LeanChoice", [("delta", answer)], bases=(_Choice,), gc=False, kw_only=True)
    chunk = msgspec.defstruct(
        "LeanChunk", [("choices", tuple[choice])], bases=(_Chunk,), gc=False, kw_only=True
    )
    return msgspec.json.Decoder(chunk).decode


def _type_of(key: str, shape: Shape, entries: Any) -> Any:
    if key == "provider_specific_fields" and isinstance(shape, tuple):
        fields = {name: type_of(inner) for name, inner in shape}
        thinking = {**dict.fromkeys(THINKING_FIELDS, _Blank), THINKING_BLOCKS: entries}
        return struct_of("LeanFields", {**fields, **thinking}) | None
    if shape == "blank":
        return _Blank
    return entries if shape == "entries" else type_of(shape)
