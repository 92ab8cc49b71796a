"""Decodes Responses bytes into StreamEvents.

The message ends with `response.completed` or `response.incomplete`. `response.failed` and `error` report a
failure. Unknown events that belong to no item are kept in the message's `provider_metadata`, under `events`.
"""

from __future__ import annotations

from typing import Literal

from turnstream.core.blocks import BlockType
from turnstream.core.sse import SseDecoder
from turnstream.core.sse_frames import UNFRAMED
from turnstream.core.stream_events import MessageStart, Metadata, StreamError, StreamEvent, StreamNotice
from turnstream.errors import MalformedEvent, StreamBroken
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Position
from turnstream.wires.openai_responses.block_builder import OutputBuilder
from turnstream.wires.openai_responses.events import PARTS, STEMS, decode_delta
from turnstream.wires.openai_responses.matching import ItemMention
from turnstream.wires.openai_responses.stop_reasons import COMPLETED, parse_ending
from turnstream.wires.openai_responses.usage import parse_usage
from turnstream.wires.shared.answer_stream import AnswerStream
from turnstream.wires.shared.endings import SecondAnswer, stop_event, withdrawn_answer
from turnstream.wires.shared.json_values import (
    JsonObject,
    as_text,
    is_blank,
    is_list,
    is_object,
    is_one_of,
    read_json,
)
from turnstream.wires.shared.lenient_json import decode_strictly, replace_surrogates
from turnstream.wires.shared.openai_errors import ERRORS
from turnstream.wires.shared.reported_errors import ReportedError
from turnstream.wires.shared.unframed_text import names_failure

_DONE = b"[DONE]"
_BEGINNINGS = frozenset({"response.created", "response.queued", "response.in_progress"})
_ENDS = {
    "response.completed": "completed",
    "response.done": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
_STATUSES = ("completed", "incomplete", "failed", "cancelled")
_CANCELLED = ReportedError("the response was cancelled", ("response_cancelled",))
_TOO_MANY_UNKNOWN = "the provider sends more events of an unknown kind than are kept"
_WITHOUT_OUTPUT: frozenset[BlockType] = frozenset({"thinking", "provider"})
_KEEPALIVE_EVENTS = frozenset({"keepalive", "ping", "response.heartbeat"})
_PLACES = frozenset(
    {"type", "item_id", "output_index", "content_index", "summary_index", "sequence_number", "obfuscation"}
)
"""Fields of an event without content of their own."""
_HANDLED_FIELDS = frozenset(
    {
        "background", "completed_at", "conversation", "created_at", "error", "frequency_penalty", "id",
        "include", "incomplete_details", "instructions", "max_output_tokens", "max_tool_calls",
        "metadata", "model", "object", "output", "output_text", "parallel_tool_calls",
        "presence_penalty", "previous_response_id", "prompt", "prompt_cache_key",
        "prompt_cache_retention", "reasoning", "safety_identifier", "status", "store", "temperature",
        "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "usage", "user",
    }
)  # fmt: skip
"""Fields of a response that repeat the request, or that are read elsewhere."""


class OpenAIResponsesDecoder(AnswerStream):
    """Decodes one response. A background response that was cut off can be resumed: see `position` and
    `reattach`."""

    END = "response.completed"

    def __init__(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> None:
        super().__init__(event_limit=event_limit, on_malformed=on_malformed)
        self._frames = SseDecoder(event_limit=event_limit, loose=True)
        self._output = OutputBuilder()
        self._response_id: str | None = None
        self._in_background = False
        self._sequence = -1
        self._taken_before = -2
        self._raw_left = event_limit
        self._unknown: list[JsonObject] = []

    @property
    def position(self) -> Position | None:
        """Position to resume from if the stream breaks off now. None if the provider does not store the
        response."""
        if self._response_id is None or not self._in_background or self._is_over or self._sequence < 0:
            return None
        return Position(self._response_id, self._sequence)

    def reattach(self) -> None:
        """Continue on a new connection, requested with the wire's `encode_resume`. Events that were already
        read are discarded."""
        self._frames = SseDecoder(event_limit=self._event_limit, loose=True)
        self._taken_before = self._sequence

    def feed(self, data: bytes) -> list[StreamEvent]:
        """See `Decoder.feed`."""
        if self._failure is not None:
            raise self._failure
        output = self._output
        events = output.events = []
        taken_before = self._taken_before
        try:
            part = output.current
            for name, payload, _ in self._frames.feed(data):
                try:
                    delta = decode_delta(payload)
                except (ValueError, RecursionError):
                    self._take_frame(name, payload)
                    part = output.current
                    continue
                if (
                    part is None
                    or delta.__class__ is not part.expected
                    or delta.output_index != part.output_index
                    or delta.content_index + delta.summary_index != part.position
                    or delta.sequence_number <= taken_before
                ):
                    self._take_frame(name, payload)
                    part = output.current
                    continue
                text, event = delta.delta, part.event
                self._sequence = delta.sequence_number
                part.texts.append(text)
                events.append(event(part.index, text))
        except StreamBroken as failure:
            self._failure = failure
            if not events:
                raise
        return events

    def _take_rest(self, events: list[StreamEvent]) -> None:
        self._output.events = events
        for name, payload, _ in self._frames.close():
            try:
                self._take_frame(name, payload)
            except MalformedEvent:
                break  # the body ends inside an event; the response may still be complete

    def take_whole(self, response: JsonObject) -> list[StreamEvent]:
        """Return the events of a whole response. Raises MalformedEvent if it has not ended."""
        events = self._output.events = []
        self._take_response(response)
        return events

    def _take_response(self, response: JsonObject) -> None:
        status = response.get("status") or "completed"
        if status not in _STATUSES:
            raise MalformedEvent(f"the response has not ended: {as_text(status)}")
        self._start(response)
        self._end(status, {"response": response})

    def _take_frame(self, name: bytes | None, payload: bytes) -> None:
        try:
            self._take_payload(name, payload.strip())
        except MalformedEvent as failure:
            self._refuse(failure, self._output.events)

    def _take_payload(self, name: bytes | None, payload: bytes) -> None:
        if self._is_over:
            self._take_late(payload)
            return
        if name is not None and names_failure(name) and not payload.startswith((b"{", b"[")):
            words = payload[:4000].decode("utf-8", "replace") or self._unframed.words
            self._fail(ReportedError(words or "the provider reported an error"))
            return
        if not payload or payload in (_DONE, b"null"):
            return
        if not payload.startswith(b"{"):
            self._take_no_object(name, payload)
            return
        try:
            value, is_whole = decode_strictly(payload), True
        except (ValueError, RecursionError):
            value, is_whole = read_json(payload), False
        sequence = value.get("sequence_number")
        if type(sequence) is int:
            if sequence <= self._taken_before:
                return
            self._sequence = sequence
        kind = value.get("type")
        if name is not None and names_failure(name):
            kind = "error"
        elif not isinstance(kind, str):
            kind = name.decode("utf-8", "replace") if name is not None else ""
        if not is_whole and not kind.endswith(".delta"):
            value = replace_surrogates(value)
        self._take_event(kind, value, len(payload))

    def _take_late(self, payload: bytes) -> None:
        """Take an event after the end. Gives one notice, unless the event has no content."""
        if self._failed or not payload or payload in (_DONE, b"null"):
            return
        try:
            value = read_json(payload)
        except MalformedEvent:
            value = None
        if not (is_object(value) and is_one_of(value.get("type"), _KEEPALIVE_EVENTS)):
            self._output.events.extend(self._late.notice())

    def _take_no_object(self, name: bytes | None, payload: bytes) -> None:
        """Take text outside events, or an event that is not a JSON object.

        It may be an error, in a list or in plain words.

        Raises MalformedEvent for other events.
        """
        reported: ReportedError | None = None
        if name != UNFRAMED and payload.startswith((b"[", b'"')):
            value = read_json(payload)
            reported = ERRORS.read(value)
            payload = value.encode("utf-8", "replace") if isinstance(value, str) else b""
        reported = reported or ERRORS.read(self._unframed.take(payload))
        if reported is not None:
            self._fail(reported)
        elif name != UNFRAMED:
            raise MalformedEvent("an event is not a JSON object")

    def _take_event(self, kind: str, value: JsonObject, size: int) -> None:
        response = value.get("response")
        if kind in _BEGINNINGS:
            if kind == "response.created" and self._output.begun and is_object(response):
                self._check_same(response)
            self._start(response if is_object(response) else {})
        elif kind in _ENDS:
            given_status = response.get("status") if is_object(response) else None
            self._end(given_status if given_status in _STATUSES else _ENDS[kind], value)
        elif not kind and self._response_id is None and is_response(value):
            self._take_response(value)
        elif kind == "error" or (not kind.startswith("response.") and ERRORS.read(value) is not None):
            self._fail(ERRORS.read_failure(value))
        elif not self._take_output(kind, value):
            self._take_unknown(kind, value, size)

    def _take_output(self, kind: str, value: JsonObject) -> bool:
        """Take an event about an item. Return False for an unknown event."""
        output = self._output
        index = value.get("output_index")
        place = ItemMention(index if type(index) is int else None, as_text(value.get("item_id")) or "")
        position = _position(value)
        stem, _, ending = kind.rpartition(".")
        part_kind = STEMS.get(stem)
        if part_kind is not None and ending == "delta":
            delta = value.get("delta")
            text = as_text(delta)
            if text is None:
                raise MalformedEvent("a delta is not a string")
            output.grow(place, part_kind, position, text)
        elif part_kind is not None and ending == "done":
            output.complete(place, part_kind, position, as_text(value.get(part_kind.field)) or "")
        elif kind in ("response.output_item.added", "response.output_item.done"):
            if not is_object(item := value.get("item")):
                raise MalformedEvent("an output item is not an object")
            (output.add_item if ending == "added" else output.end_item)(place, item)
        elif kind == "response.output_text.annotation.added":
            output.cite(place, position, value.get("annotation"))
        elif stem in ("response.content_part", "response.reasoning_part", "response.reasoning_summary_part"):
            part = value.get("part")
            self._take_part(ending, place, position, part if is_object(part) else {})
        else:
            return False
        return True

    def _take_part(self, ending: str, place: ItemMention, position: int, part: JsonObject) -> None:
        if ending == "done":
            self._output.end_part(place, position, part)
        elif (kind := PARTS.get(str(part.get("type")))) is not None:
            self._output.begin_part(place, kind, position, as_text(part.get("text")) or "")

    def _take_unknown(self, kind: str, value: JsonObject, size: int) -> None:
        """Keep an unknown event, unless it has no content, or a raw item repeats it at its end."""
        if kind in _KEEPALIVE_EVENTS or all(key in _PLACES or is_blank(item) for key, item in value.items()):
            return
        index = value.get("output_index")
        if type(index) is int and self._output.belongs_to_a_raw_item(ItemMention(index)):
            return
        self._raw_left -= size
        if self._raw_left >= 0:
            self._unknown.append(replace_surrogates({**value, "type": kind}))
        elif self._raw_left + size >= 0:
            self._output.events.append(StreamNotice("events_dropped", _TOO_MANY_UNKNOWN))

    def _start(self, response: JsonObject) -> None:
        if response.get("background") is True:
            self._in_background = True
        identity, model = as_text(response.get("id")), as_text(response.get("model"))
        if self._response_id is None and (identity or model):
            self._response_id = self._output.message_id = identity or ""
            self._output.events.append(MessageStart(identity, model))

    def _check_same(self, response: JsonObject) -> None:
        """Raise SecondAnswer if `response` is another response than the open one."""
        identity = as_text(response.get("id"))
        if identity and identity != self._response_id:
            raise SecondAnswer

    def _end(self, status: str, value: JsonObject) -> None:
        response = value.get("response")
        if not is_object(response):
            response = {}
        self._start(response)
        self._is_over = True
        if (identity := as_text(response.get("id"))) and identity != self._response_id:
            # Copilot renames the response in every event. A request that continues it needs the last id.
            self._output.events.append(MessageStart(identity))
        items = response.get("output")
        self._output.end(items if is_list(items) else [])
        self._report_extras(response, value)
        if status in ("failed", "cancelled"):
            self._is_over = False
            reported = ERRORS.read(response) if status == "failed" else _CANCELLED
            self._fail(reported or ReportedError("the response failed"))
            return
        details = response.get("incomplete_details")
        reason = as_text(details.get("reason")) if is_object(details) else None
        output = self._output
        if output.begun and blocks_completion(response):
            output.events.append(withdrawn_answer())
        ending, raw = parse_ending(status, reason, refused=output.refused, called=output.called)
        has_output = status == COMPLETED or not output.begun <= _WITHOUT_OUTPUT
        stop = stop_event(ending, raw, has_output=has_output)
        self._failed = type(stop) is StreamError
        output.events.append(stop)

    def _report_extras(self, response: JsonObject, value: JsonObject) -> None:
        """Append the usage and the vendor-specific fields of the last event, with the unknown events that
        were kept."""
        extra = {
            key: item for key, item in response.items() if key not in _HANDLED_FIELDS and not is_blank(item)
        }
        extra |= {
            key: item
            for key, item in value.items()
            if key not in _PLACES and key != "response" and not is_blank(item)
        }
        if self._unknown:
            extra["events"] = self._unknown
        usage = response.get("usage")
        if is_object(usage) and usage:
            self._output.events.append(Metadata(parse_usage(usage), usage, provider_metadata=extra or None))
        elif extra:
            self._output.events.append(Metadata(provider_metadata=extra))

    def _fail(self, reported: ReportedError) -> None:
        if not self._is_over:
            self._is_over = self._failed = True
            self._output.current = None
            self._output.events.append(_stream_error(reported))


def _stream_error(reported: ReportedError) -> StreamError:
    if reported is _CANCELLED:
        return StreamError("model_stream", reported.names[0], reported.words)
    return ERRORS.stream_error(reported)


def _position(value: JsonObject) -> int:
    for name in ("content_index", "summary_index"):
        if type(found := value.get(name)) is int:
            return found
    return 0


def blocks_completion(response: JsonObject) -> bool:
    """Return True if one of Azure's content filters says that it blocked the answer."""
    filters = response.get("content_filters")
    return any(
        is_object(found) and found.get("blocked") is True and found.get("source_type") == "completion"
        for found in (filters if is_list(filters) else ())
    )


def is_response(value: JsonObject) -> bool:
    """Return True for a whole response object."""
    return is_list(value.get("output")) and value.get("object", "response") == "response"
