"""Encodes StreamEvents as the events of a Responses stream, in OpenAI's format and valid for its SDK.

Content without a field in this API is left out: signatures and redacted thinking of other vendors, calls and
results of their servers, their raw blocks, and notices. Adjacent blocks with the same item id in
`provider_metadata.responses` are parts of one item.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.wires.openai_responses.stop_reasons import COMPLETED, dump_stop_reason
from turnstream.wires.openai_responses.usage import dump_usage
from turnstream.wires.openai_responses.written_items import WrittenBlock, WrittenItem, open_block
from turnstream.wires.shared.answer_writer import AnswerWriter
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import encode_json, encode_text
from turnstream.wires.shared.openai_errors import ERRORS


class OpenAIResponsesEncoder(AnswerWriter):
    """Encodes one response. `model` and `message_id` are defaults for a message start without them."""

    def __init__(self, *, model: str, message_id: str, background: bool = False) -> None:
        super().__init__(model=model, message_id=message_id)
        self._background = background
        self._created = int(time.time())
        self._frames: list[bytes] = []
        self._sequence = 0
        self._begun = False
        self._blocks: dict[int, WrittenBlock] = {}
        self._held: WrittenItem | None = None
        self._items: list[WrittenItem] = []

    @property
    def response(self) -> JsonObject:
        """Response object in its current state."""
        reason = None if self._stop is None else dump_stop_reason(self._stop)
        ended = COMPLETED if reason is None else "incomplete"
        return {
            "id": self._message_id,
            "object": "response",
            "created_at": self._created,
            "status": "in_progress" if self._stop is None else ended,
            "background": self._background,
            "error": None,
            "incomplete_details": None if reason is None else {"reason": reason},
            "instructions": None,
            "max_output_tokens": None,
            "metadata": {},
            "model": self._model,
            "output": [item.raw for item in self._items if item.ended],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": self._background,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None if self._stop is None else dump_usage(self._usage, self._raw_usage),
        }

    def feed(self, events: Iterable[StreamEvent]) -> bytes:
        """Return the bytes of `events`."""
        frames = self._frames = []
        blocks = self._blocks
        for event in events:
            if isinstance(event, TextDelta | ThinkingDelta | ToolInputDelta):
                block = blocks.get(event.index)
                if block is not None and self._held is None:
                    text = event.partial_json if isinstance(event, ToolInputDelta) else event.text
                    if block.head is None:
                        self._begin_part(block)
                        if block.head is None:
                            continue  # the block was whole at its start
                    block.texts.append(text)
                    frames.append(
                        b"%b%b,%b%d}\n\n" % (block.head, encode_text(text), block.tail, self._sequence)
                    )
                    self._sequence += 1
                    continue
            self._encode_rare(event)
        return b"".join(frames)

    def close(self) -> bytes:
        """Return the end of a stopped message, or nothing after an error or without a stop."""
        frames = self._frames = []
        if self._stop is not None and not self._failed:
            response = self.response
            self._write(f"response.{response['status']}", {"response": response})
        return b"".join(frames)

    def finish(self) -> JsonObject:
        """End all items, and return the response object."""
        self._end_all()
        return self.response

    def _encode_rare(self, event: StreamEvent) -> None:
        if isinstance(event, Metadata):
            self._count(event)
            return
        if isinstance(event, MessageStart):
            self._take_names(event)
        if not self._begun:
            self._begun = True
            self._write("response.created", {"response": self.response})
            self._write("response.in_progress", {"response": self.response})
        match event:
            case ContentBlockStart():
                self._start_block(event)
            case ContentDelta() if (block := self._blocks.get(event.index)) is not None:
                for name, fields in block.amend(event.content):
                    self._write(name, fields)
            case ContentBlockStop() if (block := self._blocks.pop(event.index, None)) is not None:
                self._stop_block(block)
            case TextDelta() | ThinkingDelta() | ToolInputDelta() if event.index in self._blocks:
                self._release()
                self._frames.append(self._held_delta(event))
            case MessageStop():
                self._end_all()
                self._stop = event
            case StreamError():
                self._failed = True
                self._write("error", ERRORS.dump_error(event))
            case _:
                pass

    def _held_delta(self, event: StreamEvent) -> bytes:
        """Return the bytes of a delta that came while an item was held."""
        frames = self._frames
        written = self.feed((event,))
        self._frames = frames
        return written

    def _start_block(self, event: ContentBlockStart) -> None:
        if (old := self._blocks.pop(event.index, None)) is not None:
            self._stop_block(old)
        held = self._held
        block = open_block(event, held, len(self._items), self._message_id)
        if block is None or block.item is not held:
            self._release()
        if block is None:
            return
        if block.item is not held:
            self._items.append(block.item)
            self._write("response.output_item.added", block.item.place({"item": block.item.begun()}))
        self._held = None
        self._blocks[event.index] = block
        if block.starts_at_once:
            self._begin_part(block)
        for name, fields in block.amend({"citations": (event.content or {}).get("citations") or []}):
            self._write(name, fields)

    def _begin_part(self, block: WrittenBlock) -> None:
        for name, fields in block.begin():
            self._write(name, fields)

    def _stop_block(self, block: WrittenBlock) -> None:
        for name, fields in block.end():
            self._write(name, fields)
        if block.item.open_parts:
            return
        if block.item.may_continue:
            self._release()
            self._held = block.item
        else:
            self._end_item(block.item)

    def _release(self) -> None:
        """End the held item: it has no further part."""
        if self._held is not None:
            item, self._held = self._held, None
            self._end_item(item)

    def _end_item(self, item: WrittenItem) -> None:
        item.ended = True
        self._write("response.output_item.done", item.place({"item": item.raw}))

    def _end_all(self) -> None:
        for index in list(self._blocks):
            self._stop_block(self._blocks.pop(index))
        self._release()

    def _write(self, name: str, fields: JsonObject) -> None:
        body = encode_json({"type": name, **fields, "sequence_number": self._sequence})
        self._frames.append(b"event: %b\ndata: %b\n\n" % (name.encode(), body))
        self._sequence += 1
