"""Decodes streams of Anthropic Messages, from bytes to StreamEvents.

Almost every event is a delta of the open block's text: a typed decoder of `deltas` decodes it straight into a
small struct. Every other event, and one with an unusual value (a lone surrogate), is decoded as plain JSON,
and each kind of event has its own method. Both paths give the same events.
"""

from __future__ import annotations

from typing import Any, Literal

from turnstream.core.sse import SseDecoder
from turnstream.core.sse_frames import UNFRAMED
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.errors import MalformedEvent, StreamIncomplete
from turnstream.wires.anthropic.blocks import parse_block
from turnstream.wires.anthropic.deltas import BlockPlaces
from turnstream.wires.anthropic.errors import ERRORS
from turnstream.wires.anthropic.stop_reasons import parse_ending
from turnstream.wires.anthropic.usage import UsageReports
from turnstream.wires.anthropic.whole_messages import stream_of
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Finish
from turnstream.wires.shared.answer_stream import AnswerStream
from turnstream.wires.shared.endings import stop_event
from turnstream.wires.shared.json_values import (
    JsonObject,
    detail_of,
    is_list,
    is_object,
    object_in,
    optional_text,
    text_in,
    without,
)
from turnstream.wires.shared.lenient_json import decode_json, encode_json, replace_surrogates
from turnstream.wires.shared.reported_errors import ReportedError
from turnstream.wires.shared.unframed_text import names_failure

_MESSAGE_FIELDS = frozenset(
    {"id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage"}
)
_SILENCE = frozenset({b"", b"[DONE]"})


class _SecondMessage(ValueError):
    """A second message begins in the same stream. It cannot be skipped, because two messages would merge."""


class AnthropicDecoder(AnswerStream):
    """Decodes one streamed answer. See `wires.base.Decoder`.

    If one chunk of bytes holds good events and then an event that fails the stream, `feed` returns the good
    ones and the next call raises, so the result does not depend on how the bytes were split. After an `error`
    event nothing more is decoded.
    """

    def __init__(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> None:
        super().__init__(event_limit=event_limit, on_malformed=on_malformed)
        self._frames = SseDecoder(event_limit=event_limit, loose=True)
        self._is_another = False
        """True once another message has begun after the end. Its usage does not belong to this answer."""
        self._message_id: str | None = None
        self._started = False
        self._has_blocks = False
        self._stopped = False
        self._stop_reason: str | None = None
        self._stop_sequence: str | None = None
        self._has_output = False
        """True once a block other than thinking has begun."""
        self._usage = UsageReports()
        self._raw_blocks: set[int] = set()
        self._places = BlockPlaces()
        self._last_index = 0

    @property
    def finish(self) -> Finish | None:
        """See `Decoder.finish`. Not None once a stop_reason has arrived and all blocks have stopped."""
        if self._stopped or self._failed or self._stop_reason is None:
            return None
        if self._places.has_open:
            return None
        return "certain"

    def end(self) -> list[StreamEvent]:
        """See `Decoder.end`."""
        events: list[StreamEvent] = []
        self._places.flush(events)
        self._end_message(events)
        return events

    def feed(self, data: bytes) -> list[StreamEvent]:
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        if self._failed:
            return events
        append = events.append
        places = self._places
        index, (decode, delta) = places.growing
        for name, payload, _ in self._frames.feed(data):
            try:
                event = decode(payload)
                if event.index == index:
                    append(delta(index, event.delta.text))
                    continue
            except (ValueError, RecursionError):
                pass
            if not self._decode_other(name, payload, events):
                break
            index, (decode, delta) = places.growing
        if self._failure is not None and not events:
            raise self._failure
        return events

    def close(self) -> list[StreamEvent]:
        """Finish at the end of the body, and return the last events.

        Decode a final event without its blank line, which is how some recordings end. Raises StreamIncomplete
        if the message is incomplete even with that event.
        """
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        if self._failed:
            return events
        for name, payload, _ in self._frames.close():
            if not self._decode_other(name, payload, events):
                break
        if not self._stopped and not self._failed:
            words = self._unframed.words or None
            self._places.flush(events)
            incomplete = StreamIncomplete("the stream ended without message_stop", detail=words)
            incomplete.held = events
            raise incomplete
        return events

    def _decode_other(self, name: bytes | None, payload: bytes, events: list[StreamEvent]) -> bool:
        """Decode an event of any kind into `events`. Return False if the stream ends with it."""
        if self._stopped:
            self._take_late(name, payload, events)
            return not self._failed
        decoded: list[StreamEvent] = []
        try:
            self._decode_any(name, payload, decoded)
        except (ValueError, RecursionError) as error:
            if decoded and type(decoded[0]) is ContentBlockStop:
                events.append(decoded[0])  # a stop that was held until this event
            reason = f"an event of the provider's stream is malformed: {error}"
            if not self._skips_malformed or isinstance(error, _SecondMessage):
                self._failure = MalformedEvent(reason, detail=detail_of(payload))
                return False
            events.append(StreamNotice("malformed_event", reason))
            return True
        events.extend(decoded)
        return not self._failed

    def _take_late(self, name: bytes | None, payload: bytes, events: list[StreamEvent]) -> None:
        """Decode an event after the end of the message.

        Usage and metadata of this message still count. All other events together give one notice.
        """
        value = _json_or_text(payload)
        event: JsonObject = value if is_object(value) else {}
        kind = event.get("type") or (name or b"").decode(errors="replace")
        if kind == "ping" or payload.strip() in _SILENCE:
            return
        self._is_another = self._is_another or kind == "message_start"
        try:
            if self._is_another or kind not in ("message_delta", "message_stop"):
                raise ValueError("no part of the answer")
            self._decode_rare(kind, event, events)
        except ValueError:
            events.extend(self._late.notice())

    def _decode_any(self, name: bytes | None, payload: bytes, events: list[StreamEvent]) -> None:
        """Decode one event of any kind.

        Raises ValueError or RecursionError if it does not belong to this wire.
        """
        if name is not None and names_failure(name):
            words = self._unframed.words or "the provider reported an error"
            value = _json_or_text(payload) if payload.strip() else words
            self._decode_error(ERRORS.read_failure(value), events)
            return
        if name == b"ping" or payload.strip() in _SILENCE:
            return
        if not payload.lstrip().startswith(b"{"):
            self._decode_no_object(name, payload, events)
            return
        event: JsonObject = decode_json(payload)
        kind = event.get("type") or (name or b"").decode(errors="replace")
        if kind == "content_block_delta":
            self._decode_delta(event, events)
            return
        if kind != "ping":
            self._places.flush(events)
            self._decode_rare(kind, replace_surrogates(event), events)

    def _decode_rare(self, kind: str, event: JsonObject, events: list[StreamEvent]) -> None:
        match kind:
            case "message_start":
                self._decode_message_start(event, events)
            case "content_block_start":
                self._decode_block_start(event, events)
            case "content_block_stop":
                index = self._index(event)
                self._raw_blocks.discard(index)
                self._places.stop(index, events)
            case "message_delta":
                self._decode_message_delta(event, events)
            case "message_stop":
                self._decode_message_stop(event, events)
            case "error":
                self._decode_error(ERRORS.read_failure(event), events)
            case "message" if not self._started and (whole := stream_of(event)) is not None:
                for one in whole:
                    self._decode_any(None, encode_json(one), events)
            case _:
                if (reported := ERRORS.read(event)) is not None:
                    self._decode_error(reported, events)

    def _decode_no_object(self, name: bytes | None, payload: bytes, events: list[StreamEvent]) -> None:
        """Decode text outside of events, or an event that is not a JSON object.

        Such text may report an error, in a list or in plain words. Raises ValueError for other events.
        """
        reported: ReportedError | None = None
        if name != UNFRAMED and payload.startswith((b"[", b'"')):
            value = decode_json(payload)
            if is_list(value) and value:
                reported = ERRORS.read(replace_surrogates(value[0]))
            payload = value.encode("utf-8", "replace") if isinstance(value, str) else b""
        reported = reported or ERRORS.read(self._unframed.take(payload))
        if reported is not None:
            self._decode_error(reported, events)
        elif name != UNFRAMED:
            raise ValueError("not a JSON object")

    def _decode_message_start(self, event: JsonObject, events: list[StreamEvent]) -> None:
        message = object_in(event, "message")
        message_id = optional_text(message, "id")
        if self._started and (self._has_blocks or message_id != self._message_id):
            raise _SecondMessage("a second message begins before the first has ended")
        if not self._started:
            self._started = True
            self._message_id = message_id
            role = optional_text(message, "role") or "assistant"
            events.append(MessageStart(message_id, optional_text(message, "model"), role))
            self._decode_prepopulated(message.get("content"), events)
        self._keep_stop(message)
        leftovers = {k: v for k, v in message.items() if k not in _MESSAGE_FIELDS and v is not None}
        self._usage.report(message.get("usage"), leftovers, events)

    def _decode_prepopulated(self, content: Any, events: list[StreamEvent]) -> None:
        """Add the blocks that `message_start` already contains.

        They are complete, so each gets its start and stop here. An empty block is a placeholder for a block
        that has its own start later.
        """
        for index, raw in enumerate(content if is_list(content) else ()):
            if not is_object(raw):
                raise ValueError("a content block is not an object")
            started = self._start_block(index, raw)
            if len(started) > 1 or started[0].content is not None:
                events.extend(started)
                self._places.stop(index, events)
                self._places.flush(events)
            else:
                self._places.forget(index)
            self._raw_blocks.discard(index)

    def _decode_block_start(self, event: JsonObject, events: list[StreamEvent]) -> None:
        self._has_blocks = True
        index = self._index(event)
        if event.get("content_block") is not None:  # else its first delta begins the block
            events.extend(self._start_block(index, object_in(event, "content_block")))

    def _start_block(self, index: int, raw: JsonObject) -> list[Any]:
        """Return the start of a block, and deltas for the text that it already contains."""
        block = parse_block(raw)
        self._raw_blocks.discard(index)
        started: list[StreamEvent] = [ContentBlockStart(index, block.block_type, block.content)]
        if block.text:
            delta = {"thinking": ThinkingDelta, "tool_use": ToolInputDelta}.get(block.block_type, TextDelta)
            started.append(delta(index, block.text))
        if block.signature:
            started.append(SignatureDelta(index, block.signature))
        if block.block_type == "provider":
            self._raw_blocks.add(index)
        self._has_output = self._has_output or block.block_type != "thinking"
        waits = not (block.content or {}).get("provider_executed")
        self._places.start(index, block.block_type, stop_waits=waits)
        return started

    def _decode_delta(self, event: JsonObject, events: list[StreamEvent]) -> None:
        self._has_blocks = True
        index = self._index(event)
        delta = object_in(event, "delta")
        kind = delta.get("type")
        if not self._places.admits(index, delta, events):
            return
        if kind == "text_delta":
            events.append(TextDelta(index, text_in(delta, "text")))
        elif kind == "signature_delta":
            events.append(SignatureDelta(index, replace_surrogates(text_in(delta, "signature"))))
        elif kind == "compaction_delta":
            events.append(ContentDelta(index, replace_surrogates(without(delta, "type"))))
        elif index in self._raw_blocks:
            events.append(ContentDelta(index, {"deltas": [replace_surrogates(delta)]}))
        elif kind == "thinking_delta":
            events.append(ThinkingDelta(index, text_in(delta, "thinking")))
        elif kind == "input_json_delta":
            events.append(ToolInputDelta(index, text_in(delta, "partial_json")))
        elif kind == "citations_delta":
            events.append(ContentDelta(index, {"citations": [replace_surrogates(delta.get("citation"))]}))
        else:
            events.append(ContentDelta(index, {"deltas": [replace_surrogates(delta)]}))

    def _decode_message_delta(self, event: JsonObject, events: list[StreamEvent]) -> None:
        fields = object_in(event, "delta") if event.get("delta") is not None else {}
        self._keep_stop(fields)
        leftovers = {k: v for k, v in fields.items() if k not in _MESSAGE_FIELDS and v is not None}
        leftovers |= {k: v for k, v in event.items() if k not in ("type", "delta", "usage") and v is not None}
        self._usage.report(event.get("usage"), leftovers, events)

    def _decode_message_stop(self, event: JsonObject, events: list[StreamEvent]) -> None:
        if not self._stopped:
            self._end_message(events)
        self._usage.report(None, without(event, "type"), events)

    def _end_message(self, events: list[StreamEvent]) -> None:
        self._stopped = True
        raw = self._stop_reason
        stop = stop_event(parse_ending(raw), raw, self._stop_sequence, has_output=self._has_output)
        self._failed = type(stop) is StreamError
        self._places.end()
        events.append(stop)

    def _decode_error(self, reported: ReportedError, events: list[StreamEvent]) -> None:
        self._places.flush(events)
        events.append(ERRORS.stream_error(reported))
        self._failed = True

    def _keep_stop(self, fields: JsonObject) -> None:
        self._stop_reason = optional_text(fields, "stop_reason") or self._stop_reason
        self._stop_sequence = optional_text(fields, "stop_sequence") or self._stop_sequence

    def _index(self, event: JsonObject) -> int:
        """Return the block index of an event.

        An event without an index belongs to the same block as the one before.
        """
        index = event.get("index", self._last_index)
        if type(index) is not int:
            raise ValueError("index is not a number")
        self._last_index = index
        return index


def _json_or_text(payload: bytes) -> Any:
    try:
        return replace_surrogates(decode_json(payload))
    except ValueError:
        return payload.decode(errors="replace")
