"""Encodes StreamEvents as a stream of Anthropic Messages. The inverse of the decoder.

The protocol has one block open at a time. Blocks are numbered without gaps, and each has a start and a stop.
If events interleave blocks, or omit starts and stops, the encoder puts the blocks in order by the
accumulator's rules. It omits events that the protocol cannot express: notices, redactions, and other vendors'
metadata.
"""

from __future__ import annotations

from typing import Any

from turnstream.core.blocks import BlockType, Content
from turnstream.core.sse import encode_event
from turnstream.core.stream_events import (
    MessageStart,
    MessageStop,
    Metadata,
    StreamError,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.wires.anthropic.blocks import dump_block
from turnstream.wires.anthropic.errors import ERRORS
from turnstream.wires.anthropic.stop_reasons import dump_stop_reason
from turnstream.wires.anthropic.usage import dump_usage
from turnstream.wires.shared.answer_writer import BlockEncoder
from turnstream.wires.shared.lenient_json import encode_json

_DELTA_FIELDS = frozenset({"container", "stop_details"})
_EVENT_FIELDS = frozenset({"context_management", "input_transformations"})


def _delta_template(kind: bytes, field: bytes) -> bytes:
    event = b'{"type":"content_block_delta","index":%%d,"delta":{"type":"%b","%b":%%b}}' % (kind, field)
    return encode_event(event, event=b"content_block_delta")


_DELTAS = {
    TextDelta: _delta_template(b"text_delta", b"text"),
    ThinkingDelta: _delta_template(b"thinking_delta", b"thinking"),
    ToolInputDelta: _delta_template(b"input_json_delta", b"partial_json"),
}
"""Frames of the most frequent events. Placeholders are the block's number and the text."""


class _MessagesBlock:
    """A block that has begun. Its frames wait in `waiting` while an earlier block is open."""

    __slots__ = ("block_type", "implicit", "kind", "number", "stopped", "waiting")

    def __init__(self, number: int, block_type: BlockType, kind: str, *, implicit: bool) -> None:
        self.number = number
        self.block_type: BlockType = block_type
        self.kind = kind
        self.implicit = implicit
        self.stopped = False
        self.waiting: list[bytes] = []


class AnthropicEncoder(BlockEncoder[_MessagesBlock]):
    """Encodes one streamed answer.

    Without a MessageStop the message has no end, like one that a provider cut off.
    """

    def __init__(self, *, model: str, message_id: str) -> None:
        super().__init__()
        self._pending_start: MessageStart | None = MessageStart(message_id, model)
        self._usage: dict[str, Any] = {}
        self._metadata: dict[str, Any] = {}
        self._order: list[_MessagesBlock] = []

    def _write_end(self, stop: MessageStop) -> None:
        for block in list(self._order):
            self._stop_block(block)
        delta = {"stop_reason": dump_stop_reason(stop), "stop_sequence": stop.stop_sequence}
        self._write(
            "message_delta",
            {
                "type": "message_delta",
                "delta": delta | {k: v for k, v in self._metadata.items() if k in _DELTA_FIELDS},
                "usage": {"output_tokens": 0, **self._usage},
                **{k: v for k, v in self._metadata.items() if k in _EVENT_FIELDS},
            },
        )
        self._write("message_stop", {"type": "message_stop"})

    def _write_error(self, event: StreamError) -> None:
        self._write("error", ERRORS.dump_error(event))

    def _take_start(self, event: MessageStart) -> None:
        if self._pending_start is not None:
            given = self._pending_start
            self._pending_start = MessageStart(event.id or given.id, event.model or given.model, event.role)

    def _write_text(self, block: _MessagesBlock, event: TextDelta | ThinkingDelta | ToolInputDelta) -> None:
        text = event.partial_json if isinstance(event, ToolInputDelta) else event.text
        self._write_block(block, _DELTAS[type(event)] % (block.number, encode_json(text)))

    def _write_signature(self, block: _MessagesBlock, signature: str) -> None:
        self._write_delta(block, {"type": "signature_delta", "signature": signature})

    def _write_content(self, block: _MessagesBlock, content: Content) -> None:
        if block.block_type == "provider" and "deltas" not in content:
            self._write_delta(block, {"type": f"{block.kind}_delta", **content})
            return
        for citation in content.get("citations") or ():
            self._write_delta(block, {"type": "citations_delta", "citation": citation})
        for delta in content.get("deltas") or ():
            self._write_delta(block, delta)

    def _keep_metadata(self, event: Metadata) -> None:
        if self._usage or self._metadata:
            self._write_start()
        self._usage |= dump_usage(event.usage, event.raw)
        if event.provider_metadata is not None:
            self._metadata |= event.provider_metadata

    def _start_block(self, block_type: BlockType, content: Content, *, implicit: bool) -> _MessagesBlock:
        raw = dump_block(block_type, content)
        block = _MessagesBlock(self._next_number, block_type, str(raw["type"]), implicit=implicit)
        self._next_number += 1
        self._order.append(block)
        start = {"type": "content_block_start", "index": block.number, "content_block": raw}
        self._write_block(block, _frame("content_block_start", start))
        return block

    def _stop_block(self, block: _MessagesBlock) -> None:
        """Stop a block. If it was the first open one, write the frames that waited behind it."""
        if not block.stopped:
            block.stopped = True
            stop = {"type": "content_block_stop", "index": block.number}
            self._write_block(block, _frame("content_block_stop", stop))
        while self._order and self._order[0].stopped:
            self._order.pop(0)
            if self._order:
                self._out.extend(self._order[0].waiting)
                self._order[0].waiting.clear()

    def _write_delta(self, block: _MessagesBlock, delta: dict[str, Any]) -> None:
        event = {"type": "content_block_delta", "index": block.number, "delta": delta}
        self._write_block(block, _frame("content_block_delta", event))

    def _write_block(self, block: _MessagesBlock, frame: bytes) -> None:
        (self._out if block is self._order[0] else block.waiting).append(frame)

    def _write_start(self) -> None:
        """Write `message_start` before anything else, with the usage that has arrived so far."""
        start = self._pending_start
        if start is None:
            return
        self._pending_start = None
        message: dict[str, Any] = {
            "id": start.id,
            "type": "message",
            "role": start.role,
            "model": start.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0, **self._usage},
        }
        known = {k: v for k, v in self._metadata.items() if k in _DELTA_FIELDS | _EVENT_FIELDS}
        self._usage = {key: self._usage[key] for key in ("output_tokens",) if key in self._usage}
        self._metadata = {}
        self._write("message_start", {"type": "message_start", "message": message | known})

    def _write(self, name: str, value: dict[str, Any]) -> None:
        self._out.append(_frame(name, value))


def _frame(name: str, value: dict[str, Any]) -> bytes:
    return encode_event(encode_json(value), event=name.encode())
