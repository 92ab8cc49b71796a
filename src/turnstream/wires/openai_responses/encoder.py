"""Encodes StreamEvents as the events of a Responses stream, in OpenAI's format and valid for its SDK.

Content without a field in this API is left out: signatures and redacted thinking of other vendors, calls and
results of their servers, their raw blocks, and notices. Adjacent blocks with the same item id in
`provider_metadata.responses` are parts of one item.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Self

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
from turnstream.wires.openai_responses.written_items import (
    DELTA_TAIL,
    WrittenBlock,
    WrittenEvents,
    WrittenItem,
    open_block,
    result_block,
)
from turnstream.wires.shared.answer_writer import AnswerWriter
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import encode_json, encode_text
from turnstream.wires.shared.openai_errors import ERRORS


class OpenAIResponsesEncoder(AnswerWriter):
    """Encodes one response.

    Events are numbered from 0, each with the next number. A server that resumes streams counts the characters
    of deltas too: then the number of an event does not depend on how the text is divided into deltas.

    Args:
        model: Model of a message start without one.
        message_id: Id of a message start without one. Ids of items are derived from it.
        background: True for a response that the provider stores.
        fields: Fields of the response object that replace the default ones.
        created: Seconds since the epoch. None: now.
        counts_text: True to count each character of a delta.
    """

    def __init__(  # noqa: PLR0913 - the facts of a response that its stream does not hold
        self,
        *,
        model: str,
        message_id: str,
        background: bool = False,
        fields: JsonObject | None = None,
        created: int | None = None,
        counts_text: bool = False,
    ) -> None:
        super().__init__(model=model, message_id=message_id)
        self._background = background
        self._fields = fields or {}
        self._created = int(time.time()) if created is None else created
        self._counts_text = counts_text
        self._frames: list[bytes] = []
        self._sequence = 0
        self._sent = -1
        self._begun = False
        self._ending: JsonObject = {}
        self._blocks: dict[int, WrittenBlock] = {}
        self._held: WrittenItem | None = None
        self._called: dict[str, WrittenItem] = {}
        self._items: list[WrittenItem] = []

    @property
    def response(self) -> JsonObject:
        """Response object in its current state."""
        reason = None if self._stop is None else dump_stop_reason(self._stop)
        ended = COMPLETED if reason is None else "incomplete"
        has_ended = self._stop is not None or bool(self._ending)
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
            "usage": dump_usage(self._usage, self._raw_usage) if has_ended else None,
            **self._fields,
            **self._ending,
        }

    @property
    def item_blocks(self) -> list[tuple[int, ...]]:
        """Indexes of the blocks of each output item."""
        return [item.indexes for item in self._items]

    @property
    def next_number(self) -> int:
        """Number of the next event or, if characters count, of the next character."""
        return self._sequence

    def number_from(self, number: int) -> None:
        """Number the next event `number`."""
        self._sequence = number

    def leave_out(self, number: int) -> None:
        """Leave out the events, and the characters of a delta, up to `number`. The client has them."""
        self._sent = number

    def fork(self) -> Self:
        """Return an independent encoder in the same state."""
        other = super().fork()
        open_items = [block.item for block in self._blocks.values()] + [*self._called.values()]
        if self._held is not None:
            open_items.append(self._held)
        copies = {item.output_index: item.copy() for item in open_items}
        items = list(self._items)
        for place, item in copies.items():
            items[place] = item
        held, called, blocks = self._held, self._called, self._blocks
        other.__dict__.update(
            _items=items,
            _blocks={
                index: block.of_copy(copies[block.item.output_index]) for index, block in blocks.items()
            },
            _held=None if held is None else copies[held.output_index],
            _called={identity: copies[item.output_index] for identity, item in called.items()},
        )
        return other

    def delta_head(self, index: int) -> bytes | None:
        """Return the bytes of the next delta of a block before its text. `DELTA_TAIL` and a number follow it.

        Return None if the delta changes more than the text and the number. Then `feed` must write it.
        """
        block = self._blocks.get(index)
        if block is None or self._held is not None or self._sequence <= self._sent:
            return None
        return block.head

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
                    self._write_delta(block, text)
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

    def end(self, *, number: int | None = None, **fields: Any) -> bytes:
        """End all items and the response, and return the bytes. The status names the last event.

        Args:
            number: Number of the last event. None: the next one.
            fields: Fields of the response object, such as the status and the error of a failed response.
        """
        frames = self._frames = []
        self._begin()
        response = self.finish(**fields)
        if number is not None:
            self._sequence = number
        status = response["status"]
        name = status if status in (COMPLETED, "incomplete") else "failed"
        self._write(f"response.{name}", {"response": response})
        return b"".join(frames)

    def finish(self, **fields: Any) -> JsonObject:
        """End all items, and return the response object. `fields`: see `end`."""
        self._end_all()
        self._ending = fields
        return self.response

    def fail(self, fields: JsonObject) -> bytes:
        """Return the bytes of an `error` event, which ends the stream and not the response."""
        frames = self._frames = []
        self._write("error", fields)
        return b"".join(frames)

    def cut(self, index: int) -> None:
        """Mark the item of an open block as cut off."""
        if (block := self._blocks.get(index)) is not None:
            block.item.cut()

    def _encode_rare(self, event: StreamEvent) -> None:
        if isinstance(event, Metadata):
            self._count(event)
            return
        if isinstance(event, MessageStart):
            self._take_names(event)
        self._begin()
        match event:
            case ContentBlockStart():
                self._start_block(event)
            case ContentDelta() if (block := self._blocks.get(event.index)) is not None:
                block.amend(event.content)
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

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._write("response.created", {"response": self.response})
            self._write("response.in_progress", {"response": self.response})

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
        called = self._answered(event)
        if called is not None:
            block: WrittenBlock | None = result_block(called, event.content or {})
        else:
            block = open_block(event, held, len(self._items), self._message_id)
        if block is None or block.item is not held:
            self._release()
        if block is None:
            return
        if block.item is not held and block.item is not called:
            self._items.append(block.item)
            self._write("response.output_item.added", block.item.place({"item": block.item.begun()}))
            self._write_all(block.item.in_progress())
        self._held = None
        block.item.indexes += (event.index,)
        self._blocks[event.index] = block
        if block.starts_at_once:
            self._begin_part(block)

    def _answered(self, event: ContentBlockStart) -> WrittenItem | None:
        """Return the call whose result begins, or None."""
        identity = str((event.content or {}).get("tool_use_id"))
        return self._called.pop(identity, None) if event.block_type == "tool_result" else None

    def _begin_part(self, block: WrittenBlock) -> None:
        self._write_all(block.begin())

    def _stop_block(self, block: WrittenBlock) -> None:
        self._write_all(block.end())
        item = block.item
        if item.open_parts:
            return
        if item.awaits_result:
            identity = str(item.raw.get("id"))
            if (unanswered := self._called.pop(identity, None)) is not None:
                self._end_item(unanswered)
            self._called[identity] = item
        elif item.may_continue:
            self._release()
            self._held = item
        else:
            self._end_item(item)

    def _release(self) -> None:
        """End the held item: it has no further part."""
        if self._held is not None:
            item, self._held = self._held, None
            self._end_item(item)

    def _end_item(self, item: WrittenItem) -> None:
        item.ended = True
        self._write_all(item.outcome())
        self._write("response.output_item.done", item.place({"item": item.raw}))

    def _end_all(self) -> None:
        for index in list(self._blocks):
            self._stop_block(self._blocks.pop(index))
        self._release()
        for identity in list(self._called):
            self._end_item(self._called.pop(identity))

    def _write_all(self, written: WrittenEvents) -> None:
        for name, fields in written:
            self._write(name, fields)

    def _write_delta(self, block: WrittenBlock, text: str) -> None:
        first = self._sequence
        self._sequence += len(text) if self._counts_text else 1
        if self._sequence <= self._sent + 1:
            return
        if first <= self._sent:
            text = text[self._sent + 1 - first :]
        number = self._sequence - 1
        self._frames.append(b"%b%b%b%d}\n\n" % (block.head, encode_text(text), DELTA_TAIL, number))

    def _write(self, name: str, fields: JsonObject) -> None:
        number = self._sequence
        self._sequence += 1
        if number > self._sent:
            body = encode_json({"type": name, **fields, "sequence_number": number})
            self._frames.append(b"event: %b\ndata: %b\n\n" % (name.encode(), body))
