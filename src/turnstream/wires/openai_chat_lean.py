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
from turnstream.core.stream_events import StreamEvent, TextDelta, ThinkingDelta
from turnstream.wires.field_shapes import Shape, Shapes, shape_of, struct_of, type_of
from turnstream.wires.kept_fields import METADATA, MOST_FIELDS, NOISE, KeptFields
from turnstream.wires.lenient_json import decode_json
from turnstream.wires.openai_chat_extras import CONTENT
from turnstream.wires.openai_chat_thinking_blocks import THINKING_BLOCKS, THINKING_FIELDS

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


_TEXT_BASES: dict[str, type[msgspec.Struct]] = {
    name: msgspec.defstruct("Text", [("text", str, msgspec.field(name=name))], gc=False, kw_only=True)
    for name in _TEXTS
}
"""For each field of text, a struct that requires it, and has it as `text`."""


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

    def __init__(self, kept: KeptFields) -> None:
        self._kept = kept
        self._fields: set[str] = set()

    def learn(self, payload: bytes, index: int) -> LeanReader | None:
        """Return a reader of events like `payload`, which was decoded in full and made the block at `index` grow, or
        None."""
        self._fields.update(_fields_of(payload))
        shapes = self._shapes() if len(self._fields) <= MOST_FIELDS else None
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
            return "blank"
        return shape_of(field, self._kept)


def _fields_of(payload: bytes) -> frozenset[str]:
    try:
        return frozenset(decode_json(payload)["choices"][0]["delta"])
    except (ValueError, LookupError, TypeError):
        return frozenset()


@lru_cache(maxsize=256)
def _decoder(text: str, shapes: Shapes) -> _Decode:
    """Return the decoder of chunks whose delta has its text in `text`, and other fields of these shapes."""
    entries: Any = _Blank if text == "content" else list[_Entry] | None
    delta = {key: _type_of(key, shape, entries) for key, shape in shapes if key != text}
    answer = struct_of("LeanDelta", delta, base=_TEXT_BASES[text])
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
