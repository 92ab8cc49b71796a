"""Ollama's NDJSON: splits bytes into lines, and decodes a line.

Almost every line is decoded straight into these structs. A line with an unusual value (a field of another
type, an unknown field of the message, a lone surrogate) is decoded loosely, which accepts more and costs
more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from turnstream.errors import EventTooLarge, MalformedEvent
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, read_json
from turnstream.wires.shared.kept_fields import Shapes, struct_of, type_of
from turnstream.wires.shared.lenient_json import encode_json, replace_surrogates
from turnstream.wires.shared.thoughts import read_thought

ABSENT = msgspec.Raw()
EXTRAS = "(extras)"
"""Encoded name of the field for unknown fields. No server sends it."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANK = b" \t\r"
_LINE_FEED = 0x0A


class LineDecoder:
    """Splits one response body into lines.

    Args:
        limit: Largest number of bytes in one line.
    """

    __slots__ = ("_at_begin", "_limit", "_rest")

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._at_begin = True

    def feed(self, data: bytes) -> Iterable[bytes]:
        """Return the lines that `data` completes, without blank ones.

        Iterating over them raises EventTooLarge if the next line is too long.
        """
        line = data.removesuffix(b"\n")
        if (
            len(line) < len(data) <= self._limit
            and not self._rest
            and not self._at_begin
            and _LINE_FEED not in line
        ):  # the data is exactly one line
            stripped = line.strip(_BLANK)
            return (stripped,) if stripped else ()
        return self._cut(data)

    def _cut(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that any `data` completes."""
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
        """Return the last line if it lacks its line end, else b""."""
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
    """Joins an object that a proxy wrote over several lines. Its first line is a single brace.

    Args:
        limit: Bytes that the object may have.
    """

    __slots__ = ("_depth", "_limit", "_size", "lines")

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._depth = 0
        self.lines: list[bytes] = []

    def take(self, line: bytes) -> bytes | None:
        """Return the object if `line` completes it, else None.

        Raises EventTooLarge if the object exceeds the limit.
        """
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
    """The function of a call.

    `arguments` is a JSON object. Some compatible servers send a string that contains one.
    """

    name: str | None = None
    arguments: msgspec.Raw = ABSENT
    index: int | None = None


class Call(msgspec.Struct, gc=False):
    """A tool call.

    `name` and `arguments` are here for compatible servers that omit the function or a part of it.
    """

    id: str | None = None
    function: FunctionCall | None = None
    name: str | None = None
    arguments: msgspec.Raw = ABSENT


class LineMessage(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The message of a line. `extras`, never sent under this name, holds the unknown fields."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None
    images: list[str] | None = None
    role: Any = None
    tool_name: Any = None
    tool_call_id: Any = None
    extras: JsonObject | None = msgspec.field(default=None, name=EXTRAS)


class Line(msgspec.Struct, gc=False):
    """A line of `/api/chat`, or of `/api/generate`, which has `response` and `thinking`, and no message."""

    message: LineMessage | None = None
    done: bool | None = None
    model: str | None = None
    created_at: str | None = None
    done_reason: str | None = None
    response: str | None = None
    thinking: str | None = None
    error: Any = None


decode_typed = msgspec.json.Decoder(Line).decode
"""Decodes a line quickly. Raises ValueError or RecursionError if it needs `decode_loosely`."""


@lru_cache(maxsize=64)
def decoder_with(shapes: Shapes) -> Callable[[bytes], Line]:
    """Return a typed decoder for lines whose message also has extra fields of these shapes."""
    message_type: Any = struct_of(
        "ExtendedLineMessage", {key: type_of(shape) for key, shape in shapes}, base=LineMessage
    )
    line: Any = msgspec.defstruct(
        "LineWithMore", [("message", message_type | None, None)], bases=(Line,), gc=False
    )
    return msgspec.json.Decoder(line).decode


_KNOWN_OF_A_LINE = frozenset(field.encode_name for field in msgspec.structs.fields(Line)) | {"logprobs"}
_KNOWN_OF_A_MESSAGE = frozenset(field.encode_name for field in msgspec.structs.fields(LineMessage))
_REASONING = ("thinking", "reasoning", "reasoning_content")
"""Fields of a message in which compatible servers send thinking."""
_COUNTED = ("_count", "_duration")


def read_line(data: bytes) -> JsonObject:
    """Return a line as parsed JSON. Raises MalformedEvent if it is not an object, or is nested too deeply."""
    value = read_json(data)
    if not is_object(value):
        raise MalformedEvent("a line is not a JSON object", detail=data[:200].decode("utf-8", "replace"))
    return value


def decode_loosely(value: JsonObject) -> Line:
    """Return a line from parsed JSON. Its fields may have any type."""
    raw = value.get("message")
    done = value.get("done")
    return Line(
        message=_decode_message(raw) if is_object(raw) else None,
        done=done if isinstance(done, bool) else None,
        model=_repaired_text(value.get("model")),
        created_at=_repaired_text(value.get("created_at")),
        done_reason=_repaired_text(value.get("done_reason")),
        response=_text(value.get("response")),
        thinking=read_thought(value.get("thinking")).text or None,
        error=replace_surrogates(value.get("error")),
    )


def counts(value: JsonObject) -> JsonObject:
    """Return a line's token counts, and its durations in nanoseconds, as they were sent."""
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
    return replace_surrogates(found)


def _decode_message(raw: JsonObject) -> LineMessage:
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
        extras=replace_surrogates(extras) or None,
    )


def _call(raw: JsonObject) -> Call:
    function = raw.get("function")
    if not is_object(function):
        function = {"name": raw.get("name"), "arguments": raw.get("arguments")}
    arguments, index = function.get("arguments"), function.get("index")
    return Call(
        _repaired_text(raw.get("id")),
        FunctionCall(
            _repaired_text(function.get("name")),
            ABSENT if arguments is None else msgspec.Raw(encode_json(arguments)),
            index if isinstance(index, int) and not isinstance(index, bool) else None,
        ),
        _repaired_text(raw.get("name")),
    )


def _text(value: Any) -> str | None:
    """Return text unchanged, with half of a surrogate pair: the next line may have the other half."""
    return value if isinstance(value, str) else None


def _repaired_text(value: Any) -> str | None:
    return replace_surrogates(value) if isinstance(value, str) else None
