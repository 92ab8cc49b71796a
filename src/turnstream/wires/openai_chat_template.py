"""A short cut for the plain events that make up nearly all of a stream.

A provider repeats the same JSON around every token: two plain events of one message differ only in one string, and,
with some vendors, in padding at the end. A template holds the bytes around that string. Where an event begins and ends
with them, what is between is all that can differ; if that is exactly one JSON string, the event means what the one
meant from which the template was learnt, with that string. Everything else is decoded in full.

Measured on events of 290 bytes: 0.25 µs, against 0.9 in full.
"""

from __future__ import annotations

import re

import msgspec

from turnstream.core.stream_events import StreamEvent, TextDelta, ThinkingDelta
from turnstream.wires.openai_chat_chunks import ABSENT, Chunk, decode_typed

_FIELDS: dict[str, type[TextDelta] | type[ThinkingDelta]] = {
    "content": TextDelta,
    "reasoning_content": ThinkingDelta,
    "reasoning": ThinkingDelta,
}
_PADDING = re.compile(rb',"(?:obfuscation|p)":"[A-Za-z0-9]*"\}\Z')
_PROBE = "\x01probe"

_decode_string = msgspec.json.Decoder(str).decode
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


class Template:
    """The bytes around the text of one stream's plain events. `event` makes the event of such a text."""

    __slots__ = ("_before", "_length_before", "_marker", "_padded", "event")

    def __init__(self, before: bytes, after: bytes, padding: bytes, event: type[TextDelta] | type[ThinkingDelta]) -> None:
        self._before = before
        self._length_before = len(before)
        self._padded = bool(padding)
        self._marker = after[:-1] + padding if padding else after
        self.event = event

    def read(self, payload: bytes) -> str | None:
        """The text, if `payload` is such an event, else None."""
        if not payload.startswith(self._before):
            return None
        if self._padded:
            end = payload.rfind(self._marker, self._length_before)
            if end < 0 or not _is_padding(payload[end + len(self._marker) :]):
                return None
        elif payload.endswith(self._marker):
            end = len(payload) - len(self._marker)
        else:
            return None
        try:
            return _decode_string(payload[self._length_before : end])
        except ValueError:
            return None


def learn_template(payload: bytes, chunk: Chunk) -> Template | None:
    """The template of `payload`, whose decoded form is `chunk`, or None where it is not a plain event."""
    field = _only_text(chunk)
    if field is None:
        return None
    body, padding = payload, b""
    if (match := _PADDING.search(payload)) is not None:
        body = payload[: match.start()] + b"}"
        padding = match[0][: match[0].index(b':"') + 2]
    for key in re.finditer(rb'"%b":\s*(?=")' % field.encode(), body):
        text = _STRING.match(body, key.end())
        if text is not None and _carries(body[: text.start()], body[text.end() :], chunk, field):
            return Template(body[: text.start()], body[text.end() :], padding, _FIELDS[field])
    return None


def _only_text(chunk: Chunk) -> str | None:
    """The name of the field that is all that a chunk brings, if there is one."""
    choices = chunk.choices
    if not choices or len(choices) != 1 or (delta := choices[0].delta) is None:
        return None
    fields = [name for name in _FIELDS if getattr(delta, name)]
    effects = (
        chunk.usage, chunk.error, chunk.x_groq, choices[0].finish_reason, choices[0].usage, choices[0].error,
        delta.tool_calls, delta.reasoning_details, delta.refusal, delta.annotations, delta.function_call, delta.extras,
    )  # fmt: skip
    if len(fields) != 1 or any(effects) or chunk.citations is not ABSENT or chunk.search_results is not ABSENT:
        return None
    return fields[0]


def _carries(before: bytes, after: bytes, chunk: Chunk, field: str) -> bool:
    """Whether another string between `before` and `after` changes this field of the chunk, and nothing else."""
    probe = decode_typed(before + b'"\\u0001probe"' + after)
    delta = probe.choices[0].delta if probe.choices else None
    original = chunk.choices[0].delta if chunk.choices else None
    if delta is None or original is None or getattr(delta, field) != _PROBE:
        return False
    setattr(delta, field, getattr(original, field))
    return probe == chunk


def _is_padding(tail: bytes) -> bool:
    return tail.endswith(b'"}') and (len(tail) == 2 or tail[:-2].isalnum())
