"""Decodes Gemini's streams, from bytes to StreamEvents.

The only end marker is the finishReason, and some models send it in every event. So the message stops at the
end of the body if a finishReason, or the reason why the prompt was blocked, has arrived. Otherwise the stream
is incomplete.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from turnstream.core.message_facts import is_clean_end
from turnstream.core.sse_frames import UNFRAMED
from turnstream.core.stream_events import (
    MessageStart,
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
)
from turnstream.errors import MalformedEvent, StreamBroken
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Finish
from turnstream.wires.gemini.block_builder import PartBuilder
from turnstream.wires.gemini.chunks import (
    ABSENT,
    citations_of,
    decode_plain,
    has_blocked_rating,
    is_number,
    named,
    objects_in,
    read_events,
    text_in,
)
from turnstream.wires.gemini.errors import ERRORS
from turnstream.wires.gemini.framing import ResponseFraming
from turnstream.wires.gemini.stop_reasons import UNSPECIFIED, parse_block_reason, parse_ending
from turnstream.wires.gemini.usage import read_usage
from turnstream.wires.shared.answer_stream import AnswerStream
from turnstream.wires.shared.endings import blocked_message, stop_event, withdrawn_answer
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import replace_surrogates
from turnstream.wires.shared.reported_errors import ReportedError
from turnstream.wires.shared.unframed_text import names_failure

_DONE = b"[DONE]"
_KNOWN_OF_A_CHUNK = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId", "error"})
_KNOWN_OF_A_CANDIDATE = frozenset({"content", "index", "finishReason", "logprobsResult"})
_BEGINS = frozenset({"candidates", "promptFeedback", "usageMetadata", "responseId", "modelVersion"})


class GeminiDecoder(AnswerStream):
    """Decodes one response, in either framing."""

    END = "a finishReason"

    def __init__(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> None:
        super().__init__(event_limit=event_limit, on_malformed=on_malformed)
        self._framing = ResponseFraming(event_limit=event_limit)
        self._started = False
        self._blocks = PartBuilder()
        self._candidate: int | None = None
        self._other_candidates: set[int] = set()
        self._finish_reason = ""
        self._finish_words = ""
        self._continued = False
        """True if output arrived before the first finishReason."""
        self._block_reason = ""
        self._is_withdrawn = False
        self._usage: JsonObject | None = None
        self._unreported_usage: msgspec.Raw | JsonObject = ABSENT
        self._extra_fields: JsonObject = {}
        self._last_numbers: JsonObject = {}
        """Latest values of numbers outside of the answer that have changed. They are reported at the end."""

    @property
    def found_answer(self) -> bool:
        """True once any part of an answer has arrived."""
        return self._started

    @property
    def finish(self) -> Finish | None:
        """See `Decoder.finish`. Not None once a finishReason has arrived.

        "likely" if the first output already had one, because then every event may have one.
        """
        if self._is_over or not (self._finish_reason or self._block_reason):
            return None
        return "certain" if self._continued or self._block_reason else "likely"

    def feed(self, data: bytes) -> list[StreamEvent]:
        """See `Decoder.feed`."""
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        if self._is_over:
            return events
        blocks = self._blocks
        try:
            reader = self._framing.reader
            for name, payload, _ in self._framing.begin(data) if reader is None else reader.feed(data):
                if self._candidate == 0:
                    try:
                        chunk = decode_plain(payload)
                    except (ValueError, RecursionError):
                        pass
                    else:
                        if chunk.usage_metadata is not ABSENT:
                            self._unreported_usage = chunk.usage_metadata
                        part = chunk.candidates[0].content.parts[0]
                        text = part.text
                        if part.thought or not text or blocks.open_type != "text":
                            blocks.take_text(text, "thinking" if part.thought else "text", events)
                        else:
                            blocks.length += len(text)
                            events.append(TextDelta(blocks.index, text))
                        continue
                self._take_payload(name, payload, events)
                if self._is_over:
                    break
        except StreamBroken as failure:
            self._failure = failure
            if not events:
                raise
        return events

    def _take_rest(self, events: list[StreamEvent]) -> None:
        for name, payload, _ in () if self._is_over else self._framing.close():
            try:
                self._take_payload(name, payload, events)
            except MalformedEvent:
                # the body was cut inside an event: the finishReason decides whether the message has ended
                break
        if not self._is_over and (self._finish_reason or self._block_reason):
            self._end(events)

    def end_answer(self) -> list[StreamEvent]:
        """Return the last events of a non-streamed answer, which is complete even without a finishReason."""
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        if not self._is_over:
            self._end(events)
        return events

    def _end(self, events: list[StreamEvent]) -> None:
        self._is_over = True
        stop = self._stop_event()
        if isinstance(stop, StreamError) or not is_clean_end(stop):
            self._blocks.calls.cut(events)
        self._blocks.leave(events)
        self._report_usage(events)
        if self._last_numbers:
            events.append(Metadata(provider_metadata=replace_surrogates(self._last_numbers)))
        if self._other_candidates:
            others = ", ".join(str(index) for index in sorted(self._other_candidates))
            words = f"candidate {self._candidate} was decoded; not: {others}"
            events.append(StreamNotice("other_candidates", words))
        events.append(stop)

    def _stop_event(self) -> MessageStop | StreamError:
        blocks = self._blocks
        if raw := self._finish_reason:
            ending = parse_ending(raw, called=bool(blocks.calls))
            return stop_event(ending, raw, has_output=blocks.has_output, words=self._finish_words)
        if raw := self._block_reason:
            return MessageStop(parse_block_reason(raw), raw)
        return MessageStop()

    def _take_payload(self, name: bytes | None, payload: bytes, events: list[StreamEvent]) -> None:
        """Decode any event. Of a malformed event, keep the part before its fault."""
        payload = payload.strip()
        if name is not None and names_failure(name):
            self._take_error_event(payload, events)
            return
        if not payload or payload == _DONE:
            return
        if not payload.startswith((b"{", b"[")):
            reported = ERRORS.read(self._unframed.take(payload.strip(b'"')))
            if reported is not None:
                self._fail(reported, events)
            if name == UNFRAMED or reported is not None:
                return
        try:
            for value in read_events(payload):
                if not is_object(value):
                    raise MalformedEvent("an event is not a JSON object")
                self._take(named(value), payload, events)
                if self._is_over:
                    break
        except (MalformedEvent, ValueError) as error:
            failure = error if isinstance(error, MalformedEvent) else MalformedEvent(str(error))
            if not self._skips_malformed:
                raise failure from None
            events.append(StreamNotice(failure.code, failure.message))

    def _take_error_event(self, payload: bytes, events: list[StreamEvent]) -> None:
        """Report the error of an event named `error`, whatever its payload."""
        error: Any = payload.decode("utf-8", "replace") or self._unframed.words
        try:
            (value,) = read_events(payload)
            error = replace_surrogates(value)
        except (MalformedEvent, ValueError):
            pass  # not JSON: report the text unchanged
        self._fail(ERRORS.read_failure(error or "the provider reported an error"), events)

    def _take(self, chunk: JsonObject, payload: bytes, events: list[StreamEvent]) -> None:
        if (reported := ERRORS.read(chunk)) is not None:
            self._fail(reported, events)
            return
        if not self._started and not _BEGINS.isdisjoint(chunk):
            self._begin(chunk, payload, events)
        self._take_feedback(chunk, events)
        for candidate in objects_in(chunk.get("candidates")):
            self._take_candidate(candidate, events)
        if is_object(usage := chunk.get("usageMetadata")):
            self._unreported_usage = named(usage)
            if self._usage is None:
                self._report_usage(events)
        self._take_leftovers(chunk, _KNOWN_OF_A_CHUNK, events)

    def _fail(self, reported: ReportedError, events: list[StreamEvent]) -> None:
        self._blocks.leave(events)
        self._report_usage(events)
        self._is_over = True
        events.append(ERRORS.stream_error(reported))

    def _begin(self, chunk: JsonObject, payload: bytes, events: list[StreamEvent]) -> None:
        self._started = True
        identity = replace_surrogates(text_in(chunk.get("responseId")))
        model = replace_surrogates(text_in(chunk.get("modelVersion")))
        self._blocks.calls.seed = identity or hashlib.sha256(payload).hexdigest()
        events.append(MessageStart(identity or None, model or None))

    def _take_feedback(self, chunk: JsonObject, events: list[StreamEvent]) -> None:
        feedback = chunk.get("promptFeedback")
        if not is_object(feedback):
            return
        feedback = named(feedback)
        if (reason := text_in(feedback.get("blockReason"))) not in UNSPECIFIED:
            if not self._block_reason and parse_block_reason(reason) == "guardrail_intervened":
                events.append(
                    blocked_message(replace_surrogates(text_in(feedback.get("blockReasonMessage"))))
                )
            self._block_reason = replace_surrogates(reason)

    def _take_candidate(self, candidate: JsonObject, events: list[StreamEvent]) -> None:
        index = candidate.get("index")
        index = index if isinstance(index, int) else 0
        if self._candidate is None:
            self._candidate = index
        if index != self._candidate:
            self._other_candidates.add(index)
            return
        reason = text_in(candidate.get("finishReason"))
        if reason not in UNSPECIFIED and not self._finish_reason:
            self._continued = self._blocks.has_begun
        content = candidate.get("content")
        parts = named(content).get("parts") if is_object(content) else None
        if parts is not None and not is_list(parts):
            raise MalformedEvent("the parts of an answer are not a list")
        for part in parts or ():
            if not is_object(part):
                raise MalformedEvent("a part of an answer is not an object")
            self._blocks.take(part, events)
        if reason not in UNSPECIFIED:
            self._finish_reason = replace_surrogates(reason)
            self._finish_words = replace_surrogates(text_in(candidate.get("finishMessage")))
        if citations := citations_of(candidate):
            self._blocks.cite(replace_surrogates(citations), events)
        if not self._is_withdrawn and self._blocks.has_begun and has_blocked_rating(candidate):
            self._is_withdrawn = True
            events.append(withdrawn_answer())
        self._take_leftovers(candidate, _KNOWN_OF_A_CANDIDATE, events)

    def _take_leftovers(self, value: JsonObject, known: frozenset[str], events: list[StreamEvent]) -> None:
        """Report the other fields of a response or a candidate that are new or have changed."""
        if value.keys() <= known:
            return
        new = {
            key: item
            for key, item in value.items()
            if key not in known and item not in ("", [], {}) and self._extra_fields.get(key) != item
        }
        for key in [
            key for key, item in new.items() if is_number(item) and is_number(self._extra_fields.get(key))
        ]:
            self._last_numbers[key] = new.pop(key)
        if new:
            self._extra_fields |= new
            events.append(Metadata(provider_metadata=replace_surrogates(new)))

    def _report_usage(self, events: list[StreamEvent]) -> None:
        """Report the latest usage if it is new.

        Almost every event has usage, with slightly higher counts, so only the first and the last are
        reported. A report replaces the previous one: it sets fields to None that only the previous one had.
        """
        raw = self._unreported_usage
        if isinstance(raw, msgspec.Raw):
            raw = _usage_in(raw, events)
        self._unreported_usage = ABSENT
        if raw is not None and raw != self._usage:
            gone: JsonObject = dict.fromkeys((self._usage or {}).keys() - raw.keys())
            self._usage = raw
            events.append(Metadata(read_usage(raw), replace_surrogates({**raw, **gone})))


def _usage_in(raw: msgspec.Raw, events: list[StreamEvent]) -> JsonObject | None:
    """Return the usage of a plain text event, which was stored undecoded.

    Add a notice to `events` if it is malformed.
    """
    if raw is ABSENT:
        return None
    try:
        (value,) = read_events(bytes(raw)) or (None,)
    except (MalformedEvent, ValueError):
        events.append(StreamNotice("malformed_event", "the usage of an answer cannot be read"))
        return None
    return named(value) if is_object(value) else None
