"""Decodes chat.completions bytes into StreamEvents.

The message ends with `[DONE]`, or with the body if a finish_reason has arrived. Only then `MessageStop` is
emitted, once: a vendor may send more after its finish_reason. Without both, the stream is incomplete.
"""

from __future__ import annotations

from typing import Literal

from turnstream.core.admission import has_brackets
from turnstream.core.sse import SseDecoder
from turnstream.core.sse_frames import UNFRAMED
from turnstream.core.stream_events import StreamError, StreamEvent, StreamNotice
from turnstream.errors import MalformedEvent, StreamBroken
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Finish
from turnstream.wires.openai_chat.block_builder import BlockBuilder
from turnstream.wires.openai_chat.choices import ChoicePicker
from turnstream.wires.openai_chat.chunks import (
    ABSENT,
    Choice,
    Chunk,
    Delta,
    decode_typed,
    error_in,
    has_fields,
)
from turnstream.wires.openai_chat.facts import AnswerFacts
from turnstream.wires.openai_chat.lean import LeanReader
from turnstream.wires.openai_chat.lean_learner import LeanLearner
from turnstream.wires.openai_chat.loose import MessageTexts, decode_loosely
from turnstream.wires.openai_chat.stop_reasons import failed_finish, parse_ending
from turnstream.wires.openai_chat.template import Template, learn_template
from turnstream.wires.shared.answer_stream import AnswerStream
from turnstream.wires.shared.endings import stop_event
from turnstream.wires.shared.json_values import JsonObject, is_object, read_json
from turnstream.wires.shared.lenient_json import EVENT_NESTING_LIMIT
from turnstream.wires.shared.openai_errors import ERRORS
from turnstream.wires.shared.reported_errors import ReportedError, unexplained_words
from turnstream.wires.shared.unframed_text import names_failure

_DONE = b"[DONE]"
_TEMPLATE_TRIES = 8


class OpenAIChatDecoder(AnswerStream):
    """Decodes one response."""

    END = "a finish_reason or [DONE]"

    def __init__(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> None:
        super().__init__(event_limit=event_limit, on_malformed=on_malformed)
        self._frames = SseDecoder(event_limit=event_limit, loose=True)
        self._reads_bytes = False
        self._blocks = BlockBuilder(raw_limit=event_limit)
        self._finish_reason: str | None = None
        self._facts = AnswerFacts()
        self._picker = ChoicePicker()
        self._messages = MessageTexts()
        self._lean = LeanLearner(self._blocks.extras.fields)
        self._doubted_index: int | None = None
        self._failed_index: int | None = None
        self._template: Template | LeanReader | None = None
        self._template_tries = 0

    @property
    def finish(self) -> Finish | None:
        """See `Decoder.finish`. Set once a finish_reason has arrived."""
        if self._is_over:
            return None
        if self._finish_reason is not None:
            return "certain"
        return "likely" if self._picker.holds_end else None

    def feed(self, data: bytes) -> list[StreamEvent]:
        """See `Decoder.feed`."""
        events: list[StreamEvent] = []
        try:
            if self._reads_bytes and not (data := self._read_bytes(data, events)):
                return events
            frames = self._frames.feed(data)
            position = 0
            while position < len(frames):
                if self._template is not None:
                    position = self._template.read(frames, position, events)
                    if position == len(frames):
                        break
                name, payload, _ = frames[position]
                self._take_frame(name, payload, events)
                position += 1
        except StreamBroken as failure:
            self._failure = failure
            self._reads_bytes = True  # `_read_bytes` raises the failure again
            if not events:
                raise
        return events

    def _read_bytes(self, data: bytes, events: list[StreamEvent]) -> bytes:
        """Read plain events with extras directly from the bytes (`lean`). Return the remaining bytes."""
        if self._failure is not None:
            raise self._failure
        reader, unfinished = self._template, self._frames.unfinished
        if not isinstance(reader, LeanReader) or not reader.reads_bytes:
            self._reads_bytes = False
            return data
        if len(unfinished) > len(data) or len(unfinished) + len(data) > self._event_limit:
            return data
        if unfinished:
            if unfinished.endswith(b"\n"):
                return data  # that may be half of a line end
            data = bytes(unfinished) + data
            unfinished.clear()
        return reader.read_bytes(data, events)

    def _take_rest(self, events: list[StreamEvent]) -> None:
        for name, payload, _ in self._frames.close():
            try:
                self._take_frame(name, payload, events)
            except MalformedEvent:
                break  # the body ends inside an event; the answer may still be complete
        self._take_held_choices(events)
        if not self._is_over and self._finish_reason is not None:
            self._end_message(events)

    def _take_frame(self, name: bytes | None, payload: bytes, events: list[StreamEvent]) -> None:
        self._retire_template()
        if self._is_over:
            self._take_late(payload.strip(), events)
            return
        try:
            if payload.startswith(b"{") and name is None:
                self._take_payload(payload, events)
            else:
                self._take_unusual(name, payload.strip(), events)
        except MalformedEvent as failure:
            self._refuse(failure, events)

    def _take_late(self, payload: bytes, events: list[StreamEvent]) -> None:
        """Take an event after the end: count its usage, and give one notice for all other content."""
        if not payload or payload in (_DONE, b"null"):
            return
        try:
            value, chunk = self._decode_loosely(payload)
        except MalformedEvent:
            value, chunk = None, Chunk(choices=[Choice()])
        self._facts.take_usage(chunk, events)
        is_quiet = not any(choice.delta is None or has_fields(choice.delta) for choice in chunk.choices or ())
        if not self._failed and (not is_quiet or ERRORS.read(value) is not None):
            events.extend(self._late.notice())

    def _take_unusual(self, name: bytes | None, payload: bytes, events: list[StreamEvent]) -> None:
        """Take `[DONE]`, errors by event name, text outside events, keep-alives, and white space."""
        if payload == _DONE:
            self._take_done(events)
        elif name is not None and names_failure(name):
            self._take_error_event(payload, events)
        elif name == UNFRAMED:
            self._take_text(payload, events)
        elif payload.startswith(b"{"):
            self._take_payload(payload, events)
        elif payload and payload != b"null" and name is None:
            self._take_no_object(payload, events)

    def _take_done(self, events: list[StreamEvent]) -> None:
        """Take the end marker. Without a finish_reason it does not prove success: vendors send it after
        errors too."""
        self._take_held_choices(events)
        if self._is_over:
            return
        if self._finish_reason is not None:
            self._end_message(events)
        elif self._unframed.words:
            self._fail(ReportedError(self._unframed.words), events)
        elif self._blocks.has_content:
            self._end_message(events)

    def _take_no_object(self, payload: bytes, events: list[StreamEvent]) -> None:
        """Take an event that is not a JSON object: an error in a list, or in plain words.

        Raises MalformedEvent for other events.
        """
        try:
            value = read_json(payload)
        except MalformedEvent:
            if not self._take_text(payload, events):
                raise
            return
        reported = ERRORS.read(value)
        if reported is not None:
            self._fail(reported, events)
        elif not isinstance(value, str) or not self._take_text(value.encode("utf-8", "replace"), events):
            raise MalformedEvent("an event is not a JSON object")

    def _take_text(self, text: bytes, events: list[StreamEvent]) -> bool:
        """If a text outside JSON reports an error, fail the answer and return True."""
        reported = ERRORS.read(self._unframed.take(text))
        if reported is not None:
            self._fail(reported, events)
        return reported is not None

    def _take_error_event(self, payload: bytes, events: list[StreamEvent]) -> None:
        """Fail the answer for an event whose name means an error."""
        words = payload or (self._unframed.words or "the provider reported an error").encode()
        self._fail(ERRORS.read_body(words), events)

    def _take_payload(self, payload: bytes, events: list[StreamEvent]) -> None:
        value: JsonObject | None = None
        if len(payload) > 2 * EVENT_NESTING_LIMIT and has_brackets(payload, EVENT_NESTING_LIMIT):
            read_json(payload)  # raises if it is nested too deeply
        try:
            chunk = decode_typed(payload)
            is_usual = None not in [choice.delta for choice in chunk.choices or ()]
        except (ValueError, RecursionError):
            chunk, is_usual = Chunk(), False
        if not is_usual:
            value, chunk = self._decode_loosely(payload)
        choices = chunk.choices
        reported: ReportedError | None = None
        if not choices or not self._facts.started or choices[0].finish_reason:
            if value is None:
                value = read_json(payload)
            self._facts.take_leftovers(chunk, value or {}, events)
        if choices:
            reported = self._take_choices(chunk, choices, len(payload), events)
            if value is not None:
                self._facts.take_filters(value, self._picker.settled or 0, events)
        self._facts.take_usage(chunk, events)
        has_sources = chunk.search_results is not ABSENT or chunk.citations is not ABSENT
        if has_sources and (sources := self._facts.new_sources(chunk)):
            self._blocks.cite(sources, events)
        if choices and self._template_tries < _TEMPLATE_TRIES:
            self._learn(chunk, choices, payload)
        if not choices or chunk.error or (chunk.x_groq and chunk.x_groq.get("error")):
            reported = error_in(chunk, value or read_json(payload)) or reported
        if reported is not None:
            self._fail(reported, events)
        elif not choices and value and (words := unexplained_words(value)) is not None:
            self._unframed.take(words.encode("utf-8", "replace"))

    def _decode_loosely(self, payload: bytes) -> tuple[JsonObject, Chunk]:
        value = read_json(payload)
        if not is_object(value):
            raise MalformedEvent("an event is not a JSON object")
        has_deltas = self._blocks.has_content and not self._messages.is_used
        return value, decode_loosely(value, None if has_deltas else self._messages)

    def _take_choices(
        self, chunk: Chunk, choices: list[Choice], size: int, events: list[StreamEvent]
    ) -> ReportedError | None:
        """Take the content of the decoded choice. Return the failure that it reports, or None."""
        reported: ReportedError | None = None
        if self._finish_reason is not None and chunk.id and chunk.id != self._facts.message_id:
            self._facts.message_id = chunk.id
            self._blocks.stop_all(events)
        if len(choices) > 1 or (choices[0].index or 0) != self._picker.settled:
            choices = self._picker.pick(choices, ended=self._finish_reason is not None)
        for choice in choices:
            reported = self._take_choice(choice, size, events) or reported
        return reported

    def _take_choice(self, choice: Choice, size: int, events: list[StreamEvent]) -> ReportedError | None:
        if (delta := choice.delta) is not None:
            if choice.text and not has_fields(delta):
                delta = Delta(content=choice.text)
            self._blocks.take(delta, self._facts.message_id, events)
            if delta.extras or delta.provider_specific_fields or delta.provider_metadata:
                self._blocks.take_extras(delta, size, events)
        if choice.usage:
            self._facts.report_usage(choice.usage, events)
        if (reason := choice.finish_reason) and reason != "null":
            self._finish_reason = reason
        if choice.error:
            return ERRORS.read({"error": choice.error})
        if (failed := failed_finish(reason)) is not None:
            return ReportedError(f"the provider ended the answer with {failed!r}", (failed,))
        return None

    def _take_held_choices(self, events: list[StreamEvent]) -> None:
        """Take the choices that are held at the end of the message."""
        for choice in self._picker.rest(ended=self._finish_reason is not None):
            if (reported := self._take_choice(choice, 0, events)) is not None:
                self._fail(reported, events)
                return

    def _fail(self, reported: ReportedError, events: list[StreamEvent]) -> None:
        if self._is_over:
            return
        self._is_over = self._failed = True
        for choice in self._picker.rest(ended=self._finish_reason is not None):
            self._take_choice(choice, 0, events)
        events.append(ERRORS.stream_error(reported))

    def _end_message(self, events: list[StreamEvent]) -> None:
        self._is_over = True
        self._blocks.finish(events)
        if self._picker.others:
            others = ", ".join(str(index) for index in sorted(self._picker.others))
            words = f"choice {self._picker.index} was decoded; not: {others}"
            events.append(StreamNotice("other_choices", words))
        raw = self._finish_reason
        sequence = self._facts.stop_sequence if raw else None
        ending = parse_ending(
            raw, refused=self._blocks.refused, called=self._blocks.called, stop_sequence=sequence
        )
        stop = stop_event(ending, raw, sequence, has_output=self._blocks.has_output)
        self._failed = type(stop) is StreamError
        events.append(stop)

    def _learn(self, chunk: Chunk, choices: list[Choice], payload: bytes) -> None:
        """Create a fast path for events like this one.

        `template` is faster, for events that differ only in their text. `lean` is for blocks in which a
        template failed.
        """
        growing = self._blocks.growing
        if growing is None or (choices[0].index or 0) != self._picker.settled or self._finish_reason:
            return
        if growing.block_index != self._failed_index:
            self._template = learn_template(payload, chunk, growing)
        if self._template is None and self._picker.settled == 0:
            self._template = self._lean.learn(payload, growing)
            self._template_tries += self._template is None
        if self._template is not None:
            self._template_tries += 1
            self._reads_bytes = isinstance(self._template, LeanReader)

    def _retire_template(self) -> None:
        """Discard the fast path before an event is decoded in full.

        A fast path that was useful may get a successor. After too many useless ones, no more are created.
        """
        if self._template is not None:
            if self._template.hits >= _TEMPLATE_TRIES:
                self._template_tries = 0
            elif isinstance(self._template, Template):
                # The first event often has a role along with its text, so one failure is not enough.
                block = self._template.block_index
                self._failed_index = block if self._doubted_index == block else self._failed_index
                self._doubted_index = block
            self._template, self._reads_bytes = None, False
