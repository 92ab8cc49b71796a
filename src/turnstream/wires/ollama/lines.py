"""Ollama's NDJSON: bytes into lines, and a line into what it says.

Nearly every line takes the typed way, straight into these structs. What surprises it (a field of another type, a field of
the message that nobody announced, half a surrogate pair) takes the loose one, which understands more and costs more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from turnstream.errors import EventTooLarge, MalformedEvent
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, read_json
from turnstream.wires.shared.kept_fields import Shapes, struct_of, type_of
from turnstream.wires.shared.lenient_json import encode_json, mend_surrogates
from turnstream.wires.shared.thoughts import read_thought

ABSENT = msgspec.Raw()
EXTRAS = "(extras)"
"""The name of the field for unknown fields: one that nobody sends."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANK = b" \t\r"
_LINE_FEED = 0x0A


class LineDecoder:
    """Cuts one response body into lines. `limit`: the bytes that one line may have."""

    __slots__ = ("_at_begin", "_limit", "_rest")

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._at_begin = True

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The lines that `data` completes, blank ones left out. Going through them raises EventTooLarge where the next is
        too long."""
        line = data.removesuffix(b"\n")
        if (
            len(line) < len(data) <= self._limit
            and not self._rest
            and not self._at_begin
            and _LINE_FEED not in line
        ):  # a read that is exactly one line
            stripped = line.strip(_BLANK)
            return (stripped,) if stripped else ()
        return self._cut(data)

    def _cut(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes, whatever is in it."""
        *whole, last = data.split(b"\n")
        if whole and self._rest:
            whole[0] = bytes(self._rest) + whole[0]
            self._rest.clear()
        self._rest += last
        for line in whole:
            self._check(len(line))
            if stripped := self._stripped(line):
                yield stripped
        self._check(len(self._rest))

    def close(self) -> bytes:
        """The last line, whose end never came; empty where there is none."""
        return self._stripped(bytes(self._rest))

    def _stripped(self, line: bytes) -> bytes:
        if self._at_begin:
            self._at_begin = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return line.strip(_BLANK)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise EventTooLarge(f"a line has more than {self._limit} bytes", retryable=False)


class IndentedJson:
    """Joins an object that a proxy wrote over many lines: its first line is a brace alone. `limit`: bytes."""

    __slots__ = ("_depth", "_limit", "_size", "lines")

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._depth = 0
        self.lines: list[bytes] = []

    def take(self, line: bytes) -> bytes | None:
        """Return the object if `line` is its last, else None. Raises EventTooLarge."""
        self._size += len(line)
        if self._size > self._limit:
            raise EventTooLarge(f"an object has more than {self._limit} bytes", retryable=False)
        self.lines.append(line)
        self._depth += line.endswith((b"{", b"[")) - line.startswith((b"}", b"]"))
        if self._depth > 0:
            return None
        whole = b"\n".join(self.lines)
        self.lines.clear()
        self._size = self._depth = 0
        return whole


class FunctionCall(msgspec.Struct, gc=False):
    """`arguments` is a JSON object; with some look-alikes a string that holds one."""

    name: str | None = None
    arguments: msgspec.Raw = ABSENT
    index: int | None = None


class Call(msgspec.Struct, gc=False):
    """`name` and `arguments` stand here with look-alikes that write no function, or only a part of it."""

    id: str | None = None
    function: FunctionCall | None = None
    name: str | None = None
    arguments: msgspec.Raw = ABSENT


class LineMessage(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A line's message. `extras` (never sent under this name) holds the fields that nothing else knows."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None
    images: list[str] | None = None
    role: Any = None
    tool_name: Any = None
    tool_call_id: Any = None
    extras: JsonObject | None = msgspec.field(default=None, name=EXTRAS)


class Line(msgspec.Struct, gc=False):
    """A line of `/api/chat`, or of `/api/generate`, which has `response` and `thinking` instead of a message."""

    message: LineMessage | None = None
    done: bool | None = None
    model: str | None = None
    created_at: str | None = None
    done_reason: str | None = None
    response: str | None = None
    thinking: str | None = None
    error: Any = None


decode_typed = msgspec.json.Decoder(Line).decode
"""The fast way. Raises ValueError or RecursionError where the loose one must be tried."""


@lru_cache(maxsize=64)
def decoder_with(shapes: Shapes) -> Callable[[bytes], Line]:
    """Return a fast way for lines whose message has extra fields of these shapes too."""
    said: Any = struct_of("SaidMore", {key: type_of(shape) for key, shape in shapes}, base=LineMessage)
    line: Any = msgspec.defstruct("LineWithMore", [("message", said | None, None)], bases=(Line,), gc=False)
    return msgspec.json.Decoder(line).decode


_KNOWN_OF_A_LINE = frozenset(field.encode_name for field in msgspec.structs.fields(Line)) | {"logprobs"}
_KNOWN_OF_A_MESSAGE = frozenset(field.encode_name for field in msgspec.structs.fields(LineMessage))
_REASONING = ("thinking", "reasoning", "reasoning_content")
"""Fields of a message that look-alikes have their thinking in."""
_COUNTED = ("_count", "_duration")


def read_line(data: bytes) -> JsonObject:
    """A line as parsed JSON. Raises MalformedEvent for what is no object, or nested absurdly."""
    value = read_json(data)
    if not is_object(value):
        raise MalformedEvent("a line is not a JSON object", detail=data[:200].decode("utf-8", "replace"))
    return value


def decode_loosely(value: JsonObject) -> Line:
    """A line out of parsed JSON, whatever types its fields have."""
    raw = value.get("message")
    done = value.get("done")
    return Line(
        message=_said(raw) if is_object(raw) else None,
        done=done if isinstance(done, bool) else None,
        model=_mended_text(value.get("model")),
        created_at=_mended_text(value.get("created_at")),
        done_reason=_mended_text(value.get("done_reason")),
        response=_text(value.get("response")),
        thinking=read_thought(value.get("thinking")).text or None,
        error=mend_surrogates(value.get("error")),
    )


def counts(value: JsonObject) -> JsonObject:
    """A line's counts of tokens and durations in nanoseconds, as they were sent."""
    return {
        key: number
        for key, number in value.items()
        if key.endswith(_COUNTED) and isinstance(number, int | float)
    }


def leftovers(value: JsonObject) -> JsonObject:
    """Return the fields that a server adds to the answer."""
    found = {
        key: item
        for key, item in value.items()
        if key not in _KNOWN_OF_A_LINE and not key.endswith(_COUNTED) and item not in (None, "", [], {})
    }
    return mend_surrogates(found)


def _said(raw: JsonObject) -> LineMessage:
    calls, images = raw.get("tool_calls"), raw.get("images")
    extras = {
        key: item
        for key, item in raw.items()
        if key not in _KNOWN_OF_A_MESSAGE and key not in _REASONING and item not in (None, "", [], {})
    }
    content, thoughts = raw.get("content"), [raw.get(name) for name in _REASONING]
    thinking = next((text for value in thoughts if (text := _text(value) or read_thought(value).text)), None)
    return LineMessage(
        content=_text(content) or read_thought(content).text or None,
        thinking=thinking,
        tool_calls=[_call(call) for call in calls if is_object(call)] if is_list(calls) else None,
        images=[image for image in images if isinstance(image, str)] if is_list(images) else None,
        extras=mend_surrogates(extras) or None,
    )


def _call(raw: JsonObject) -> Call:
    function = raw.get("function")
    if not is_object(function):
        function = {"name": raw.get("name"), "arguments": raw.get("arguments")}
    arguments, index = function.get("arguments"), function.get("index")
    return Call(
        _mended_text(raw.get("id")),
        FunctionCall(
            _mended_text(function.get("name")),
            ABSENT if arguments is None else msgspec.Raw(encode_json(arguments)),
            index if isinstance(index, int) and not isinstance(index, bool) else None,
        ),
        _mended_text(raw.get("name")),
    )


def _text(value: Any) -> str | None:
    """Text as it came, halves of surrogate pairs included: the next line may bring the other."""
    return value if isinstance(value, str) else None


def _mended_text(value: Any) -> str | None:
    return mend_surrogates(value) if isinstance(value, str) else None
