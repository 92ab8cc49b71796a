"""Encodes StreamEvents as a stream of Anthropic Messages. The inverse of the decoder.

The protocol has one block open at a time. Blocks are numbered without gaps, and each has a start and a stop.
If events interleave blocks, or omit starts and stops, the encoder puts the blocks in order by the
accumulator's rules. It omits what the protocol cannot express: notices, redactions, other vendors' metadata
of the message, and the calls and results of their own tools.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from turnstream.core.blocks import BlockType, Content
from turnstream.core.sse import encode_event
from turnstream.core.stream_events import (
    ContentBlockStart,
    MessageStart,
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.wires.anthropic.blocks import dump_block, is_expressible
from turnstream.wires.anthropic.errors import ERRORS
from turnstream.wires.anthropic.stop_reasons import dump_stop
from turnstream.wires.anthropic.usage import dump_usage
from turnstream.wires.base import DeltaFrame
from turnstream.wires.shared.answer_writer import BlockEncoder
from turnstream.wires.shared.lenient_json import encode_json

_DELTA_FIELDS = frozenset({"container", "stop_details"})
_EVENT_FIELDS = frozenset({"context_management", "input_transformations"})


def _delta_template(kind: bytes, field: bytes) -> DeltaFrame:
    event = b'{"type":"content_block_delta","index":%%d,"delta":{"type":"%b","%b":TEXT}}' % (kind, field)
    head, _, tail = encode_event(event, event=b"content_block_delta").partition(b"TEXT")
    return DeltaFrame(head, tail)


_DELTAS = {
    TextDelta: _delta_template(b"text_delta", b"text"),
    ThinkingDelta: _delta_template(b"thinking_delta", b"thinking"),
    ToolInputDelta: _delta_template(b"input_json_delta", b"partial_json"),
}
"""Frames of the most frequent events, around the text. The head has a placeholder for the block's number."""
_DELTA_OF: dict[BlockType, type[TextDelta | ThinkingDelta | ToolInputDelta]] = {
    "text": TextDelta,
    "thinking": ThinkingDelta,
    "tool_use": ToolInputDelta,
}


class _MessagesBlock(NamedTuple):
    """A block that has begun."""

    number: int
    block_type: BlockType
    kind: str
    implicit: bool


class AnthropicEncoder(BlockEncoder[_MessagesBlock]):
    """Encodes one streamed answer.

    Without a MessageStop the message has no end, like one that a provider cut off.

    Args:
        model: Model of a message start without one.
        message_id: Id of a message start without one.
        request_id: Id of the request, for errors. None: errors have none.
        stop_sequence: Stop sequence of an end that does not name its own, or None.

    Attributes:
        _waiting: Frames of the blocks that have begun and are not written to their end, by number, in order.
            Frames of the first block are written at once, so it has none here.
        _stopped: Numbers of those blocks that have stopped.
        _omitted: Indexes of open blocks that the protocol cannot express.
    """

    def __init__(
        self,
        *,
        model: str,
        message_id: str,
        request_id: str | None = None,
        stop_sequence: str | None = None,
    ) -> None:
        super().__init__()
        self._request_id = request_id
        self._stop_sequence = stop_sequence
        self._pending_start: MessageStart | None = MessageStart(message_id, model)
        self._usage: dict[str, Any] = {}
        self._metadata: dict[str, Any] = {}
        self._waiting: dict[int, list[bytes]] = {}
        self._stopped: frozenset[int] = frozenset()
        self._omitted: frozenset[int] = frozenset()

    def fork(self) -> Self:
        """Return an independent encoder in the same state."""
        other = object.__new__(type(self))
        waiting = {number: list(frames) for number, frames in self._waiting.items()}
        vars(other).update(vars(self), _blocks=dict(self._blocks), _out=[], _waiting=waiting)
        return other

    def delta_frame(self, index: int, block_type: BlockType) -> DeltaFrame | None:
        """Return the bytes around the next deltas of an open block. See `ForkingEncoder`."""
        block = self._blocks.get(index)
        if block is None or block.block_type != block_type or not self._is_first(block):
            return None
        delta = _DELTA_OF.get(block_type)
        if delta is None:
            return None
        frame = _DELTAS[delta]
        return DeltaFrame(frame.head % block.number, frame.tail)

    def _encode(self, event: StreamEvent) -> None:
        if isinstance(event, ContentBlockStart):
            is_shown = is_expressible(event.block_type, event.content)
            self._omitted = self._omitted - {event.index} if is_shown else self._omitted | {event.index}
        if not self._omitted or getattr(event, "index", None) not in self._omitted:
            super()._encode(event)

    def _write_end(self, stop: MessageStop) -> None:
        for block in list(self._blocks.values()):
            self._stop_block(block)
        delta = dump_stop(stop, self._stop_sequence)
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
        request = {} if self._request_id is None else {"request_id": self._request_id}
        self._write("error", ERRORS.dump_error(event) | request)

    def _take_start(self, event: MessageStart) -> None:
        if self._pending_start is not None:
            given = self._pending_start
            self._pending_start = MessageStart(event.id or given.id, event.model or given.model, event.role)

    def _write_text(self, block: _MessagesBlock, event: TextDelta | ThinkingDelta | ToolInputDelta) -> None:
        text = event.partial_json if isinstance(event, ToolInputDelta) else event.text
        frame = _DELTAS[type(event)]
        self._write_block(block, b"%b%b%b" % (frame.head % block.number, encode_json(text), frame.tail))

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
        self._usage = self._usage | dump_usage(event.usage, event.raw)
        if event.provider_metadata is not None:
            self._metadata = self._metadata | event.provider_metadata

    def _start_block(self, block_type: BlockType, content: Content, *, implicit: bool) -> _MessagesBlock:
        raw = dump_block(block_type, content)
        block = _MessagesBlock(self._next_number, block_type, str(raw["type"]), implicit)
        self._next_number += 1
        self._waiting[block.number] = []
        start = {"type": "content_block_start", "index": block.number, "content_block": raw}
        self._write_block(block, _frame("content_block_start", start))
        return block

    def _stop_block(self, block: _MessagesBlock) -> None:
        """Stop a block. If it was the first one, write the frames that waited behind it."""
        stop = {"type": "content_block_stop", "index": block.number}
        self._write_block(block, _frame("content_block_stop", stop))
        self._stopped |= {block.number}
        while (first := next(iter(self._waiting), None)) in self._stopped:
            self._waiting.pop(first)
            self._stopped -= {first}
            if (following := next(iter(self._waiting), None)) is not None:
                self._out.extend(self._waiting[following])
                self._waiting[following].clear()

    def _write_delta(self, block: _MessagesBlock, delta: dict[str, Any]) -> None:
        event = {"type": "content_block_delta", "index": block.number, "delta": delta}
        self._write_block(block, _frame("content_block_delta", event))

    def _write_block(self, block: _MessagesBlock, frame: bytes) -> None:
        if self._is_first(block):
            self._out.append(frame)
        else:
            self._waiting[block.number].append(frame)

    def _is_first(self, block: _MessagesBlock) -> bool:
        """Return True if the block is the one that is being written."""
        return next(iter(self._waiting), None) == block.number

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
