"""A turn as the StreamEvents of one model call.

A turn may span several model calls, and tools that ran on the server between them. Its client sees one
answer: the text and the thinking of all steps in one message, the calls that the client has to answer, the
usage of all steps, and the stop reason of the last. Calls of tools that ran on the server, and their results,
are left out: the client would take them for calls that it has to answer. A provider's own calls are kept, and
the wire decides if it can show them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias, cast, get_args

import msgspec
from msgspec.structs import replace

from turnstream.core.answers import Answer
from turnstream.core.blocks import Block, BlockType, Content
from turnstream.core.open_block import merge_content
from turnstream.core.origin import ORIGIN
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStop,
    Metadata,
    SignatureDelta,
    StopReason,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockStart,
    BlockStop,
    Terminal,
    TurnCancelled,
    TurnComplete,
    TurnError,
)
from turnstream.core.usage import Usage
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal

_INPUT = ("input", "input_json", "input_error")
"""Fields of a complete call's content. Its arguments come as text instead."""
_OPAQUE = ("signature", "redacted")
"""Fields of thinking that a client sends back unread."""
_STOP_REASONS: dict[str, StopReason] = {"max_rounds": "max_tokens", "context_window": "max_tokens"}
"""Stop reasons of turns that no provider has. An answer that ends too early must not look complete."""
_KNOWN_REASONS = frozenset(get_args(StopReason))
CANCELLED = StreamError("model_stream", "cancelled", "the answer was stopped before it was complete")
"""The end of an answer that was stopped from elsewhere."""


BlockEvent: TypeAlias = BlockStart | BlockDelta | BlockCatchup | BlockStop


class ProjectedBlock(msgspec.Struct, frozen=True, gc=False):
    """The block that is being shown.

    Attributes:
        content: The block's content so far, with its signature.
        is_hidden: The client does not see the block.
        is_held: The client sees the block when it has ended: redacted thinking, whose origin comes last.
        has_text: Text, or a part of the arguments, was shown.
    """

    index: int
    block_type: BlockType
    content: Content = {}
    is_hidden: bool = False
    is_held: bool = False
    has_text: bool = False

    @property
    def is_plain(self) -> bool:
        """True if the next text only adds to the block. The first arguments of a call change `has_text`."""
        return not self.is_hidden and (self.has_text or self.block_type != "tool_use")


class Projection:
    """Makes the StreamEvents of a turn's events.

    Args:
        client_tools: Names of the tools that the client runs.
        block_types: Types of blocks that the dialect can show.
        seal: Seals signatures, in a dialect whose clients send thinking back. None: they are shown unsealed.
    """

    def __init__(
        self,
        client_tools: Collection[str],
        block_types: Collection[BlockType],
        seal: OriginSeal | None = None,
    ) -> None:
        self._seal = seal
        self._client_tools = frozenset(client_tools)
        self._block_types = frozenset(block_types)

    def of_block(
        self, block: ProjectedBlock | None, event: BlockEvent
    ) -> tuple[list[StreamEvent], ProjectedBlock | None]:
        """Return the StreamEvents of an event that shows a block, and the open block after it.

        Args:
            block: The block that is open before the event, or None.
        """
        match event:
            case BlockStart():
                return self._start(event.block_index, event.block_type, event.content or {})
            case BlockDelta() if block is not None and block.index == event.block_index:
                return ([], block) if block.is_hidden else _grow(block, event)
            case BlockCatchup():
                return self._catch_up(block, event)
            case BlockStop() if block is not None:
                return self._end(block, partial=event.partial), None
            case _:
                return [], block

    def answer(self, answer: Answer, end: Terminal) -> Answer:
        """Return the answer of a turn that has ended, as its client sees it.

        Args:
            answer: All blocks of the turn, with its id and model.
        """
        error: StreamError | None = None
        stop: MessageStop | None = None
        usage = Usage()
        for event in events_of_end(end):
            match event:
                case StreamError():
                    error = event
                case MessageStop():
                    stop = event
                case Metadata():
                    usage = event.usage or usage
                case _:
                    pass
        blocks = tuple(
            self._sealed_block(block)
            for block in answer.blocks
            if not self._is_hidden(block.block_type, block.content or {})
        )
        return msgspec.structs.replace(answer, blocks=blocks, stop=stop, usage=usage, error=error)

    def _start(
        self, index: int, block_type: BlockType, content: Content
    ) -> tuple[list[StreamEvent], ProjectedBlock]:
        is_hidden = self._is_hidden(block_type, content)
        is_held = not is_hidden and block_type == "thinking" and "redacted" in content
        block = ProjectedBlock(index, block_type, dict(content), is_hidden, is_held)
        if is_hidden or is_held:
            return [], block
        return [ContentBlockStart(index, block_type, _readable(content) or None)], block

    def _is_hidden(self, block_type: BlockType, content: Content) -> bool:
        if block_type not in self._block_types:
            return True
        if content.get("provider_executed"):
            return False
        if block_type == "tool_use":
            return content.get("tool_name") not in self._client_tools
        return block_type == "tool_result"

    def _catch_up(
        self, block: ProjectedBlock | None, event: BlockCatchup
    ) -> tuple[list[StreamEvent], ProjectedBlock | None]:
        content = event.content or {}
        events: list[StreamEvent] = []
        if event.block_type == "tool_use" and (event.input_partial or not content.get("input")):
            content = {name: value for name, value in content.items() if name not in _INPUT}
        # A block of which nothing was shown may have been retracted: another one has its index then.
        if block is None or block.index != event.block_index or block.is_hidden or block.is_held:
            if block is not None and block.index != event.block_index:
                events += self._end(block, partial=True)
            begun, block = self._start(event.block_index, event.block_type, content)
            events += begun
        if block.is_hidden:
            return events, None if event.complete else block
        field = "partial_json" if event.block_type == "tool_use" else "text"
        text = event.input_partial if field == "partial_json" else event.accumulated_text
        if text:
            grown, block = _grow(block, BlockDelta(block.index, block.block_type, field, text))
            events += grown
        gained, block = _gain(block, content)
        events += gained
        if event.complete:
            return [*events, *self._end(block, partial=event.partial)], None
        return events, block

    def _end(self, block: ProjectedBlock, *, partial: bool) -> list[StreamEvent]:
        """Return the events that end a block. A call without arguments gets an empty object.

        The signature of thinking comes here, whole, because its origin comes last.
        """
        if block.is_hidden:
            return []
        index, content = block.index, block.content
        events: list[StreamEvent] = []
        if block.is_held:
            shown = {**_readable(content), "redacted": self._sealed(content["redacted"], content)}
            events.append(ContentBlockStart(index, block.block_type, shown))
        if (signature := content.get("signature")) and not partial:
            events.append(SignatureDelta(index, self._sealed(signature, content)))
        if block.block_type == "tool_use" and not block.has_text and not content.get("input"):
            events.append(ToolInputDelta(index, "{}"))
        return [*events, ContentBlockStop(index)]

    def _sealed(self, signature: str, content: Content) -> str:
        origin = content.get(ORIGIN)
        return signature if self._seal is None or origin is None else self._seal.sealed(signature, origin)

    def _sealed_block(self, block: Block) -> Block:
        content = block.content
        if content is None or block.block_type != "thinking":
            return block
        opaque = {name: self._sealed(content[name], content) for name in _OPAQUE if content.get(name)}
        return replace(block, content={**_readable(content), **opaque})


def _grow(block: ProjectedBlock, event: BlockDelta) -> tuple[list[StreamEvent], ProjectedBlock]:
    """Return the events of a delta of a visible block, and the block after it."""
    if event.field == "signature":
        signature = block.content.get("signature", "") + event.value
        return [], replace(block, content={**block.content, "signature": signature})
    if event.field == "content":
        merged = dict(block.content)
        merge_content(merged, event.value)
        shown = _readable(event.value)
        return [ContentDelta(block.index, shown)] if shown else [], replace(block, content=merged)
    if not event.value:
        return [], block
    return [text_delta(block, event.value)], block if block.has_text else replace(block, has_text=True)


def text_delta(block: ProjectedBlock, text: str) -> TextDelta | ThinkingDelta | ToolInputDelta:
    """Return the event that adds text to a block."""
    match block.block_type:
        case "tool_use":
            return ToolInputDelta(block.index, text)
        case "thinking":
            return ThinkingDelta(block.index, text)
        case _:
            return TextDelta(block.index, text)


def _gain(block: ProjectedBlock, content: Content) -> tuple[list[StreamEvent], ProjectedBlock]:
    """Return the events that change the content of a block to `content`, and the block after them."""
    gained: Content = {}
    for name, value in _readable(content).items():
        known = block.content.get(name)
        if known == value:
            continue
        if isinstance(known, list) and isinstance(value, list):
            gained[name] = cast("list[Any]", value)[len(cast("list[Any]", known)) :]
        else:
            gained[name] = value
    after = replace(block, content={**block.content, **content})
    return [ContentDelta(block.index, gained)] if gained else [], after


def _readable(content: Content) -> Content:
    """Return the content without the fields that only the server understands."""
    return {name: value for name, value in content.items() if name not in _OPAQUE and name != ORIGIN}


def events_of_end(event: Terminal) -> list[StreamEvent]:
    """Return the StreamEvents of a turn's end. A turn that was stopped or has failed ends with an error."""
    match event:
        case TurnError():
            return [StreamError("internal_server", event.code, event.error)]
        case TurnCancelled():
            return [CANCELLED]
        case TurnComplete():
            stop = MessageStop(stop_reason_of(event.stop_reason), stop_sequence=event.stop_sequence or None)
            return [stop] if event.usage is None else [Metadata(event.usage), stop]


def stop_reason_of(reason: str | None) -> StopReason | None:
    """Convert the stop reason of a turn to that of a model call."""
    if reason is None or reason in _KNOWN_REASONS:
        return cast("StopReason | None", reason)
    return _STOP_REASONS.get(reason, "unknown")
