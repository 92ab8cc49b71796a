"""Encodes StreamEvents as ConverseStream's messages. The inverse of the decoder.

Blocks keep their order and are numbered without gaps. They may interleave, as the protocol allows. The
accumulator's rules apply if events omit starts and stops. The encoder omits events that the protocol cannot
express: the message's id, notices, and other vendors' metadata.
"""

from __future__ import annotations

import base64
from typing import Any

from turnstream.core.blocks import BlockType, Content
from turnstream.core.stream_events import (
    MessageStart,
    MessageStop,
    Metadata,
    RedactContent,
    StreamError,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.wires.bedrock.errors import dump_stream_error
from turnstream.wires.bedrock.guardrail import blocking_trace
from turnstream.wires.bedrock.media import format_of
from turnstream.wires.bedrock.stop_reasons import dump_stop_reason
from turnstream.wires.bedrock.tools import dump_parts, dump_result_start, dump_use_start
from turnstream.wires.bedrock.usage import dump_usage, with_total
from turnstream.wires.shared.answer_writer import BlockEncoder
from turnstream.wires.shared.event_stream import encode_event, encode_exception
from turnstream.wires.shared.json_values import JsonObject, list_in
from turnstream.wires.shared.lenient_json import encode_json

_MESSAGE = -2
"""Index of a guardrail's message."""
_TEXT_TYPES = frozenset({"text", "reference", "partial_reference"})
_STOP_FIELDS = frozenset({"additionalModelResponseFields"})
_METADATA_FIELDS = frozenset({"performanceConfig", "serviceTier"})


class _ConverseBlock:
    """A block that has begun. `number` is None for a block that the protocol cannot express."""

    __slots__ = ("block_type", "implicit", "number", "shown")

    def __init__(self, number: int | None, block_type: BlockType, *, implicit: bool) -> None:
        self.number = number
        self.block_type: BlockType = block_type
        self.implicit = implicit
        self.shown = False


class BedrockEncoder(BlockEncoder[_ConverseBlock]):
    """Encodes one streamed answer.

    Without a MessageStop the message has no end, like one that a provider cut off.
    """

    def __init__(self) -> None:
        super().__init__()
        self._role: str | None = "assistant"
        self._usage: JsonObject = {}
        self._extra_metadata: JsonObject = {}
        self._latency: float | None = None
        self._trace: Any = None
        self._texts: list[str] = []
        """The text so far. A guardrail's trace repeats it."""

    def _write_end(self, stop: MessageStop) -> None:
        for index in list(self._blocks):
            self._stop_open(index)
        extra = self._extra_metadata
        beside = {key: value for key, value in extra.items() if key in _STOP_FIELDS}
        self._write("messageStop", {"stopReason": dump_stop_reason(stop), **beside})
        metadata = {key: value for key, value in extra.items() if key in _METADATA_FIELDS}
        if self._usage or self._latency is not None or self._trace is not None or metadata:
            fields: JsonObject = {
                "usage": with_total(self._usage),
                "metrics": {"latencyMs": self._latency or 0},
            }
            if self._trace is not None:
                fields["trace"] = self._trace
            self._write("metadata", fields | metadata)

    def _write_error(self, event: StreamError) -> None:
        name, fields = dump_stream_error(event)
        self._out.append(encode_exception(name, encode_json(fields)))

    def _take_start(self, event: MessageStart) -> None:
        self._role = event.role if self._role is not None else None

    def _write_text(self, block: _ConverseBlock, event: TextDelta | ThinkingDelta | ToolInputDelta) -> None:
        match event:
            case TextDelta():
                piece: JsonObject = {"text": event.text}
                if block.block_type == "tool_result":
                    piece = {"toolResult": [piece]}
                else:
                    self._texts.append(event.text)
                self._write_delta(block, piece)
            case ThinkingDelta():
                self._write_delta(block, {"reasoningContent": {"text": event.text}})
            case ToolInputDelta():
                self._write_delta(block, {"toolUse": {"input": event.partial_json}})

    def _write_signature(self, block: _ConverseBlock, signature: str) -> None:
        self._write_delta(block, {"reasoningContent": {"signature": signature}})

    def _keep_metadata(self, event: Metadata) -> None:
        self._usage |= dump_usage(event.usage, event.raw)
        self._extra_metadata |= event.provider_metadata or {}
        self._latency = event.latency_ms if event.latency_ms is not None else self._latency
        self._trace = event.trace if event.trace is not None else self._trace

    def _write_redaction(self, event: RedactContent) -> None:
        """Write the message of a guardrail that blocked the output so far. Its trace comes last."""
        self._trace = blocking_trace(event.side, "".join(self._texts))
        if event.side == "assistant":
            self._start(_MESSAGE, "text", {}, implicit=False)
            self._encode_delta(TextDelta(_MESSAGE, event.replacement))
            self._stop_open(_MESSAGE)

    def _start_block(self, block_type: BlockType, content: Content, *, implicit: bool) -> _ConverseBlock:
        start = _start_of(block_type, content)
        has_place = start is not None or block_type in _TEXT_TYPES or block_type == "thinking"
        block = _ConverseBlock(self._next_number if has_place else None, block_type, implicit=implicit)
        if has_place:
            self._next_number += 1
        if start is not None:
            block.shown = True
            self._write("contentBlockStart", {"contentBlockIndex": block.number, "start": start})
        if block_type == "tool_use" and content.get("input"):
            self._write_delta(block, {"toolUse": {"input": encode_json(content["input"]).decode()}})
        elif block_type == "tool_result" and content.get("content") not in (None, []):
            self._write_delta(block, {"toolResult": dump_parts(content, "")})
        elif block_type != "provider":
            self._write_content(block, content)
        return block

    def _write_content(self, block: _ConverseBlock, content: Content) -> None:
        """Write content other than text, arguments and signature."""
        kind = block.block_type
        if kind == "tool_result":
            if (parts := content.get("content")) not in (None, []):
                self._write_delta(
                    block, {"toolResult": dump_parts({**content, "provider_executed": True}, str(parts))}
                )
        elif kind == "image":
            if source := _image_source(content):
                self._write_delta(block, {"image": {"source": source}})
        elif kind == "thinking" and "redacted" in content:
            self._write_delta(
                block, {"reasoningContent": {"redactedContent": _as_base64(content["redacted"])}}
            )
        for citation in list_in(content, "citations"):
            self._write_delta(block, {"citation": citation})
        for delta in list_in(content, "deltas"):
            self._write_delta(block, delta)

    def _write_delta(self, block: _ConverseBlock, delta: JsonObject) -> None:
        if block.number is not None:
            block.shown = True
            self._write("contentBlockDelta", {"contentBlockIndex": block.number, "delta": delta})

    def _stop_block(self, block: _ConverseBlock) -> None:
        """Stop a block.

        Write an empty delta first if nothing was written: only deltas make such a block visible.
        """
        if block.number is None:
            return
        if not block.shown:
            self._write_delta(
                block, {"reasoningContent": {"text": ""}} if block.block_type == "thinking" else {"text": ""}
            )
        self._write("contentBlockStop", {"contentBlockIndex": block.number})

    def _write_start(self) -> None:
        if self._role is not None:
            role, self._role = self._role, None
            self._write("messageStart", {"role": role})

    def _write(self, event_type: str, fields: JsonObject) -> None:
        self._out.append(encode_event(event_type, encode_json(fields)))


def _start_of(block_type: BlockType, content: Content) -> JsonObject | None:
    """Return the start of a block, or None if the protocol has no start for it."""
    match block_type:
        case "tool_use":
            return {"toolUse": dump_use_start(content)}
        case "tool_result":
            return {"toolResult": dump_result_start(content)}
        case "image":
            return {"image": {"format": format_of(str(content.get("media_type") or "image/png"))}}
        case "provider" if len(content) == 1 and "type" not in content:
            return content
        case _:
            return None


def _image_source(content: Content) -> JsonObject | None:
    if data := content.get("data"):
        return {"bytes": data}
    url = str(content.get("url") or "")
    return {"s3Location": {"uri": url}} if url.startswith("s3://") else None


def _as_base64(data: Any) -> str:
    """Return redacted thinking as base64, which Bedrock requires. Another vendor's may be any text."""
    text = str(data)
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return base64.b64encode(text.encode("utf-8", "replace")).decode()
    return text
