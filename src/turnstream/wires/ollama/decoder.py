"""Decodes Ollama's streams, from bytes to StreamEvents.

The message ends with the line that has `"done": true`. A body without it is incomplete. The wire has no block
boundaries: a text or thinking block begins when the kind of content changes.
"""

from __future__ import annotations

from itertools import count
from typing import Literal, TypeAlias

from turnstream.core.admission import has_brackets
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    Metadata,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from turnstream.errors import MalformedEvent, StreamBroken
from turnstream.wires.base import DEFAULT_EVENT_LIMIT
from turnstream.wires.ollama.calls import OllamaCalls
from turnstream.wires.ollama.errors import ERRORS
from turnstream.wires.ollama.lines import (
    IndentedJson,
    Line,
    LineDecoder,
    LineMessage,
    counts,
    decode_loosely,
    decode_typed,
    decoder_with,
    leftovers,
    read_line,
)
from turnstream.wires.ollama.messages import image_content
from turnstream.wires.ollama.repetition import Repetition
from turnstream.wires.ollama.usage import parse_ending, read_counts
from turnstream.wires.shared.answer_stream import AnswerStream
from turnstream.wires.shared.endings import stop_event
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.kept_fields import NOISE, KeptFields, shape_of
from turnstream.wires.shared.lenient_json import EVENT_NESTING_LIMIT
from turnstream.wires.shared.reported_errors import ReportedError

_Kind: TypeAlias = Literal["text", "thinking"]

_NOTHING = LineMessage()


class OllamaDecoder(AnswerStream):
    """Decodes one response."""

    END = "a line that is done"

    def __init__(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> None:
        super().__init__(event_limit=event_limit, on_malformed=on_malformed)
        self._lines = LineDecoder(limit=event_limit)
        self._indented = IndentedJson(limit=event_limit)
        self._started = False
        self._is_usual = False
        """True if a line may be decoded as more content.

        The message has begun and has not ended, and no object spans several lines.
        """
        self._seed = ""
        self._kind: _Kind | None = None
        self._has_output = False
        self._index = 0
        self._indexes = count()
        self._calls = OllamaCalls(self._indexes)
        self._text, self._thinking = Repetition(), Repetition()
        self._counts: JsonObject = {}
        self._kept = KeptFields()
        self._decode = decode_typed

    def feed(self, data: bytes) -> list[StreamEvent]:
        """See `Decoder.feed`."""
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        try:
            for line in self._lines.feed(data):
                self._take_line(line, events)
        except StreamBroken as failure:
            self._failure = failure
            if not events:
                raise
        return events

    def _take_rest(self, events: list[StreamEvent]) -> None:
        if line := self._lines.close():
            try:
                self._take_line(line, events)
            except MalformedEvent:
                # the body was cut inside a line: its earlier lines decide whether the message has ended
                events.clear()

    def _take_line(self, data: bytes, events: list[StreamEvent]) -> None:
        value: JsonObject | None = None
        try:
            if len(data) > 2 * EVENT_NESTING_LIMIT and has_brackets(data, EVENT_NESTING_LIMIT):
                value = read_line(data)  # raises if the nesting is too deep
            try:
                line = self._decode(data)
            except (ValueError, RecursionError):
                if (whole := self._whole_object(data, events)) is None:
                    return
                value = read_line(whole) if value is None or whole is not data else value
                line = decode_loosely(value)
            if (self._is_usual and line.message is not None and not line.done and not line.error) or (
                self._is_usual and line.response and not line.done and not line.error
            ):
                self._take_message(line, events)
            else:
                self._take_unusual(line, read_line(data) if value is None else value, events)
        except MalformedEvent as failure:
            self._refuse(failure, events)

    def _whole_object(self, line: bytes, events: list[StreamEvent]) -> bytes | None:
        """Return the bytes to decode as one line: `line`, or the object over several lines that it completes.

        None for text that reports an error, and for a part of such an object. Raises MalformedEvent.
        """
        if line == b"{" or (self._indented.lines and not line.startswith(b"{")):
            self._is_usual = False
            return self._indented.take(line)
        if line.startswith(b"{") or (reported := ERRORS.read(self._unframed.take(line))) is None:
            return line
        self._fail(reported, events)
        return None

    def _fail(self, reported: ReportedError, events: list[StreamEvent]) -> None:
        if not self._is_over:
            self._is_over, self._is_usual, self._failed = True, False, True
            events.append(ERRORS.stream_error(reported))
        elif not self._failed:
            events.extend(self._late.notice())

    def _take_unusual(self, line: Line, value: JsonObject, events: list[StreamEvent]) -> None:
        """Decode the first line, the last, an error, or a line after the end."""
        if self._indented.lines:
            self._indented = IndentedJson(limit=self._event_limit)
            self._refuse(MalformedEvent("a line is not JSON"), events)
        if self._is_over:
            self._take_counts(value, events)
            if not self._failed and (
                line.error
                or ((message := line.message) is not None and (message.content or message.tool_calls))
            ):
                events.extend(self._late.notice())
            return
        reported: ReportedError | None = None
        if line.error or (line.message is None and not line.done):
            reported = ERRORS.read(value)
        if reported is not None:
            self._fail(reported, events)
            return
        if not self._started and (line.model or line.message is not None or line.done):
            self._started = True
            self._seed = f"{line.model}:{line.created_at}"
            events.append(MessageStart(None, line.model or None))
            if not line.done:
                self._take_leftovers(value, events)
        self._is_usual = self._started
        self._take_message(line, events)
        if line.done:
            self._end_message(line, value, events)

    def _take_message(self, line: Line, events: list[StreamEvent]) -> None:
        message = line.message or _NOTHING
        thinking, text = message.thinking or line.thinking, message.content or line.response
        if line.done:
            thinking, text = self._thinking.new_in(thinking or ""), self._text.new_in(text or "")
        if thinking:
            self._thinking.add(thinking)
            if self._kind != "thinking":
                self._enter("thinking", events)
            events.append(ThinkingDelta(self._index, thinking))
        if text:
            self._text.add(text)
            if self._kind != "text":
                self._enter("text", events)
            events.append(TextDelta(self._index, text))
        if message.images:
            self._take_images(message.images, events)
        if calls := message.tool_calls:
            for call in self._calls.new_in(calls) if line.done else calls:
                self._leave(events)
                self._calls.take(call, self._seed, events)
        if message.extras:
            self._take_extras(message.extras, events)

    def _take_extras(self, extras: JsonObject, events: list[StreamEvent]) -> None:
        """Report the first value of each field that only this server sends.

        Later lines with these fields use the typed decoder.
        """
        if self._kept.keep(extras, events):
            events.append(Metadata(provider_metadata={"message": dict(self._kept.values)}))
        shapes = {key: shape_of(key, self._kept) for key in self._kept.values}
        shapes |= dict.fromkeys(NOISE, "any")
        if "" not in shapes.values():
            self._decode = decoder_with(tuple(sorted(shapes.items())))

    def _take_images(self, images: list[str], events: list[StreamEvent]) -> None:
        for image in images:
            self._has_output = True
            self._leave(events)
            index = next(self._indexes)
            events.extend((ContentBlockStart(index, "image", image_content(image)), ContentBlockStop(index)))

    def _enter(self, kind: _Kind, events: list[StreamEvent]) -> None:
        """Begin a text or thinking block."""
        self._leave(events)
        self._kind = kind
        self._has_output = self._has_output or kind == "text"
        self._index = next(self._indexes)
        events.append(ContentBlockStart(self._index, kind))

    def _leave(self, events: list[StreamEvent]) -> None:
        """Stop the open text or thinking block."""
        if self._kind is not None:
            events.append(ContentBlockStop(self._index))
            self._kind = None

    def _end_message(self, line: Line, value: JsonObject, events: list[StreamEvent]) -> None:
        self._is_over, self._is_usual = True, False
        self._leave(events)
        self._take_leftovers(value, events)
        self._take_counts(value, events)
        raw = line.done_reason or None
        ending = parse_ending(raw, called=bool(self._calls))
        stop = stop_event(ending, raw, has_output=self._has_output or bool(self._calls))
        self._failed = type(stop) is StreamError
        events.append(stop)

    def _take_leftovers(self, value: JsonObject, events: list[StreamEvent]) -> None:
        if found := leftovers(value):
            events.append(Metadata(provider_metadata=found))

    def _take_counts(self, value: JsonObject, events: list[StreamEvent]) -> None:
        found = counts(value)
        if found and found != self._counts:
            self._counts = found
            events.append(read_counts(found))
