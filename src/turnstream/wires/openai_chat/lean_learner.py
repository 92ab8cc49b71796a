"""Creates the readers of `lean` for one response.

The structs of a reader are generated for the fields that the stream's deltas have had so far (`kept_fields`).
They accept one text and no other field with an effect.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from turnstream.core.stream_events import TextDelta, ThinkingDelta, ToolInputDelta
from turnstream.wires.openai_chat.extras import CONTENT
from turnstream.wires.openai_chat.lean import Decoders, LeanReader
from turnstream.wires.openai_chat.template import OpenTarget
from turnstream.wires.openai_chat.thinking_blocks import THINKING_BLOCKS, THINKING_FIELDS
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.kept_fields import (
    METADATA,
    MOST_FIELDS,
    NOISE,
    Blank,
    KeptFields,
    Shape,
    Shapes,
    blank_shape,
    is_plain,
    shape_of,
    struct_of,
    type_of,
    with_blanks,
)
from turnstream.wires.shared.lenient_json import decode_json

_TEXTS: dict[str, type[TextDelta] | type[ThinkingDelta]] = {
    "content": TextDelta,
    "reasoning_content": ThinkingDelta,
    "reasoning": ThinkingDelta,
}
_REPEATED = frozenset({"role", "channel", *NOISE})
_ANSWERS = (
    "content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "annotations",
    "reasoning_details", "signature",
)  # fmt: skip

_LARGEST_POSITION = 2**31
"""Largest index of a call whose fragments get a decoder of their own. A type cannot hold every integer."""


class _UnsignedEntry(msgspec.Struct, gc=False):
    """An entry of `thinking_blocks` without a signature."""

    type: Literal["thinking"] = "thinking"
    signature: Literal[""] | None = None


class _Entry(_UnsignedEntry, gc=False, forbid_unknown_fields=True):
    """An entry that repeats the delta's text."""

    thinking: str = ""


class _EmptyEntry(_UnsignedEntry, gc=False, forbid_unknown_fields=True):
    thinking: Literal[""] | None = None


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


class _LeanArguments(msgspec.Struct, gc=False, kw_only=True):
    arguments: str
    name: Literal[""] | None = None


class _Fragment(msgspec.Struct, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A fragment with more arguments for the call at its index."""

    function: _LeanArguments
    id: Literal[""] | None = None
    type: msgspec.Raw = msgspec.Raw()


_Copy: TypeAlias = str | Annotated[list[Any], msgspec.Meta(max_length=0)] | None
_NO_THINKING: dict[str, Any] = {
    **dict.fromkeys(THINKING_FIELDS, Blank),
    THINKING_BLOCKS: list[_EmptyEntry] | Literal[""] | None,
}
_THINKING: dict[str, Any] = {**dict.fromkeys(THINKING_FIELDS, _Copy), THINKING_BLOCKS: list[_Entry] | None}
"""Types of the fields that repeat thinking, for a delta with other text and for a delta with thinking."""


def _fragment_at(position: int) -> Any:
    return msgspec.defstruct(
        "Fragment", [("index", Literal[position])], bases=(_Fragment,), gc=False, kw_only=True
    )


def _base(field: str, kind: Any) -> type[msgspec.Struct]:
    """Return a struct that requires `field`, under the attribute `text`."""
    return msgspec.defstruct("Text", [("text", kind, msgspec.field(name=field))], gc=False, kw_only=True)


_TEXT_BASES = {field: _base(field, str) for field in _TEXTS}


class LeanLearner:
    """Creates the readers of one response, for the fields that its deltas have had."""

    def __init__(self, kept: KeptFields) -> None:
        self._kept = kept
        self._fields: dict[str, JsonObject] = {}

    def learn(self, payload: bytes, growing: OpenTarget) -> LeanReader | None:
        """Return a reader of events like `payload`, or None. `payload` was decoded in full and made a block
        grow."""
        delta = _delta_of(payload)
        for field, value in delta.items():
            inner = self._fields.setdefault(field, {})
            if is_object(value) and len(inner) <= MOST_FIELDS:
                inner |= value
        shapes = self._shapes() if len(self._fields) <= MOST_FIELDS else None
        if shapes is None:
            return None
        if growing.texts is not None:
            return self._learn_call(payload, delta, shapes, growing)
        for text in sorted(delta.keys() & _TEXTS.keys()):
            decoders = _decoders(text, shapes, None)
            if _text_in(decoders, payload):
                return LeanReader(decoders, _TEXTS[text], growing, payload)
        return None

    @staticmethod
    def _learn_call(
        payload: bytes, delta: JsonObject, shapes: Shapes, growing: OpenTarget
    ) -> LeanReader | None:
        calls = delta.get("tool_calls")
        position = calls[0].get("index") if is_list(calls) and calls and is_object(calls[0]) else None
        if type(position) is not int or abs(position) > _LARGEST_POSITION:
            return None
        decoders = _decoders("tool_calls", shapes, position)
        found = _text_in(decoders, payload)
        is_plain = bool(found) and bool(found[0].function.arguments)
        return LeanReader(decoders, ToolInputDelta, growing, payload) if is_plain else None

    def _shapes(self) -> Shapes | None:
        """Return shapes in which the fields have no effect, or None if a field has no such shape."""
        shapes = {field: self._shape_of(field, inner) for field, inner in self._fields.items()}
        return None if "" in shapes.values() else tuple(shapes.items())

    def _shape_of(self, field: str, inner: JsonObject) -> Shape:
        """Return the shape of a field. `inner` has the fields of its objects so far."""
        if field in _ANSWERS:
            return "blank"
        if field in _REPEATED:
            return "any"
        if field == THINKING_BLOCKS:
            return "entries"
        if not is_plain(field):
            return ""
        if field in CONTENT:
            return "blank"
        if field not in METADATA and field not in self._kept.values:
            return blank_shape(inner)
        shape = shape_of(field, self._kept)
        if isinstance(shape, tuple):
            return with_blanks(shape, inner)
        return shape if field != "provider_specific_fields" else ""


def _delta_of(payload: bytes) -> JsonObject:
    try:
        delta = decode_json(payload)["choices"][0]["delta"]
    except (ValueError, LookupError, TypeError):
        return {}
    return delta if is_object(delta) else {}


def _text_in(decoders: Decoders, payload: bytes) -> Any:
    try:
        return decoders.event(payload).choices[0].delta.text
    except (ValueError, RecursionError):
        return None


@lru_cache(maxsize=256)
def _decoders(text: str, shapes: Shapes, position: int | None) -> Decoders:
    """Return the decoders of chunks with their text in the field `text` and other fields of these shapes.

    `position` is the required index of a call's fragment. None for text.
    """
    base = _TEXT_BASES[text] if position is None else _base("tool_calls", tuple[_fragment_at(position)])
    copies = _THINKING if text.startswith("reasoning") else _NO_THINKING
    delta = {key: _type_of(key, shape, copies) for key, shape in shapes if key != text}
    if text == "reasoning_content" and "reasoning" in delta:
        delta["reasoning"] = _Copy
    answer = struct_of("LeanDelta", delta, base=base)
    choice = msgspec.defstruct("LeanChoice", [("delta", answer)], bases=(_Choice,), gc=False, kw_only=True)
    chunk = msgspec.defstruct(
        "LeanChunk", [("choices", tuple[choice])], bases=(_Chunk,), gc=False, kw_only=True
    )
    return Decoders(msgspec.json.Decoder(chunk).decode, msgspec.json.Decoder(answer).decode)


def _type_of(key: str, shape: Shape, thinking: dict[str, Any]) -> Any:
    """Return the type of a field. `thinking` has the types of the fields that repeat thinking."""
    if key == "provider_specific_fields" and isinstance(shape, tuple):
        fields = {name: type_of(inner) for name, inner in shape}
        return struct_of("LeanFields", {**fields, **thinking}) | None
    return thinking[THINKING_BLOCKS] if shape == "entries" else type_of(shape)
