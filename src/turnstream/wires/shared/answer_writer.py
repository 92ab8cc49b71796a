"""Base classes of encoders for streamed answers, with and without blocks in the protocol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, Self, TypeVar, assert_never

from turnstream.core.blocks import BlockType, Content
from turnstream.core.origin import ORIGIN
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    RedactContent,
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.wires.shared.json_values import JsonObject


class AnswerWriter:
    """Base of encoders for protocols without blocks: names, usage and the end of the answer.

    `model` and `message_id` are defaults for a message start without them.
    """

    def __init__(self, *, model: str, message_id: str) -> None:
        self._model = model
        self._message_id = message_id
        self._stop: MessageStop | None = None
        self._failed = False
        self._usage: Usage | None = None
        self._raw_usage: JsonObject | None = None

    def fork(self) -> Self:
        """Return an independent encoder in the same state. Subclasses copy what they change in place."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def _take_names(self, event: MessageStart) -> None:
        self._message_id = event.id or self._message_id
        self._model = event.model or self._model

    def _count(self, event: Metadata) -> None:
        if event.usage is not None:
            self._usage = (self._usage or Usage()).updated(event.usage)
        if event.raw is not None:
            self._raw_usage = {**(self._raw_usage or {}), **event.raw}


class NumberedBlock(Protocol):
    """A block that has begun. `implicit` is True if the block had no start of its own."""

    @property
    def block_type(self) -> BlockType: ...
    @property
    def implicit(self) -> bool: ...


BlockT = TypeVar("BlockT", bound=NumberedBlock)
_IMPLIED: dict[type, BlockType] = {TextDelta: "text", ThinkingDelta: "thinking", ToolInputDelta: "tool_use"}


class BlockEncoder(Generic[BlockT]):
    """Base of encoders for protocols with numbered blocks. See `wires.base.Encoder`.

    If events omit starts and stops, the blocks begin and end by the accumulator's rules. Notices are omitted.
    """

    def __init__(self) -> None:
        self._stop: MessageStop | None = None
        self._failed = False
        self._blocks: dict[int, BlockT] = {}
        self._next_number = 0
        self._out: list[bytes] = []

    def feed(self, events: Iterable[StreamEvent]) -> bytes:
        for event in events:
            if self._failed:
                break
            self._encode(event)
        return self._take()

    def close(self) -> bytes:
        """Return the end of the message, or b"" if it was cut off or has failed. Never raises.

        The end is written here, because usage may arrive after the stop.
        """
        if self._stop is None or self._failed:
            return b""
        self._write_start()
        self._write_end(self._stop)
        return self._take()

    def _encode(self, event: StreamEvent) -> None:
        match event:
            case TextDelta() | ThinkingDelta() | ToolInputDelta():
                self._encode_delta(event)
            case MessageStart():
                self._take_start(event)
            case Metadata():
                self._keep_metadata(event)
            case ContentBlockStart():
                self._stop_open(event.index)
                self._start(event.index, event.block_type, event.content or {}, implicit=False)
            case ContentBlockStop():
                self._stop_open(event.index)
            case SignatureDelta():
                self._write_signature(self._open_block(event.index, "thinking"), event.signature)
            case ContentDelta():
                if event.content.keys() != {ORIGIN}:
                    self._write_content(self._open_block(event.index, "provider"), event.content)
            case MessageStop():
                self._stop = event
            case StreamError():
                self._write_start()
                self._write_error(event)
                self._failed = True
            case RedactContent():
                self._write_redaction(event)
            case StreamNotice():
                pass
            case _:
                assert_never(event)

    def _encode_delta(self, event: TextDelta | ThinkingDelta | ToolInputDelta) -> None:
        implied = _IMPLIED[type(event)]
        block = self._open_block(event.index, implied)
        if block.block_type != implied and (
            implied != "text" or block.block_type in ("thinking", "tool_use")
        ):
            block = self._open_implicitly(event.index, implied)
        self._write_text(block, event)

    def _open_block(self, index: int, implied: BlockType) -> BlockT:
        return self._blocks.get(index) or self._open_implicitly(index, implied)

    def _open_implicitly(self, index: int, block_type: BlockType) -> BlockT:
        for other, block in list(self._blocks.items()):
            if block.implicit or other == index:
                self._stop_open(other)
        return self._start(index, block_type, {}, implicit=True)

    def _start(self, index: int, block_type: BlockType, content: Content, *, implicit: bool) -> BlockT:
        self._write_start()
        block = self._blocks[index] = self._start_block(block_type, content, implicit=implicit)
        return block

    def _stop_open(self, index: int) -> None:
        if (block := self._blocks.pop(index, None)) is not None:
            self._stop_block(block)

    def _take(self) -> bytes:
        data = b"".join(self._out)
        self._out.clear()
        return data

    def _take_start(self, event: MessageStart) -> None:
        raise NotImplementedError

    def _keep_metadata(self, event: Metadata) -> None:
        raise NotImplementedError

    def _write_start(self) -> None:
        """Write the start of the message, once."""
        raise NotImplementedError

    def _write_end(self, stop: MessageStop) -> None:
        raise NotImplementedError

    def _write_error(self, event: StreamError) -> None:
        raise NotImplementedError

    def _write_redaction(self, event: RedactContent) -> None:
        """Write a redaction, if the protocol has one."""

    def _start_block(self, block_type: BlockType, content: Content, *, implicit: bool) -> BlockT:
        raise NotImplementedError

    def _stop_block(self, block: BlockT) -> None:
        raise NotImplementedError

    def _write_text(self, block: BlockT, event: TextDelta | ThinkingDelta | ToolInputDelta) -> None:
        raise NotImplementedError

    def _write_signature(self, block: BlockT, signature: str) -> None:
        raise NotImplementedError

    def _write_content(self, block: BlockT, content: Content) -> None:
        raise NotImplementedError
