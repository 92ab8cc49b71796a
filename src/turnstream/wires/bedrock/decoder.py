"""Decodes Bedrock's streams, from bytes to StreamEvents.

ConverseStream rarely says where a block begins: only tools, their results and images have a start. The
decoder gives every block a start, with the first delta of its index, and a stop, at the latest with the
model's stop.

InvokeModelWithResponseStream uses the same framing for each model's own events, in messages of type `chunk`.
Claude's events are those of Anthropic Messages, and a decoder of that wire decodes them. Nova's events are
Converse's own. The messages themselves show which of the two calls was made.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from turnstream.core import sse
from turnstream.core.stream_events import (
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    StreamNotice,
)
from turnstream.errors import MalformedEvent, StreamBroken, StreamIncomplete
from turnstream.wires.base import Decoder, Finish
from turnstream.wires.bedrock.block_builder import ConverseBlocks
from turnstream.wires.bedrock.ends import PADDING, stop_events, usage_event
from turnstream.wires.bedrock.errors import parse_stream_error
from turnstream.wires.bedrock.guardrail import redactions_of
from turnstream.wires.shared.answer_stream import AnswerStream
from turnstream.wires.shared.endings import SecondAnswer
from turnstream.wires.shared.event_stream import BrokenMessage, MessageDecoder
from turnstream.wires.shared.json_values import JsonObject, detail_of, is_object, object_in, text_in, without
from turnstream.wires.shared.lenient_json import decode_json, replace_surrogates

DecoderMaker: TypeAlias = Callable[[], Decoder]

_OF_CONTENT = frozenset({"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop"})
_EVENTS = frozenset(
    {"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"}
)


class BedrockDecoder(AnswerStream):
    """Decodes one streamed answer. See `wires.base.Decoder`.

    If one chunk of bytes holds good messages and then one that fails the stream, `feed` returns the events of
    the good ones and the next call raises. After an exception, and after damage behind the model's stop,
    nothing more is decoded.

    Args:
        event_limit: Bytes that one message may have.
        on_malformed: "skip" to replace a malformed event by a notice, "fail" to fail the stream.
        claude: Makes a decoder for Claude's own events.
    """

    def __init__(
        self, *, event_limit: int, on_malformed: Literal["fail", "skip"], claude: DecoderMaker
    ) -> None:
        super().__init__(event_limit=event_limit, on_malformed=on_malformed)
        self._messages = MessageDecoder(limit=event_limit)
        self._new_claude = claude
        self._stopped = False
        self._failed_end: StreamError | None = None
        self._blocks = ConverseBlocks()
        self._model_events: Decoder | None = None

    @property
    def finish(self) -> Finish | None:
        """See `Decoder.finish`. For a model's own events, this is what their decoder returns."""
        if self._failed_end is not None:
            return "certain"
        if self._is_over or self._stopped or self._model_events is None:
            return None
        return self._model_events.finish

    def end(self) -> list[StreamEvent]:
        """See `Decoder.end`."""
        return self.close() if self._model_events is None else self._model_events.end()

    def feed(self, data: bytes) -> list[StreamEvent]:
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        if not self._is_over:
            self._messages.add(data)
        while not self._is_over:
            try:
                message = self._messages.take()
                if message is None:
                    break
                self._decode_message(*message, events)
            except MalformedEvent as error:
                if not self._passed_over(error, events):
                    break
            except StreamBroken as error:
                self._failure = error
                break
        if self._failure is not None and not events:
            raise self._failure
        return events

    def close(self) -> list[StreamEvent]:
        """Finish at the end of the body, and return the last events. An incomplete message was cut off.

        Raises StreamIncomplete if the answer has not ended.
        """
        if self._failure is not None:
            raise self._failure
        if (failed := self._failed_end) is not None:
            self._failed_end = None
            return [failed]
        if self._is_over or self._stopped:
            return []
        if self._model_events is not None and not self._messages.pending:
            return self._model_events.close()
        where = "within an event" if self._messages.pending else "without messageStop"
        incomplete = StreamIncomplete(f"the stream ended {where}")
        events: list[StreamEvent] = []
        self._blocks.flush(events)
        incomplete.held = events
        raise incomplete

    def _passed_over(self, error: MalformedEvent, events: list[StreamEvent]) -> bool:
        """Return True if decoding can continue after `error`. Otherwise end or fail the stream."""
        one_message = isinstance(error, BrokenMessage)
        if self._stopped or (one_message and self._skips_malformed):
            events.append(StreamNotice("malformed_event", error.message))
            self._is_over = not one_message
            return one_message
        self._failure = error
        return False

    def _decode_message(self, headers: JsonObject, payload: bytes, events: list[StreamEvent]) -> None:
        """Decode one message into `events`.

        Raises BrokenMessage, or a MalformedEvent of the model's own events.
        """
        if headers.get(":message-type", "event") != "event":
            if self._stopped:
                events += self._late.notice() if self._failed_end is None else self.close()
                self._is_over = True
                return
            self._blocks.flush(events)
            self._fail(parse_stream_error(headers, payload), events)
            return
        decoded: list[StreamEvent] = []
        try:
            kind = str(headers.get(":event-type", ""))
            value: Any = decode_json(payload) if payload.strip() else {}
            if not is_object(value):
                raise ValueError("not a JSON object")
            self._decode_event(kind, value, decoded)
        except (ValueError, RecursionError) as error:
            if decoded and type(decoded[0]) is ContentBlockStop:
                events.append(decoded[0])  # a stop that was held until this event
            reason = f"an event of the provider's stream is malformed: {error}"
            raise BrokenMessage(reason, detail=detail_of(payload)) from error
        events.extend(decoded)

    def _decode_event(self, kind: str, event: JsonObject, events: list[StreamEvent]) -> None:
        """Decode one event. Raises ValueError or RecursionError if it does not belong to this wire."""
        if self._stopped and kind in _OF_CONTENT:
            events.extend(self._late.notice())
            return
        if kind == "contentBlockDelta":
            self._blocks.take_delta(_index(event), object_in(event, "delta"), events)
            return
        self._blocks.flush(events)
        if kind == "chunk":
            self._decode_chunk(event, events)
            return
        event = replace_surrogates(event)
        match kind:
            case "messageStart":
                if self._blocks.have_begun:
                    raise SecondAnswer
                events.append(MessageStart(role=text_in(event, "role") or "assistant"))
            case "contentBlockStart":
                if event.get("start"):  # without a start, the deltas show the type of the block
                    self._blocks.take_start(_index(event), object_in(event, "start"), events)
            case "contentBlockStop":
                self._blocks.stop_soon(_index(event), events)
            case "messageStop":
                self._decode_stop(event, events)
            case "metadata":
                self._take_usage(event, events)
            case _:
                if events_of_model := without(event, PADDING):
                    events.append(Metadata(provider_metadata={kind: events_of_model}))

    def _decode_chunk(self, event: JsonObject, events: list[StreamEvent]) -> None:
        payload = base64.b64decode(text_in(event, "bytes"), validate=True)
        value: Any = decode_json(payload)
        if is_object(value) and len(names := value.keys() & _EVENTS) == 1:
            (name,) = names
            self._decode_event(name, object_in(value, name), events)
            return
        if self._model_events is None:
            self._model_events = self._new_claude()
        events_of_model = self._model_events.feed(sse.encode_event(payload))
        self._stopped = self._stopped or any(type(one) is MessageStop for one in events_of_model)
        events.extend(events_of_model)

    def _decode_stop(self, event: JsonObject, events: list[StreamEvent]) -> None:
        ended = stop_events(event, has_output=self._blocks.has_output)
        if type(failure := ended[0]) is StreamError and not self._stopped:
            self._failed_end = failure  # reported after the usage, which comes next
        else:
            self._blocks.stop_all(events)
            events.extend(ended[1:] if self._stopped else ended)
        self._stopped = True

    def _take_usage(self, event: JsonObject, events: list[StreamEvent]) -> None:
        events.append(usage_event(event))
        events += redactions_of(event.get("trace"), self._blocks.sent)
        if self._failed_end is not None:
            self._fail(self._failed_end, events)
            self._failed_end = None

    def _fail(self, error: StreamError, events: list[StreamEvent]) -> None:
        """Add the provider's error, after the bytes received for open blocks."""
        self._blocks.break_off(events)
        events.append(error)
        self._is_over = True


def _index(event: JsonObject) -> int:
    index = event.get("contentBlockIndex", 0)
    if type(index) is not int:
        raise ValueError("contentBlockIndex is not a number")
    return index
