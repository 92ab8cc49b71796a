"""Fast path for the plain events that make up nearly all of a stream.

A provider repeats the same JSON around every token: two plain events of one block differ only in one string
and, with some vendors, in padding at the end. A template holds the bytes around that string, learned from an
event that was decoded in full. An event with the same bytes around exactly one JSON string has the same
meaning, with that string. Every other event is decoded in full, and the template is discarded: a template is
never used in another state of the message than the one it was learned in.

Measured on events of 280 bytes, without framing: 0.3 µs an event, against 2.0 µs in full.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from turnstream.core.sse import ServerSentEvent
from turnstream.core.stream_events import StreamEvent, TextDelta, ThinkingDelta, ToolInputDelta
from turnstream.errors import MalformedEvent
from turnstream.wires.openai_chat.chunks import ABSENT, Chunk, Delta, FunctionDelta, decode_typed
from turnstream.wires.openai_chat.extras import CONTENT
from turnstream.wires.openai_chat.loose import decode_loosely
from turnstream.wires.openai_chat.thinking_blocks import THINKING_FIELDS
from turnstream.wires.shared.json_values import read_json

DeltaEvent: TypeAlias = type[TextDelta] | type[ThinkingDelta] | type[ToolInputDelta]

_TEXT_FIELDS: dict[str, DeltaEvent] = {
    "content": TextDelta,
    "reasoning_content": ThinkingDelta,
    "reasoning": ThinkingDelta,
}
_PADDING = re.compile(rb',"(?:obfuscation|p)":"[A-Za-z0-9]*"\}\Z')
_PADDING_LETTERS = (string.ascii_letters + string.digits).encode()
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')

_decode_string = msgspec.json.Decoder(str).decode


class OpenTarget(NamedTuple):
    """Target of plain events: the index of an open block, and its list of texts if they are kept."""

    block_index: int
    texts: list[str] | None = None


class Template:
    """The bytes around the text of a block's plain events. `hits` is the number of events that were read."""

    __slots__ = ("_after", "_around", "_before", "_event", "_growing", "_padded", "hits")

    def __init__(
        self, before: bytes, after: bytes, padding: bytes, event: DeltaEvent, growing: OpenTarget
    ) -> None:
        self._before = before
        self._padded = bool(padding)
        self._after = after[:-1] + padding if padding else after
        self._around = len(self._before) + len(self._after)
        self._event = event
        self._growing = growing
        self.hits = 0

    @property
    def block_index(self) -> int:
        return self._growing.block_index

    def read(self, frames: Sequence[ServerSentEvent], position: int, events: list[StreamEvent]) -> int:
        """Append the events of plain `frames` from `position` on. Return the position of the first other
        frame."""
        before, after, around = self._before, self._after, self._around
        (index, texts), event = self._growing, self._event
        first, total = position, len(frames)
        while position < total:
            name, payload, _ = frames[position]
            if self._padded:
                payload = _without_padding(payload, after)
            value = payload.removeprefix(before).removesuffix(after)
            if name is not None or len(value) + around != len(payload):
                break
            try:
                text = _decode_string(value)
            except ValueError:
                break
            if not text:
                break
            if texts is not None:
                texts.append(text)
            events.append(event(index, text))
            position += 1
        self.hits += position - first
        return position


def _without_padding(payload: bytes, lead: bytes) -> bytes:
    """Return a payload without the padding after the last `lead`, or nothing if it has none."""
    start = payload.rfind(lead) + len(lead)
    return payload[:start] if payload[start:].lstrip(_PADDING_LETTERS) == b'"}' else b""


def learn_template(payload: bytes, chunk: Chunk, growing: OpenTarget) -> Template | None:
    """Return the template of an event, or None if it is not a plain event.

    Args:
        payload: The event.
        chunk: Its decoded form.
        growing: Target of its text.
    """
    found = _only_string(chunk)
    if found is None:
        return None
    owner, field, event = found
    body, padding = payload, b""
    if (match := _PADDING.search(payload)) is not None:
        body = payload[: match.start()] + b"}"
        padding = match[0][: match[0].index(b':"') + 2]
    for key in re.finditer(rb'"%b":\s*(?=")' % field.encode(), body):
        text = _STRING.match(body, key.end())
        if text is None:
            continue
        before, after = body[: text.start()], body[text.end() :]
        if _is_between(before, after, chunk, getattr(owner, field)):
            return Template(before, after, padding, event, growing)
    return None


def _only_string(chunk: Chunk) -> tuple[Delta | FunctionDelta, str, DeltaEvent] | None:
    """Return the one string of a chunk as its owner, field and event class, or None if the chunk has other
    content."""
    if not chunk.choices or len(chunk.choices) != 1 or (delta := chunk.choices[0].delta) is None:
        return None
    choice = chunk.choices[0]
    effects = (
        chunk.usage, chunk.error, chunk.x_groq, choice.finish_reason, choice.usage, choice.error,
        delta.reasoning_details, delta.refusal, delta.annotations, delta.function_call, delta.signature,
        delta.thinking_blocks, delta.extras and delta.extras.keys() & CONTENT,
    )  # fmt: skip
    extra = delta.provider_specific_fields or {}
    if any(extra.get(name) for name in THINKING_FIELDS):
        return None
    if any(effects) or chunk.citations is not ABSENT or chunk.search_results is not ABSENT:
        return None
    fields = [field for field in _TEXT_FIELDS if getattr(delta, field)]
    if len(fields) == 1 and not delta.tool_calls:
        return delta, fields[0], _TEXT_FIELDS[fields[0]]
    if fields or not delta.tool_calls or len(delta.tool_calls) != 1:
        return None
    call = delta.tool_calls[0]
    if call.function is None or call.id or call.function.name or not call.function.arguments:
        return None
    return call.function, "arguments", ToolInputDelta


def _decode(payload: bytes) -> Chunk:
    try:
        return decode_typed(payload)
    except (ValueError, RecursionError):
        return decode_loosely(read_json(payload), None)


def _is_between(before: bytes, after: bytes, chunk: Chunk, text: str) -> bool:
    """Return True if another string between `before` and `after` changes only the one string of the chunk."""
    other = "another" if text != "another" else "other"
    try:
        probe = _decode(b'%b"%b"%b' % (before, other.encode(), after))
    except (ValueError, RecursionError, MalformedEvent):
        return False
    found = _only_string(probe)
    if found is None or getattr(found[0], found[1]) != other:
        return False
    setattr(found[0], found[1], text)
    return probe == chunk
