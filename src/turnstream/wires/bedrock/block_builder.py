"""Builds blocks from the deltas of one Converse stream, which rarely says where a block begins.

Every block gets a start with the first delta of its index, and a stop at the latest with the model's stop.
"""

from __future__ import annotations

from typing import Any

from turnstream.core.blocks import BlockType, Content
from turnstream.core.bounds import DEFAULT_MAX_LENGTH, too_large
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    SignatureDelta,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.wires.bedrock.guardrail import SentText
from turnstream.wires.bedrock.media import Base64Pieces, media_type_of
from turnstream.wires.bedrock.tools import input_text, opens_block, parse_result_start, parse_use_start
from turnstream.wires.shared.histories import as_metadata
from turnstream.wires.shared.json_values import JsonObject, is_object, text_in, without
from turnstream.wires.shared.lenient_json import replace_surrogates

_PARTS: dict[str, tuple[BlockType, type]] = {
    "text": ("text", str),
    "toolUse": ("tool_use", dict),
    "reasoningContent": ("thinking", dict),
    "citation": ("text", object),
    "toolResult": ("tool_result", list),
    "image": ("image", dict),
}
"""Block type and value type of each field of a delta."""
_MAY_CONTINUE = frozenset({"text", "thinking", "tool_use"})
"""Block types whose stop is held, because gateways send more of their deltas after it."""


class ConverseBlocks:
    """The blocks of one message by index.

    `has_output` is True once a block other than thinking has begun. `sent` is the text so far.
    """

    def __init__(self) -> None:
        self.has_output = False
        self.sent = SentText()
        self._open: dict[int, BlockType] = {}
        self._ended: dict[int, BlockType] = {}
        self._stopping: int | None = None
        """Index of the block whose stop is held until the next event that is not one of its deltas.

        Some gateways send more of a block after its stop.
        """
        self._bytes: dict[int, Base64Pieces] = {}
        self._bytes_left = DEFAULT_MAX_LENGTH

    @property
    def have_begun(self) -> bool:
        """True once a block has begun."""
        return bool(self._open or self._ended)

    def stop_all(self, events: list[StreamEvent]) -> None:
        """Stop every open block."""
        for index in list(self._open):
            self._stop(index, events)

    def break_off(self, events: list[StreamEvent]) -> None:
        """Add the bytes received for open blocks. The stream has failed, so no more will arrive."""
        for index, block_type in self._open.items():
            events += self._bytes_of(index, block_type)

    def take_start(self, index: int, start: JsonObject, events: list[StreamEvent]) -> None:
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

    def take_delta(self, index: int, delta: JsonObject, events: list[StreamEvent]) -> None:
        if index != self._stopping:
            self.flush(events)
        if self._open.get(index) == "provider":
            events.append(ContentDelta(index, {"deltas": [replace_surrogates(delta)]}))
            return
        for name, value in delta.items():
            if value is not None:
                self._decode_part(index, name, value, events)

    def _decode_part(self, index: int, name: str, value: Any, events: list[StreamEvent]) -> None:
        block_type, shape = _PARTS.get(name, ("provider", object))
        if block_type == "provider" or not isinstance(value, shape):
            if index not in self._open:
                self._start(index, "provider", None, events)
            events.append(ContentDelta(index, {"deltas": [replace_surrogates({name: value})]}))
        elif self._expect(index, block_type, name, value, events):
            match name:
                case "text":
                    events.append(TextDelta(index, value))
                    self.sent.add(value)
                case "toolUse":
                    events.append(ToolInputDelta(index, input_text(value)))
                case "reasoningContent":
                    self._decode_reasoning(index, value, events)
                case "citation":
                    events.append(ContentDelta(index, {"citations": [replace_surrogates(value)]}))
                case "toolResult":
                    events.append(ContentDelta(index, {"content": replace_surrogates(value)}))
                case _:
                    self._decode_image(index, replace_surrogates(value), events)

    def _decode_reasoning(self, index: int, reasoning: JsonObject, events: list[StreamEvent]) -> None:
        for name, value in reasoning.items():
            match name:
                case "text" if isinstance(value, str):
                    events.append(ThinkingDelta(index, value))
                case "signature" if isinstance(value, str):
                    events.append(SignatureDelta(index, replace_surrogates(value)))
                case "redactedContent" if isinstance(value, str):
                    self._add_bytes(index, value)
                case _:
                    events.append(ContentDelta(index, {"deltas": [replace_surrogates({name: value})]}))

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
        """Keep bytes until their block stops: they may arrive in pieces, and a part is useless.

        Raises ValueError if a piece is not base64, and StreamBroken if the message has too many.
        """
        self._bytes.setdefault(index, Base64Pieces()).add(data)
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise too_large(DEFAULT_MAX_LENGTH)

    def _expect(
        self, index: int, block_type: BlockType, name: str, value: Any, events: list[StreamEvent]
    ) -> bool:
        """Return True if a delta belongs to the block at its index. Start that block if it is not open.

        An empty delta does not replace an open block of another type, and no delta interrupts a tool call.
        Add a notice to `events` if a delta with content is dropped.
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

    def stop_soon(self, index: int, events: list[StreamEvent]) -> None:
        if self._open.get(index) in _MAY_CONTINUE:
            self._stopping = index
        else:
            self._stop(index, events)

    def flush(self, events: list[StreamEvent]) -> None:
        """Add the stop that is held, if there is one."""
        if (index := self._stopping) is not None:
            self._stop(index, events)

    def _start(
        self, index: int, block_type: BlockType, content: Content | None, events: list[StreamEvent]
    ) -> None:
        self._stop(index, events)
        self._open[index] = block_type
        self.has_output = self.has_output or block_type != "thinking"
        self.sent.is_alone = self.sent.is_alone and block_type == "text"
        events.append(ContentBlockStart(index, block_type, content or None))

    def _stop(self, index: int, events: list[StreamEvent]) -> None:
        if index == self._stopping:
            self._stopping = None
        if (block_type := self._open.pop(index, None)) is not None:
            self._ended[index] = block_type
            events += self._bytes_of(index, block_type)
            events.append(ContentBlockStop(index))

    def _bytes_of(self, index: int, block_type: BlockType) -> list[StreamEvent]:
        """Return the bytes received for a block, and forget them."""
        if (data := self._bytes.pop(index, None)) is None:
            return []
        return [ContentDelta(index, {"data" if block_type == "image" else "redacted": data.whole()})]
