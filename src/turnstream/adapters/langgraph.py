"""Runs of LangGraph graphs. LangChain agents are such graphs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from typing import Any, cast

import msgspec

from turnstream.adapters.endings import end_of, reason_in
from turnstream.adapters.indexes import BlockIndexes
from turnstream.adapters.opening import ForeignStream, opened
from turnstream.core.blocks import BlockType, Content
from turnstream.core.stream_events import (
    MessageStart,
    Metadata,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.tool_results import ToolCallName, result_events
from turnstream.core.turn_events import Data, SourceEvent
from turnstream.core.usage import Usage


async def from_langgraph(stream: ForeignStream) -> AsyncIterator[list[SourceEvent]]:
    """Yield the events of `graph.astream(…, stream_mode=["messages", "custom"])`.

    They are the models' text, thinking and tool calls, and the results of tools. Items of other modes become
    `data` events with the mode's name. An exception of the run becomes the turn's error.
    """
    run = _GraphRun()
    async with opened(stream) as items:
        async for item in items:
            mode, payload = _mode_and_payload(item)
            if mode == "messages":
                events: list[SourceEvent] = [*run.message(payload[0])]
            else:
                events = [Data(mode, _plain(payload))]
            if events:
                yield events
    yield [*run.end()]


def _mode_and_payload(item: Any) -> tuple[str, Any]:
    match item:
        case (str(mode), payload):
            return mode, payload
        case (_, str(mode), payload):  # with subgraphs=True the path in the graph comes first
            return mode, payload
        case (_, dict()):
            return "messages", item
        case _:
            return "values", item


class _GraphRun:
    def __init__(self) -> None:
        self._blocks = BlockIndexes()
        self._open: dict[str, list[Hashable]] = {}
        """Keys of open blocks by message. The last block is being written."""
        self._usage = Usage()
        self._reason: str | None = None

    def message(self, message: Any) -> list[StreamEvent]:
        """Return the events of a message, or of a chunk of one."""
        if message.type == "tool":
            return self._result(message)
        if message.type not in {"ai", "AIMessageChunk"}:
            return []
        identity = str(message.id)
        events: list[StreamEvent] = []
        if identity not in self._open:
            self._reason = None
            self._open[identity] = []
            events.append(MessageStart(identity, message.response_metadata.get("model_name")))
        for block in message.content_blocks:
            events += self._block(identity, cast("dict[str, Any]", block))
        if (used := message.usage_metadata) is not None:
            self._usage = self._usage.plus(_usage(used))
            events.append(Metadata(self._usage))
        self._reason = reason_in(message.response_metadata) or self._reason
        is_whole = message.type == "ai" or message.chunk_position == "last"
        if is_whole:
            events += [self._blocks.stop(key) for key in self._open[identity]]
            self._open[identity] = []
        return events

    def end(self) -> list[StreamEvent]:
        """Return the last events of the run."""
        return [*self._blocks.stop_all(), end_of(self._reason)]

    def _block(self, identity: str, block: dict[str, Any]) -> list[StreamEvent]:
        match block:
            case {"type": "text", "text": str(text)}:
                started, index = self._at(identity, block, "text")
                return [*started, TextDelta(index, text)]
            case {"type": "reasoning"}:
                started, index = self._at(identity, block, "thinking")
                if text := block.get("reasoning"):
                    started.append(ThinkingDelta(index, str(text)))
                extras: dict[str, Any] = block.get("extras") or {}
                if signature := extras.get("signature"):
                    started.append(SignatureDelta(index, str(signature)))
                return started
            case {"type": "tool_call_chunk"}:
                call = {"tool_use_id": block.get("id") or "", "tool_name": block.get("name") or ""}
                started, index = self._at(identity, block, "tool_use", call)
                return [*started, ToolInputDelta(index, str(block.get("args") or ""))]
            case {"type": "tool_call", "id": identity_of_call, "name": name, "args": arguments}:
                started, index = self._at(
                    identity,
                    {**block, "index": identity_of_call},
                    "tool_use",
                    {"tool_use_id": identity_of_call or "", "tool_name": name},
                )
                return [*started, ToolInputDelta(index, msgspec.json.encode(arguments).decode())]
            case _:
                started, _ = self._at(identity, block, "provider", _plain(block))
                return started

    def _at(
        self, identity: str, block: dict[str, Any], block_type: BlockType, content: Content | None = None
    ) -> tuple[list[StreamEvent], int]:
        """Return the index of the block that a piece belongs to, after the events that start it.

        A piece with another type or index starts a new block, and stops the one before.
        """
        key = (identity, block_type, block.get("index"))
        if key in self._blocks:
            return [], self._blocks[key]
        keys = self._open[identity]
        events: list[StreamEvent] = [self._blocks.stop(keys.pop())] if keys else []
        keys.append(key)
        start = self._blocks.start(key, block_type, content)
        return [*events, start], start.index

    def _result(self, message: Any) -> list[StreamEvent]:
        content = message.content if isinstance(message.content, str) else _plain(message.content)
        call = ToolCallName(message.tool_call_id, message.name or "")
        return result_events(self._blocks.take(), call, content, is_error=message.status == "error")


def _usage(used: dict[str, Any]) -> Usage:
    read: dict[str, int] = used.get("input_token_details") or {}
    written: dict[str, int] = used.get("output_token_details") or {}
    cached = read.get("cache_read")
    given = used.get("input_tokens")
    return Usage(
        given - cached if isinstance(given, int) and cached else given,
        used.get("output_tokens"),
        cached,
        read.get("cache_creation"),
        written.get("reasoning"),
    )


def _plain(value: Any) -> Any:
    """Return a value as JSON. Messages and other models become their fields, other objects their repr."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_fields))


def _fields(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump is not None else repr(value)
