"""chat.completions bytes → StreamEvents (requirements E1 to E4, E6, E8, B1).

The wire has no block boundaries: a block begins where the kind of what comes changes, and is stopped by the next.
The message ends with `[DONE]`, or with the body where a finish_reason was seen; only then comes `MessageStop`, once, so
that what a vendor sends after its finish_reason is still taken.
"""

from __future__ import annotations

from itertools import count
from typing import Any, Literal

from turnstream.core.blocks import BlockType, Content
from turnstream.core.sse import SseDecoder
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StopReason,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
)
from turnstream.errors import EventTooLarge, MalformedEvent, StreamBroken, StreamIncomplete
from turnstream.wires.openai_chat_calls import LEGACY_POSITION, ToolCalls
from turnstream.wires.openai_chat_chunks import (
    ABSENT,
    Choice,
    Chunk,
    Delta,
    JsonObject,
    ToolCallDelta,
    decode_loosely,
    decode_typed,
    is_blank,
    is_list,
    is_object,
    kept,
    leftovers,
    read_json,
)
from turnstream.wires.openai_chat_errors import ReportedError, read_error, stream_error
from turnstream.wires.openai_chat_reasoning import ReasoningDetails, detail_text, readable_details
from turnstream.wires.openai_chat_template import Template, learn_template
from turnstream.wires.openai_chat_usage import read_usage

_STOP_REASONS: dict[str, StopReason] = {
    "stop": "end_turn",
    "eos": "end_turn",
    "eos_token": "end_turn",
    "end_turn": "end_turn",
    "length": "max_tokens",
    "model_length": "max_tokens",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
    "tool_call": "tool_use",
    "tool_use": "tool_use",
    "function_call": "tool_use",
    "content_filter": "content_filtered",
    "content_filtered": "content_filtered",
    "safety": "content_filtered",
    "sensitive": "content_filtered",
    "recitation": "content_filtered",
    "refusal": "refusal",
}
_FAILED_REASONS = frozenset({"error", "network_error", "insufficient_system_resource", "abort", "aborted", "cancelled"})
_DONE = b"[DONE]"
_TEMPLATE_TRIES = 8
_BLOCK_TYPES: dict[str, BlockType] = {"text": "text", "refusal": "text", "thinking": "thinking"}
_Kind = Literal["text", "thinking", "refusal"]


class OpenAIChatDecoder:
    """Decodes one response."""

    def __init__(self, *, event_limit: int, on_malformed: Literal["fail", "skip"]) -> None:
        self._frames = SseDecoder(event_limit=event_limit)
        self._event_limit = event_limit
        self._skips_malformed = on_malformed == "skip"
        self._failure: StreamBroken | None = None
        self._over = False

        self._message_id = ""
        self._model = ""
        self._started = False
        self._finish_reason: str | None = None
        self._stop_sequence: str | None = None
        self._choice: int | None = None
        self._other_choices: set[int] = set()
        self._has_content = False
        self._refused = False

        self._indexes = count()
        self._kind: _Kind | None = None
        self._index = 0
        self._calls = ToolCalls(self._indexes)
        self._template: Template | None = None
        self._template_tries = 0

        self._details = ReasoningDetails()
        self._late_details: list[JsonObject] = []
        self._reasons_plainly = False
        self._citations_seen: list[Any] = []
        self._citations_waiting: list[Any] = []
        self._last_sources = b""
        self._extras: dict[str, list[Any]] = {}
        self._extras_size = 0

        self._usage: JsonObject | None = None
        self._trace: JsonObject = {}

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that `data` completes.

        Raises MalformedEvent (unless malformed events are skipped) or EventTooLarge; where events came before it in
        the same `data`, they are returned and the next call raises.
        """
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        try:
            for name, payload, _ in self._frames.feed(data):
                template = self._template
                if template is not None and name is None and (text := template.read(payload)):
                    events.append(template.event(self._index, text))
                    continue
                self._take_frame(name, payload, events)
        except StreamBroken as failure:
            self._failure = failure
            if not events:
                raise
        return events

    def close(self) -> list[StreamEvent]:
        """The body is over. Raises StreamIncomplete where neither a finish_reason nor `[DONE]` came."""
        if self._failure is not None:
            raise self._failure
        events: list[StreamEvent] = []
        for name, payload, _ in self._frames.close():
            try:
                self._take_frame(name, payload, events)
            except MalformedEvent:
                break  # cut off in the middle: whether the message had ended decides
        if not self._over:
            if self._finish_reason is None:
                raise StreamIncomplete("the stream ended without a finish_reason or [DONE]")
            self._end_message(events)
        return events

    def _take_frame(self, name: bytes | None, payload: bytes, events: list[StreamEvent]) -> None:
        try:
            if payload.startswith(b"{") and name is None:
                self._take_payload(payload, events)
            else:
                self._take_unusual(name, payload.strip(), events)
        except MalformedEvent as failure:
            if not self._skips_malformed or isinstance(failure, EventTooLarge):
                raise
            events.append(StreamNotice("malformed_event", failure.message))

    def _take_unusual(self, name: bytes | None, payload: bytes, events: list[StreamEvent]) -> None:
        """`[DONE]`, errors by name, keep-alives, whitespace."""
        if payload == _DONE:
            if not self._over and (self._finish_reason is not None or self._has_content):
                self._end_message(events)
        elif name == b"error":
            self._take_error_event(payload, events)
        elif payload.startswith(b"{"):
            self._take_payload(payload, events)
        elif payload and payload != b"null" and name is None:
            read_json(payload)
            raise MalformedEvent("an event is not a JSON object")

    def _take_error_event(self, payload: bytes, events: list[StreamEvent]) -> None:
        try:
            reported = read_error(read_json(payload))
        except MalformedEvent:
            reported = None
        self._fail(reported or ReportedError(payload[:4000].decode("utf-8", "replace")), events)

    def _take_payload(self, payload: bytes, events: list[StreamEvent]) -> None:
        value: JsonObject | None = None
        try:
            chunk = decode_typed(payload)
        except (ValueError, RecursionError):
            value, chunk = self._decode_loosely(payload)
        choices = chunk.choices
        if value is None and choices and choices[0].delta is None:
            value, chunk = self._decode_loosely(payload)
            choices = chunk.choices
        if self._over:
            self._take_usage(chunk, events)
            return
        if not choices or not self._started or choices[0].finish_reason:
            if value is None:
                value = read_json(payload)
            self._take_leftovers(chunk, value, events)
        if choices:
            self._take_choices(chunk, choices, payload, events)
        self._take_usage(chunk, events)
        if chunk.search_results is not ABSENT or chunk.citations is not ABSENT:
            self._take_sources(chunk, events)
        if not choices or chunk.error or (chunk.x_groq and chunk.x_groq.get("error")):
            self._take_error(chunk, value or read_json(payload), events)

    def _decode_loosely(self, payload: bytes) -> tuple[JsonObject, Chunk]:
        value = read_json(payload)
        if not is_object(value):
            raise MalformedEvent("an event is not a JSON object")
        try:
            return value, decode_loosely(value, whole=not self._has_content)
        except RecursionError as error:
            raise MalformedEvent("an event is nested too deeply") from error

    def _take_leftovers(self, chunk: Chunk, value: JsonObject, events: list[StreamEvent]) -> None:
        """The message's begin, and what a vendor says beside the answer in its first and last chunks."""
        if not self._started and (chunk.id or chunk.choices):
            self._started = True
            self._message_id = chunk.id or ""
            events.append(MessageStart(chunk.id or None, chunk.model or None))
        found = leftovers(value)
        for key in ("stop_reason", "matched_stop"):
            sequence = found.get(key)
            if isinstance(sequence, str) and sequence.lower() not in _STOP_REASONS:
                self._stop_sequence = sequence
        if any(self._trace.get(key) != item for key, item in found.items()):
            self._trace.update(found)
            events.append(Metadata(trace=dict(self._trace)))

    def _take_choices(self, chunk: Chunk, choices: list[Choice], payload: bytes, events: list[StreamEvent]) -> None:
        if self._finish_reason is not None and chunk.id and chunk.id != self._message_id:
            self._message_id = chunk.id
            self._end_blocks(events)
        if self._choice is None:
            self._choice = min(choice.index or 0 for choice in choices)
        for choice in choices:
            if (choice.index or 0) != self._choice:
                self._other_choices.add(choice.index or 0)
                continue
            if choice.delta is not None:
                self._take_delta(choice.delta, payload, events)
            if choice.finish_reason and choice.finish_reason != "null":
                self._finish_reason = choice.finish_reason
            if choice.usage:
                self._report_usage(choice.usage, events)
            if choice.error or (choice.finish_reason in _FAILED_REASONS and not chunk.error):
                error = {"error": choice.error or f"the provider ended with {choice.finish_reason!r}"}
                self._fail(read_error(error) or ReportedError(str(choice.finish_reason)), events)
        if self._template is None and self._template_tries < _TEMPLATE_TRIES and len(choices) == 1:
            self._learn(chunk, payload)

    def _take_delta(self, delta: Delta, payload: bytes, events: list[StreamEvent]) -> None:
        reasoning = delta.reasoning_content or delta.reasoning
        if delta.reasoning_details:
            self._take_details(readable_details(delta.reasoning_details), reasoning, events)
        elif reasoning:
            self._reasons_plainly = True
            self._enter("thinking", events)
            events.append(ThinkingDelta(self._index, reasoning))
        if text := delta.content:
            self._enter("text", events)
            events.append(TextDelta(self._index, text))
        if text := delta.refusal:
            self._refused = True
            self._enter("refusal", events)
            events.append(TextDelta(self._index, text))
        if delta.annotations:
            self._cite(kept(delta.annotations), events)
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._take_call(call, events)
        if delta.function_call is not None and not _is_blank_function(delta):
            self._take_call(ToolCallDelta(LEGACY_POSITION, None, delta.function_call), events)
        if delta.extras:
            self._take_extras(delta.extras, len(payload), events)

    def _take_call(self, call: ToolCallDelta, events: list[StreamEvent]) -> None:
        if call.function is None and not call.id:
            return
        self._leave(events)
        self._has_content = True
        self._calls.take(call, self._message_id, events)

    def _take_details(self, details: list[JsonObject], reasoning: str | None, events: list[StreamEvent]) -> None:
        """Reasoning with its details: the plain text is shown where there is one, else the details' own."""
        self._reasons_plainly = self._reasons_plainly or bool(reasoning)
        shown = reasoning or ("" if self._reasons_plainly else "".join(map(detail_text, details)))
        if shown:
            if self._kind == "thinking" and self._details.begins_another(details):
                self._leave(events)
            self._enter("thinking", events)
            events.append(ThinkingDelta(self._index, shown))
        elif self._kind is None and details and not self._calls.any_open:
            self._enter("thinking", events)
        if self._kind != "thinking":
            self._late_details.extend(details)
            return
        for detail in details:
            if signature := self._details.add(detail):
                events.append(SignatureDelta(self._index, signature))

    def _enter(self, kind: _Kind, events: list[StreamEvent]) -> None:
        """Go on with the open block if it is of this kind, else begin one."""
        if self._kind == kind:
            return
        self._leave(events)
        self._calls.stop_whole(events)
        self._has_content = True
        self._kind = kind
        self._index = next(self._indexes)
        content: Content | None = {"provider_metadata": {"refusal": True}} if kind == "refusal" else None
        events.append(ContentBlockStart(self._index, _BLOCK_TYPES[kind], content))
        if self._citations_waiting and kind == "text":
            events.append(ContentDelta(self._index, {"citations": self._citations_waiting}))
            self._citations_waiting = []

    def _leave(self, events: list[StreamEvent]) -> None:
        """Stop the open text or thinking block."""
        if self._kind is None:
            return
        if self._details:
            events.append(ContentDelta(self._index, _details_content(self._details)))
            self._details = ReasoningDetails()
        events.append(ContentBlockStop(self._index))
        self._kind = None
        self._template = None
        self._template_tries = 0
        self._place_late_details(events)

    def _place_late_details(self, events: list[StreamEvent]) -> None:
        """Details that came while another block was open get a thinking block of their own."""
        if not self._late_details:
            return
        late, self._late_details = self._late_details, []
        details = ReasoningDetails()
        index = next(self._indexes)
        events.append(ContentBlockStart(index, "thinking"))
        for detail in late:
            if signature := details.add(detail):
                events.append(SignatureDelta(index, signature))
        events.append(ContentDelta(index, _details_content(details)))
        events.append(ContentBlockStop(index))

    def _learn(self, chunk: Chunk, payload: bytes) -> None:
        if self._kind in ("text", "thinking") and not self._details:
            self._template_tries += 1
            self._template = learn_template(payload, chunk)

    def _take_sources(self, chunk: Chunk, events: list[StreamEvent]) -> None:
        """The sources that search vendors repeat in every chunk: each is cited once."""
        sources = [bytes(raw) for raw in (chunk.search_results, chunk.citations) if bytes(raw) not in _EMPTY_LISTS]
        if not sources or sources[0] == self._last_sources:
            return
        self._last_sources = sources[0]
        value = read_json(sources[0])
        if is_list(value):
            self._cite([{"url": item} if isinstance(item, str) else item for item in value], events)

    def _cite(self, citations: list[Any], events: list[StreamEvent]) -> None:
        new = [item for item in citations if not is_blank(item) and item not in self._citations_seen]
        if not new:
            return
        self._citations_seen.extend(new)
        if self._kind == "text":
            events.append(ContentDelta(self._index, {"citations": new}))
        else:
            self._citations_waiting.extend(new)

    def _take_extras(self, extras: JsonObject, size: int, events: list[StreamEvent]) -> None:
        """What only this vendor sends: images become blocks, the rest one raw block at the end."""
        self._has_content = True
        self._extras_size += size
        if self._extras_size > self._event_limit:
            raise EventTooLarge(f"fields that are kept raw have more than {self._event_limit} bytes", retryable=False)
        for key, value in kept(extras).items():
            images = [_image(item) for item in value] if key == "images" and is_list(value) else []
            if images and all(images):
                for image in images:
                    self._leave(events)
                    index = next(self._indexes)
                    events.extend((ContentBlockStart(index, "image", image), ContentBlockStop(index)))
            else:
                self._extras.setdefault(key, []).append(value)

    def _take_usage(self, chunk: Chunk, events: list[StreamEvent]) -> None:
        if chunk.usage:
            self._report_usage(chunk.usage, events)
        if chunk.x_groq and is_object(usage := chunk.x_groq.get("usage")):
            self._report_usage(usage, events)

    def _report_usage(self, raw: JsonObject, events: list[StreamEvent]) -> None:
        """Usage may come in any chunk, and in several: each report is cumulative."""
        if raw != self._usage:
            self._usage = raw
            events.append(Metadata(read_usage(raw), kept(raw)))

    def _take_error(self, chunk: Chunk, value: JsonObject, events: list[StreamEvent]) -> None:
        groq = chunk.x_groq.get("error") if chunk.x_groq else None
        reported = read_error({**value, "error": value.get("error") or groq})
        if reported is not None and not self._over:
            self._fail(reported, events)

    def _fail(self, reported: ReportedError, events: list[StreamEvent]) -> None:
        if not self._over:
            self._over = True
            self._template = None
            events.append(stream_error(reported))

    def _end_blocks(self, events: list[StreamEvent]) -> None:
        self._leave(events)
        self._calls.stop_all(events)
        self._place_late_details(events)

    def _end_message(self, events: list[StreamEvent]) -> None:
        self._over = True
        self._end_blocks(events)
        kept_raw: Content = dict(self._extras)
        if self._citations_waiting:
            kept_raw["citations"] = self._citations_waiting
        if kept_raw:
            index = next(self._indexes)
            events.extend((ContentBlockStart(index, "provider", kept_raw), ContentBlockStop(index)))
        if self._other_choices:
            others = ", ".join(str(index) for index in sorted(self._other_choices))
            events.append(StreamNotice("other_choices", f"choice {self._choice} was decoded; not: {others}"))
        raw = self._finish_reason
        events.append(MessageStop(self._stop_reason(), raw, self._stop_sequence if raw else None))

    def _stop_reason(self) -> StopReason | None:
        raw = self._finish_reason
        if raw is None:
            return None
        reason = _STOP_REASONS.get(raw.lower(), "unknown")
        if reason == "end_turn":
            if self._refused:
                return "refusal"
            if self._calls:
                return "tool_use"  # a forced tool call ends with "stop"
            if self._stop_sequence is not None:
                return "stop_sequence"
        return reason


_EMPTY_LISTS = (b"", b"null", b"[]")


def _is_blank_function(delta: Delta) -> bool:
    function = delta.function_call
    return function is None or not (function.name or function.arguments)


def _details_content(details: ReasoningDetails) -> Content:
    return {"provider_metadata": {"reasoning_details": details.whole()}}


def _image(item: Any) -> Content | None:
    """An image of OpenRouter's `images`, as our block holds it."""
    source = item.get("image_url") if is_object(item) else None
    url = source.get("url") if is_object(source) else source
    if not isinstance(url, str) or not url:
        return None
    head, comma, data = url.partition(";base64,")
    if comma and head.startswith("data:"):
        return {"media_type": head.removeprefix("data:"), "data": data}
    return {"url": url}
