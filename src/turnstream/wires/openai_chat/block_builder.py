"""Builds blocks from the deltas of one choice.

The protocol has no block boundaries. A text or thinking block begins when the kind of the content changes,
and ends when the next block begins. Tool calls have their own rules (`calls`) and may stay open while other
blocks grow.
"""

from __future__ import annotations

from itertools import count
from typing import Any, Literal, TypeAlias

from turnstream.core.blocks import BlockType, Content
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from turnstream.wires.openai_chat.calls import ChatCompletionCalls
from turnstream.wires.openai_chat.chunks import Delta, ToolCallDelta
from turnstream.wires.openai_chat.extras import CONTENT, Extras
from turnstream.wires.openai_chat.messages import REFUSAL
from turnstream.wires.openai_chat.reasoning import ReasoningDetails, detail_text, readable_details
from turnstream.wires.openai_chat.template import OpenTarget
from turnstream.wires.openai_chat.thinking_blocks import (
    THINKING_BLOCKS,
    THINKING_FIELDS,
    Entry,
    ThinkingEntries,
    signed_part,
    whole,
    without_text,
)
from turnstream.wires.shared.histories import read_media_url
from turnstream.wires.shared.json_values import JsonObject, is_blank, is_list, is_object
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.thoughts import read_thought

_Kind: TypeAlias = Literal["text", "thinking", "refusal"]
_BLOCK_TYPES: dict[_Kind, BlockType] = {"text": "text", "refusal": "text", "thinking": "thinking"}


class BlockBuilder:
    """Builds the blocks of one message. `raw_limit` limits the bytes of events with vendor-specific
    fields."""

    def __init__(self, *, raw_limit: int) -> None:
        self.has_content = False
        self.has_output = False
        """True once the answer has content other than thinking."""
        self.refused = False
        indexes = count()
        self._indexes = indexes
        self._calls = ChatCompletionCalls(indexes)
        self._kind: _Kind | None = None
        self._index = 0
        self._details = ReasoningDetails()
        self._late_details: list[JsonObject] = []
        self._reasons_plainly = False
        """True once reasoning came as plain text. Equal text in details and entries is not shown then."""
        self._reasons_openly = False
        """True once reasoning came in a field of the delta. Equal text in `provider_specific_fields` is not
        shown then."""
        self._citations_seen: set[str | bytes] = set()
        self._citations_waiting: list[Any] = []
        self.extras = Extras(raw_limit=raw_limit)
        self._entries = ThinkingEntries()
        self._late_signatures: list[Content] = []
        self._signature = ""

    @property
    def called(self) -> bool:
        """True if the model has called a tool."""
        return bool(self._calls)

    @property
    def growing(self) -> OpenTarget | None:
        """Target of the last delta, which the next delta may continue. None if there is none."""
        return OpenTarget(self._index) if self._kind is not None else self._calls.growing

    def take(self, delta: Delta, message_id: str, events: list[StreamEvent]) -> None:
        """Append the events of a delta: reasoning, then text, then calls.

        Raises MalformedEvent.
        """
        reasoning = delta.reasoning_content or delta.reasoning
        if delta.reasoning_details:
            self._take_details(readable_details(delta.reasoning_details), reasoning, events)
        elif delta.thinking_blocks or delta.provider_specific_fields:
            self._take_thinking_fields(delta, reasoning, events)
        elif reasoning:
            self._reasons_openly = True
            self._think(reasoning, events)
        if delta.signature and self._entries.is_new(delta.signature):
            is_open = self._sign(delta.signature, {"signature": delta.signature}, events)
            if is_open and delta.signed_part is not None:
                events.append(ContentDelta(self._index, signed_part(delta.signed_part)))
        if text := delta.content:
            self._enter("text", events)
            events.append(TextDelta(self._index, text))
        if text := delta.refusal:
            self.refused = True
            self._enter("refusal", events)
            events.append(TextDelta(self._index, text))
        if delta.annotations:
            self.cite(delta.annotations, events)
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._take_call(call, message_id, events)
        elif (function := delta.function_call) is not None and (function.name or function.arguments):
            self._leave(events)
            self.has_content = self.has_output = True
            self._calls.take_legacy(function, message_id, events)

    def take_extras(self, delta: Delta, size: int, events: list[StreamEvent]) -> None:
        """Take the vendor-specific fields of a delta. Images become blocks. For other fields see `extras`.

        Raises EventTooLarge if the kept fields exceed the limit.
        """
        extras = delta.extras or {}
        for key in extras.keys() & CONTENT:
            self.has_content = self.has_output = True
            self.extras.charge(size)
            value = extras[key]
            images = [_image(item) for item in value] if key == "images" and is_list(value) else [None]
            if None in images:
                self.extras.add_raw(key, value)
                continue
            for image in images:
                self._leave(events)
                index = next(self._indexes)
                events.extend((ContentBlockStart(index, "image", image), ContentBlockStop(index)))
        if fields := delta.provider_specific_fields:
            fields = {key: value for key, value in fields.items() if key not in THINKING_FIELDS}
            extras = {**extras, "provider_specific_fields": fields}
        if delta.provider_metadata:
            extras = {**extras, "provider_metadata": delta.provider_metadata}
        self.extras.keep(extras, size, events)

    def cite(self, citations: list[Any], events: list[StreamEvent]) -> None:
        """Add each new citation to the open text block, or to the next text block."""
        new: list[Any] = []
        for item in citations:
            key = item if isinstance(item, str) else encode_json(item)
            if not is_blank(item) and key not in self._citations_seen:
                self._citations_seen.add(key)
                new.append(item)
        if not new:
            return
        if self._kind == "text":
            events.append(ContentDelta(self._index, {"citations": new}))
        else:
            self._citations_waiting.extend(new)

    def stop_all(self, events: list[StreamEvent]) -> None:
        """Stop every open block at the end of a message."""
        self._leave(events)
        self._calls.stop_all(events)
        self._place_late_details(events)

    def finish(self, events: list[StreamEvent]) -> None:
        """Stop every open block. Citations and raw fields that belong to no block go into a
        `provider` block."""
        self.stop_all(events)
        raw: Content = dict(self.extras.raw)
        if self._citations_waiting:
            raw["citations"] = self._citations_waiting
        if raw:
            index = next(self._indexes)
            events.extend((ContentBlockStart(index, "provider", raw), ContentBlockStop(index)))

    def _enter(self, kind: _Kind, events: list[StreamEvent]) -> None:
        """Continue the open block if it is of this kind, or begin a new block."""
        if self._kind == kind:
            return
        self._leave(events)
        self._calls.stop_whole(events)
        self.has_content = True
        self.has_output = self.has_output or kind != "thinking"
        self._kind = kind
        self._index = next(self._indexes)
        events.append(
            ContentBlockStart(self._index, _BLOCK_TYPES[kind], REFUSAL if kind == "refusal" else None)
        )
        if self._citations_waiting and kind == "text":
            events.append(ContentDelta(self._index, {"citations": self._citations_waiting}))
            self._citations_waiting = []

    def _leave(self, events: list[StreamEvent]) -> None:
        """Stop the open text or thinking block."""
        if self._kind is None:
            return
        self._signature = ""
        self._entries.end()
        if self._details:
            events.append(ContentDelta(self._index, self._details.content()))
            self._details = ReasoningDetails()
        events.append(ContentBlockStop(self._index))
        self._kind = None
        self._place_late_details(events)

    def _think(self, text: str, events: list[StreamEvent]) -> None:
        """Show reasoning that came as plain text. Text after a signature begins another thinking block."""
        self._reasons_plainly = True
        self._show_thought(text, events)

    def _show_thought(self, text: str, events: list[StreamEvent]) -> None:
        if self._signature:
            self._leave(events)
        self._enter("thinking", events)
        events.append(ThinkingDelta(self._index, text))

    def _sign(self, signature: str, late: Content, events: list[StreamEvent]) -> bool:
        """Sign the open thinking block and return True. Without an open one, keep `late` for a separate block
        and return False."""
        self.has_content = True
        if self._kind != "thinking":
            self._late_signatures.append(late)
            return False
        self._signature = signature
        events.append(SignatureDelta(self._index, signature))
        return True

    def _take_thinking_fields(self, delta: Delta, reasoning: str | None, events: list[StreamEvent]) -> None:
        """Take thinking and its signatures from `thinking_blocks` and `provider_specific_fields`."""
        fields = delta.provider_specific_fields or {}
        self._reasons_openly = self._reasons_openly or bool(reasoning)
        if not self._reasons_openly and THINKING_BLOCKS not in fields:
            thoughts = (read_thought(fields.get(name)) for name in THINKING_FIELDS)
            reasoning = next((thought.text for thought in thoughts if thought.text), None)
        if reasoning:
            self._think(reasoning, events)
        for entry in self._entries.read(delta.thinking_blocks or fields.get(THINKING_BLOCKS)):
            self._take_entry(entry, events)

    def _take_entry(self, entry: Entry, events: list[StreamEvent]) -> None:
        if entry.is_redacted:
            if not entry.seal:
                return
            self._leave(events)
            self.has_content = True
            index = next(self._indexes)
            content = {"redacted": entry.seal, **without_text(entry)}
            events.extend((ContentBlockStart(index, "thinking", content), ContentBlockStop(index)))
            return
        if entry.text and not self._reasons_plainly and not self._entries.is_repetition(entry):
            self._show_thought(entry.text, events)
            self._entries.show(entry.text)
        if not entry.seal:
            return
        if self._sign(entry.seal, whole(entry), events):
            events.append(ContentDelta(self._index, without_text(entry)))

    def _take_call(self, call: ToolCallDelta, message_id: str, events: list[StreamEvent]) -> None:
        if call.function is None and not call.id:
            return
        self._leave(events)
        self.has_content = self.has_output = True
        self._calls.take(call, message_id, events)

    def _take_details(
        self, details: list[JsonObject], reasoning: str | None, events: list[StreamEvent]
    ) -> None:
        """Take `reasoning_details`. Show the text of `reasoning`. Without it, show their own text."""
        self._reasons_plainly = self._reasons_plainly or bool(reasoning)
        shown = reasoning or ("" if self._reasons_plainly else "".join(map(detail_text, details)))
        if shown:
            if self._kind == "thinking" and self._details.begins_another(details):
                self._leave(events)
            self._enter("thinking", events)
            events.append(ThinkingDelta(self._index, shown))
        elif details and self._kind is None and not self._calls.any_open:
            self._enter("thinking", events)
        if self._kind == "thinking":
            _add_details(self._details, details, self._index, events)
        else:
            self._late_details.extend(details)

    def _place_late_details(self, events: list[StreamEvent]) -> None:
        """Put details and signatures that came while another block was open into thinking blocks of their
        own."""
        signatures, self._late_signatures = self._late_signatures, []
        for content in signatures:
            index = next(self._indexes)
            events.extend((ContentBlockStart(index, "thinking", content), ContentBlockStop(index)))
        if not self._late_details:
            return
        late, self._late_details = self._late_details, []
        details = ReasoningDetails()
        index = next(self._indexes)
        events.append(ContentBlockStart(index, "thinking"))
        _add_details(details, late, index, events)
        events.extend((ContentDelta(index, details.content()), ContentBlockStop(index)))


def _add_details(
    collected: ReasoningDetails, details: list[JsonObject], index: int, events: list[StreamEvent]
) -> None:
    for detail in details:  # nearly always a single detail
        if signature := collected.add(detail):
            events.append(SignatureDelta(index, signature))  # noqa: PERF401


def _image(item: Any) -> Content | None:
    """Return the content of an image block for one of OpenRouter's `images`, or None for another value."""
    source = item.get("image_url") if is_object(item) else None
    url = source.get("url") if is_object(source) else source
    return read_media_url(url) if isinstance(url, str) and url else None
