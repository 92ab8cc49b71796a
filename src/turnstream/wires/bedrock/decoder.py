"""Bedrock's streams, from bytes to StreamEvents.

ConverseStream says little of where a block begins: only tools, their results and images have a start. Here every block
gets one, with the first delta of its index, and a stop, at the latest with the model's.

InvokeModelWithResponseStream sends the same framing around each model's own events, in messages of the type `chunk`.
Claude's are those of Anthropic Messages: a decoder of that wire, which is given, decodes them. Nova's are Converse's
own. Which of the two calls was made is seen from the messages themselves.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from turnstream.core import sse
from turnstream.core.blocks import BlockType, Content
from turnstream.core.bounds import DEFAULT_MAX_LENGTH, too_large
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.errors import MalformedEvent, StreamBroken, StreamIncomplete
from turnstream.wires.base import Decoder, Finish
from turnstream.wires.bedrock.ends import PADDING, stop_events, usage_event
from turnstream.wires.bedrock.errors import parse_stream_error
from turnstream.wires.bedrock.media import Base64Pieces, media_type_of
from turnstream.wires.bedrock.tools import input_text, opens_block, parse_result_start, parse_use_start
from turnstream.wires.shared.event_stream import BrokenMessage, MessageDecoder
from turnstream.wires.shared.histories import as_metadata
from turnstream.wires.shared.json_values import JsonObject, detail_of, is_object, object_in, text_in, without
from turnstream.wires.shared.late_events import LateEvents, SecondAnswer
from turnstream.wires.shared.lenient_json import decode_json, mend_surrogates

DecoderMaker: TypeAlias = Callable[[], Decoder]

_PARTS: dict[str, tuple[BlockType, type]] = {
    "text": ("text", str),
    "toolUse": ("tool_use", dict),
    "reasoningContent": ("thinking", dict),
    "citation": ("text", object),
    "toolResult": ("tool_result", list),
    "image": ("image", dict),
}
"""Fields of a delta: the type of block that each is for, and the type that its value has."""
_MAY_GO_ON = frozenset({"text", "thinking", "tool_use"})
"""Types of blocks that deltas may come for after their stop."""
_OF_CONTENT = frozenset({"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop"})
_EVENTS = frozenset(
    {"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"}
)


class BedrockDecoder:
    """Decodes one streamed answer; see `wires.base.Decoder`.

    When a message that fails the stream comes in the same bytes as good ones, `feed` returns what these say, and the
    next call raises. After an exception, and after damage behind the model's end marker, nothing is decoded.
    """

    def __init__(
        self, *, event_limit: int, on_malformed: Literal["fail", "skip"], claude: DecoderMaker
    ) -> None:
        self._messages = MessageDecoder(limit=event_limit)
        self._skip_malformed = on_malformed == "skip"
        self._new_claude = claude
        self._failure: StreamBroken | None = None
        self._over = False
        self._stopped = False
        self._failed_end: StreamError | None = None
        self._late = LateEvents()
        self._has_said = False
        self._open: dict[int, BlockType] = {}
        self._ended: dict[int, BlockType] = {}
        self._stopping: int | None = None
        """The block whose stop waits for an event that is something else than one of its deltas: some gateways send more of
        a block after its stop."""
        self._bytes: dict[int, Base64Pieces] = {}
        self._bytes_left = DEFAULT_MAX_LENGTH
        self._model_events: Decoder | None = None

    @property
    def finish(self) -> Finish | None:
        """As `Decoder.finish`: of a model's own events, what their decoder says."""
        if self._failed_end is not None:
            return "certain"
        if self._over or self._stopped or self._model_events is None:
            return None
        return self._model_events.finish

    def end(self) -> list[StreamEvent]:
        """As `Decoder.end`."""
        return self.close() if self._model_events is None else self._model_events.end()

    def feed(self, data: bytes) -> list[StreamEvent]:
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        if not self._over:
            self._messages.add(data)
        while not self._over:
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
        """The end of the body. A message that is not whole by then was cut off."""
        if self._failure is not None:
            raise self._failure
        if (failed := self._failed_end) is not None:
            self._failed_end = None
            return [failed]
        if self._over or self._stopped:
            return []
        if self._model_events is not None and not self._messages.pending:
            return self._model_events.close()
        where = "within an event" if self._messages.pending else "without messageStop"
        incomplete = StreamIncomplete(f"the stream ended {where}")
        events: list[StreamEvent] = []
        self._flush(events)
        incomplete.held = events
        raise incomplete

    def _passed_over(self, error: MalformedEvent, events: list[StreamEvent]) -> bool:
        """Whether the stream can go on after `error`; otherwise it is over or has failed."""
        one_message = isinstance(error, BrokenMessage)
        if self._stopped or (one_message and self._skip_malformed):
            events.append(StreamNotice("malformed_event", error.message))
            self._over = not one_message
            return one_message
        self._failure = error
        return False

    def _decode_message(self, headers: JsonObject, payload: bytes, events: list[StreamEvent]) -> None:
        """Add what one message means to `events`. Raises BrokenMessage, or MalformedEvent of the model's own events."""
        if headers.get(":message-type", "event") != "event":
            if self._stopped:
                events += self._late.notice() if self._failed_end is None else self.close()
                self._over = True
                return
            self._flush(events)
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
                events.append(decoded[0])  # a stop that waited for this event
            reason = f"an event of the provider's stream is malformed: {error}"
            raise BrokenMessage(reason, detail=detail_of(payload)) from error
        events.extend(decoded)

    def _decode_event(self, kind: str, event: JsonObject, events: list[StreamEvent]) -> None:
        """Raises ValueError, or RecursionError, for what is no event of this wire."""
        if self._stopped and kind in _OF_CONTENT:
            events.extend(self._late.notice())
            return
        if kind == "contentBlockDelta":
            self._decode_delta(_index(event), object_in(event, "delta"), events)
            return
        self._flush(events)
        if kind == "chunk":
            self._decode_chunk(event, events)
            return
        event = mend_surrogates(event)
        match kind:
            case "messageStart":
                if self._open or self._ended:
                    raise SecondAnswer
                events.append(MessageStart(role=text_in(event, "role") or "assistant"))
            case "contentBlockStart":
                if event.get("start"):  # without it, the kind of the block is told by its deltas
                    self._decode_start(_index(event), object_in(event, "start"), events)
            case "contentBlockStop":
                self._stop_soon(_index(event), events)
            case "messageStop":
                self._decode_stop(event, events)
            case "metadata":
                self._take_usage(event, events)
            case _:
                if said := without(event, PADDING):
                    events.append(Metadata(provider_metadata={kind: said}))

    def _decode_chunk(self, event: JsonObject, events: list[StreamEvent]) -> None:
        payload = base64.b64decode(text_in(event, "bytes"), validate=True)
        value: Any = decode_json(payload)
        if is_object(value) and len(names := value.keys() & _EVENTS) == 1:
            (name,) = names
            self._decode_event(name, object_in(value, name), events)
            return
        if self._model_events is None:
            self._model_events = self._new_claude()
        said = self._model_events.feed(sse.encode_event(payload))
        self._stopped = self._stopped or any(type(one) is MessageStop for one in said)
        events.extend(said)

    def _decode_start(self, index: int, start: JsonObject, events: list[StreamEvent]) -> None:
        match start:
            case {"toolUse": use} if is_object(use):
                self._start(index, "tool_use", parse_use_start(use), events)
            case {"toolResult": result} if is_object(result):
                self._start(index, "tool_result", parse_result_start(result), events)
            case {"image": image} if is_object(image):
                content: Content = {"media_type": media_type_of(text_in(image, "format"), "image")}
                content |= as_metadata(without(image, "format"))
                self._start(index, "image", content, events)
            case _:
                self._start(index, "provider", dict(start), events)

    def _decode_delta(self, index: int, delta: JsonObject, events: list[StreamEvent]) -> None:
        if index != self._stopping:
            self._flush(events)
        if self._open.get(index) == "provider":
            events.append(ContentDelta(index, {"deltas": [mend_surrogates(delta)]}))
            return
        for name, value in delta.items():
            if value is not None:
                self._decode_part(index, name, value, events)

    def _decode_part(self, index: int, name: str, value: Any, events: list[StreamEvent]) -> None:
        block_type, shape = _PARTS.get(name, ("provider", object))
        if block_type == "provider" or not isinstance(value, shape):
            if index not in self._open:
                self._start(index, "provider", None, events)
            events.append(ContentDelta(index, {"deltas": [mend_surrogates({name: value})]}))
        elif self._expect(index, block_type, name, value, events):
            match name:
                case "text":
                    events.append(TextDelta(index, value))
                case "toolUse":
                    events.append(ToolInputDelta(index, input_text(value)))
                case "reasoningContent":
                    self._decode_reasoning(index, value, events)
                case "citation":
                    events.append(ContentDelta(index, {"citations": [mend_surrogates(value)]}))
                case "toolResult":
                    events.append(ContentDelta(index, {"content": mend_surrogates(value)}))
                case _:
                    self._decode_image(index, mend_surrogates(value), events)

    def _decode_reasoning(self, index: int, reasoning: JsonObject, events: list[StreamEvent]) -> None:
        for name, value in reasoning.items():
            match name:
                case "text" if isinstance(value, str):
                    events.append(ThinkingDelta(index, value))
                case "signature" if isinstance(value, str):
                    events.append(SignatureDelta(index, mend_surrogates(value)))
                case "redactedContent" if isinstance(value, str):
                    self._add_bytes(index, value)
                case _:
                    events.append(ContentDelta(index, {"deltas": [mend_surrogates({name: value})]}))

    def _decode_image(self, index: int, image: JsonObject, events: list[StreamEvent]) -> None:
        content: Content = {}
        match image.get("source"):
            case {"bytes": str(data)}:
                self._add_bytes(index, data)
            case {"s3Location": {"uri": str(uri), **rest}}:
                content["url"] = uri
                image = {**image, **rest}
            case _:
                pass
        if content := content | as_metadata(without(image, "source")):
            events.append(ContentDelta(index, content))

    def _add_bytes(self, index: int, data: str) -> None:
        """Keep bytes until their block stops: they may come in pieces, and only all of them are of use."""
        self._bytes.setdefault(index, Base64Pieces()).add(data)
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise too_large(DEFAULT_MAX_LENGTH)

    def _decode_stop(self, event: JsonObject, events: list[StreamEvent]) -> None:
        ended = stop_events(event, said=self._has_said)
        if type(failure := ended[0]) is StreamError and not self._stopped:
            self._failed_end = failure  # told after the usage, which comes next
        else:
            for index in list(self._open):
                self._stop(index, events)
            events.extend(ended[1:] if self._stopped else ended)
        self._stopped = True

    def _take_usage(self, event: JsonObject, events: list[StreamEvent]) -> None:
        events.append(usage_event(event))
        if self._failed_end is not None:
            self._fail(self._failed_end, events)
            self._failed_end = None

    def _fail(self, error: StreamError, events: list[StreamEvent]) -> None:
        """Add the provider's error, after the bytes that have come of open blocks."""
        for index, block_type in self._open.items():
            events += self._bytes_of(index, block_type)
        events.append(error)
        self._over = True

    def _expect(
        self, index: int, block_type: BlockType, name: str, value: Any, events: list[StreamEvent]
    ) -> bool:
        """Return True if a delta belongs to a block of its type, which it opens unless it is open.

        An empty delta opens no block beside another, and no delta tears a call. What is dropped, and said something, leaves
        a notice.
        """
        there, ended = self._open.get(index), self._ended.get(index)
        if there == block_type:
            return True
        is_torn = there == "tool_use" or (there is None and ended == block_type == "tool_use")
        if (there is None and ended is None) or (not is_torn and opens_block(name, value)):
            self._start(index, block_type, None, events)
            return True
        if opens_block(name, value) or (name == "reasoningContent" and value.get("signature")):
            where = there or f"{ended} that has ended"
            words = f"the provider sends a {name} for a block of {where}: it is left out"
            events.append(StreamNotice("misplaced_delta", words))
        return False

    def _stop_soon(self, index: int, events: list[StreamEvent]) -> None:
        if self._open.get(index) in _MAY_GO_ON:
            self._stopping = index
        else:
            self._stop(index, events)

    def _flush(self, events: list[StreamEvent]) -> None:
        """Add the stop that waits, if one does."""
        if (index := self._stopping) is not None:
            self._stop(index, events)

    def _start(
        self, index: int, block_type: BlockType, content: Content | None, events: list[StreamEvent]
    ) -> None:
        self._stop(index, events)
        self._open[index] = block_type
        self._has_said = self._has_said or block_type != "thinking"
        events.append(ContentBlockStart(index, block_type, content or None))

    def _stop(self, index: int, events: list[StreamEvent]) -> None:
        if index == self._stopping:
            self._stopping = None
        if (block_type := self._open.pop(index, None)) is not None:
            self._ended[index] = block_type
            events += self._bytes_of(index, block_type)
            events.append(ContentBlockStop(index))

    def _bytes_of(self, index: int, block_type: BlockType) -> list[StreamEvent]:
        """Return the bytes that have come of a block, once."""
        if (data := self._bytes.pop(index, None)) is None:
            return []
        return [ContentDelta(index, {"data" if block_type == "image" else "redacted": data.whole()})]


def _index(event: JsonObject) -> int:
    index = event.get("contentBlockIndex", 0)
    if type(index) is not int:
        raise ValueError("contentBlockIndex is not a number")
    return index
