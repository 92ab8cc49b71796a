"""Fast path for plain events whose extra fields change from one event to the next.

`template` reads events that differ only in their text. If a vendor adds token ids, times or counters to each
delta, the bytes around the text change too. A lean reader decodes such an event directly into structs that
accept one text and no other field with an effect. The structs are generated for the fields that the stream's
deltas have had so far (`kept_fields`). A new field, or a value that may have an effect, is refused. A refused
event is decoded in full, and the reader is discarded.

Most events differ only in their deltas. A reader learns the bytes around a delta, and decodes only the delta
if they match. It reads the bytes of the body, because framing costs as much as the rest: a single event takes
as few Python calls as a framed one, and events in a batch take none of their own. A large read of deltas with
five changing fields costs 1.3 times one without them; decoding of whole frames costs 2.0 times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import repeat
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec

from turnstream.core.sse import ServerSentEvent
from turnstream.core.stream_events import StreamEvent, TextDelta, ThinkingDelta, ToolInputDelta
from turnstream.wires.openai_chat.extras import CONTENT
from turnstream.wires.openai_chat.template import DeltaEvent, OpenTarget
from turnstream.wires.openai_chat.thinking_blocks import THINKING_BLOCKS, THINKING_FIELDS
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.kept_fields import (
    METADATA,
    MOST_FIELDS,
    NOISE,
    KeptFields,
    Shape,
    Shapes,
    is_plain,
    shape_of,
    struct_of,
    type_of,
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
_BLANK_LINE = b"\n\n"
_LINE_FEED = 0x0A
_CARRIAGE_RETURN = 0x0D
_FRAME_TRIES = 5
_HITS_OF_A_FRAME = 32
_Blank: TypeAlias = Literal[""] | Annotated[list[Any], msgspec.Meta(max_length=0)] | None
_Decode: TypeAlias = Callable[[bytes], Any]


class _Entry(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An entry of `thinking_blocks` that repeats the delta's text and has no signature."""

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


class _WrittenChoice(msgspec.Struct, gc=False):
    delta: msgspec.Raw


class _WrittenChunk(msgspec.Struct, gc=False):
    choices: tuple[_WrittenChoice]


class _LeanArguments(msgspec.Struct, gc=False, kw_only=True):
    arguments: str
    name: Literal[""] | None = None


class _Fragment(msgspec.Struct, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A fragment with more arguments for the call at its index."""

    function: _LeanArguments
    id: Literal[""] | None = None
    type: msgspec.Raw = msgspec.Raw()


_Copy: TypeAlias = str | Annotated[list[Any], msgspec.Meta(max_length=0)] | None
_NO_THINKING: dict[str, Any] = dict.fromkeys(THINKING_FIELDS, _Blank)
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


class _Decoders(NamedTuple):
    """Decoders of a plain event, and of its delta alone."""

    event: _Decode
    delta: _Decode


class _Frame(NamedTuple):
    """Bytes before and after a delta, and their total length; all empty if they are not known."""

    before: bytes
    after: bytes
    around: int


_text_of = attrgetter("text")
_decode_written = msgspec.json.Decoder(_WrittenChunk).decode


class LeanReader:
    """Reads plain events of one block.

    Args:
        decoders: Decoders for events with the fields of this stream.
        event: Class of the events for the texts.
        growing: Target of the texts. If it keeps texts, they are arguments of a call.
        payload: An event that the reader accepts.

    Attributes:
        hits: Number of events that were read.
        reads_bytes: True while the bytes around the deltas are known.
    """

    __slots__ = (
        "_decode", "_decode_delta", "_event", "_frame", "_growing", "_large", "_learnt_at", "_line",
        "_tries", "hits", "reads_bytes",
    )  # fmt: skip

    def __init__(self, decoders: _Decoders, event: DeltaEvent, growing: OpenTarget, payload: bytes) -> None:
        self._decode, self._decode_delta = decoders
        self._event = event
        self._growing = growing
        self._tries = _FRAME_TRIES
        self._learnt_at = 0
        self.hits = 0
        self._learn_frame(payload, 0)

    def read(self, frames: Sequence[ServerSentEvent], position: int, events: list[StreamEvent]) -> int:
        """Append the events of plain `frames` from `position` on. Return the position of the first other
        frame.

        If an event differs from the last only in its delta, only the delta is decoded.
        """
        decode, (before, after, around), (index, texts) = self._decode_delta, self._frame, self._growing
        event, first, total = self._event, position, len(frames)
        try:
            while position < total:
                name, payload, _ = frames[position]
                delta = payload.removeprefix(before).removesuffix(after)
                if around and len(delta) + around == len(payload):
                    text = decode(delta).text
                else:
                    text = self._decode(payload).choices[0].delta.text
                    if self._tries:
                        before, after, around = self._learn_frame(payload, position - first)
                if name is not None or not text:
                    break
                if texts is not None:
                    text = text[0].function.arguments
                    if not text:
                        break
                    texts.append(text)
                events.append(event(index, text))
                position += 1
        except (ValueError, RecursionError):
            pass  # the full decoder handles the event
        self.hits += position - first
        return position

    def read_bytes(self, data: bytes, events: list[StreamEvent]) -> bytes:
        """Append the events at the beginning of `data`, and return the bytes after them.

        Reads events with the usual framing that differ only in their deltas. `data` must begin at an event
        boundary.
        """
        if len(data) > self._large:
            return self._read_lines(data, events)
        before, after, around = self._line
        delta = data.removeprefix(before).removesuffix(after)
        if _LINE_FEED in delta:
            return self._read_lines(data, events)
        if len(delta) + around != len(data) or _CARRIAGE_RETURN in delta:
            return data
        try:
            text = self._decode_delta(delta).text
            (index, texts) = self._growing
            if texts is not None:
                text = text[0].function.arguments
        except (ValueError, RecursionError):
            return data
        if not text:
            return data
        if texts is not None:
            texts.append(text)
        events.append(self._event(index, text))
        self.hits += 1
        return b""

    def _read_lines(self, data: bytes, events: list[StreamEvent]) -> bytes:
        """Do the same as `read_bytes`, for several events."""
        lines = data.split(b"\n")
        if any(lines[1:-1:2]) or _CARRIAGE_RETURN in data:
            return data
        before, after, around = self._line
        after, around = after.removesuffix(_BLANK_LINE), around - len(_BLANK_LINE)
        alike = lines[:-2:2]
        deltas = [line.removeprefix(before).removesuffix(after) for line in alike]
        if sum(map(len, deltas)) + around * len(alike) != sum(map(len, alike)):
            is_other = (len(delta) + around != len(line) for line, delta in zip(alike, deltas, strict=True))
            del deltas[next(place for place, found in enumerate(is_other) if found) :]
        (index, kept) = self._growing
        try:
            texts = list(map(_text_of, map(self._decode_delta, deltas)))
            if kept is not None:
                texts = [fragments[0].function.arguments for fragments in texts]
        except (ValueError, RecursionError):
            return data
        if not all(texts):
            return data
        if kept is not None:
            kept += texts
        events += map(self._event, repeat(index), texts)
        self.hits += len(texts)
        return b"\n".join(lines[2 * len(texts) :])

    def _learn_frame(self, payload: bytes, read: int) -> _Frame:
        """Learn the bytes around the delta of a plain event. `read` counts events that are not yet in `hits`.

        Each frame that is hardly used costs a try. After the last try the reader decodes whole events.
        """
        hits = self.hits + read
        self._tries = self._tries - 1 if hits < self._learnt_at + _HITS_OF_A_FRAME else _FRAME_TRIES
        self._learnt_at = hits
        delta = bytes(_decode_written(payload).choices[0].delta)
        self.reads_bytes = self._tries > 0 and payload.count(delta) == 1 and _LINE_FEED not in payload
        before, _, after = payload.partition(delta) if self.reads_bytes else (b"", b"", b"")
        self._frame = _Frame(before, after, len(before) + len(after))
        before, after = b"data: " + before, after + _BLANK_LINE
        self._line = _Frame(before, after, len(before) + len(after))
        self._large = 2 * len(payload)
        return self._frame


class LeanLearner:
    """Creates the readers of one response, for the fields that its deltas have had."""

    def __init__(self, kept: KeptFields) -> None:
        self._kept = kept
        self._fields: dict[str, None] = {}

    def learn(self, payload: bytes, growing: OpenTarget) -> LeanReader | None:
        """Return a reader of events like `payload`, or None. `payload` was decoded in full and made a block
        grow."""
        delta = _delta_of(payload)
        self._fields |= dict.fromkeys(delta)
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
        if not isinstance(position, int):
            return None
        decoders = _decoders("tool_calls", shapes, position)
        found = _text_in(decoders, payload)
        is_plain = bool(found) and bool(found[0].function.arguments)
        return LeanReader(decoders, ToolInputDelta, growing, payload) if is_plain else None

    def _shapes(self) -> Shapes | None:
        """Return the shapes of the fields without an effect, or None if a field always may have one."""
        shapes = {field: self._shape_of(field) for field in self._fields}
        return None if "" in shapes.values() else tuple(shapes.items())

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


def _text_in(decoders: _Decoders, payload: bytes) -> Any:
    try:
        return decoders.event(payload).choices[0].delta.text
    except (ValueError, RecursionError):
        return None


@lru_cache(maxsize=256)
def _decoders(text: str, shapes: Shapes, position: int | None) -> _Decoders:
    """Return the decoders of chunks with their text in the field `text` and other fields of these shapes.

    `position` is the required index of a call's fragment; None for text.
    """
    base = _TEXT_BASES[text] if position is None else _base("tool_calls", tuple[_fragment_at(position)])
    copies = _THINKING if text.startswith("reasoning") else _NO_THINKING
    delta = {key: _type_of(key, shape, copies) for key, shape in shapes if key != text}
    answer = struct_of("LeanDelta", delta, base=base)
    choice = msgspec.defstruct("LeanChoice", [("delta", answer)], bases=(_Choice,), gc=False, kw_only=True)
    chunk = msgspec.defstruct(
        "LeanChunk", [("choices", tuple[choice])], bases=(_Chunk,), gc=False, kw_only=True
    )
    return _Decoders(msgspec.json.Decoder(chunk).decode, msgspec.json.Decoder(answer).decode)


def _type_of(key: str, shape: Shape, thinking: dict[str, Any]) -> Any:
    """Return the type of a field. `thinking` has the types of the fields that repeat thinking."""
    if key == "provider_specific_fields" and isinstance(shape, tuple):
        fields = {name: type_of(inner) for name, inner in shape}
        return struct_of("LeanFields", {**fields, **thinking}) | None
    if shape == "blank":
        return _Blank
    return thinking[THINKING_BLOCKS] if shape == "entries" else type_of(shape)
