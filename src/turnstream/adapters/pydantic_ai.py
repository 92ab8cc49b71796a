"""Runs of pydantic-ai agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, is_dataclass
from typing import Any

import msgspec

from turnstream.adapters.endings import end_of
from turnstream.adapters.indexes import BlockIndexes
from turnstream.adapters.opening import ForeignStream, opened
from turnstream.core.blocks import Content
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

_RETRIED = frozenset({"failed", "denied", "retried"})
"""Outcomes of a tool that are errors."""


async def from_pydantic_ai(events: ForeignStream) -> AsyncIterator[list[SourceEvent]]:
    """Yield the events of `agent.run_stream_events(…)`.

    They are text, thinking, tool calls and their results, and usage. An agent's custom events become `data`
    events with their names. An exception of the run becomes the turn's error.
    """
    run = _AgentRun()
    async with opened(events) as items:
        async for event in items:
            if taken := run.take(event):
                yield taken


class _AgentRun:
    def __init__(self) -> None:
        self._blocks = BlockIndexes()
        self._unwritten: set[int] = set()
        """Indexes of calls whose arguments have not been shown yet."""
        self._takers: dict[str, Callable[[Any], list[SourceEvent]]] = {
            "part_start": self._part_start,
            "part_delta": self._part_delta,
            "part_end": self._part_end,
            "function_tool_result": self._tool_result,
            "output_tool_result": self._tool_result,
            "custom": self._custom,
            "agent_run_result": self._end,
        }

    def take(self, event: Any) -> list[SourceEvent]:
        taker = self._takers.get(event.event_kind)
        return taker(event) if taker is not None else []

    def _part_start(self, event: Any) -> list[SourceEvent]:
        index, part = event.index, event.part
        started: list[SourceEvent] = [self._blocks.stop(index)] if index in self._blocks else []
        match part.part_kind:
            case "text":
                return [*started, self._blocks.start(index, "text"), *self._text(index, part.content)]
            case "thinking":
                started.append(self._blocks.start(index, "thinking"))
                return [*started, *self._thinking(index, part.content, part.signature)]
            case "tool-call" | "builtin-tool-call":
                content: Content = {"tool_use_id": part.tool_call_id, "tool_name": part.tool_name}
                if part.part_kind != "tool-call":
                    content["provider_executed"] = True
                self._unwritten.add(index)
                return [
                    *started,
                    self._blocks.start(index, "tool_use", content),
                    *self._arguments(index, part.args),
                ]
            case "builtin-tool-return":
                call = {"tool_use_id": part.tool_call_id, "tool_name": part.tool_name}
                shown = {
                    **call,
                    "content": part.model_response_str(),
                    "is_error": False,
                    "provider_executed": True,
                }
                return [*started, self._blocks.start(index, "tool_result", shown)]
            case kind:
                return [*started, self._blocks.start(index, "provider", {"type": kind, **_plain(part)})]

    def _part_delta(self, event: Any) -> list[SourceEvent]:
        index, delta = event.index, event.delta
        if index not in self._blocks:
            return []
        match delta.part_delta_kind:
            case "text":
                return [*self._text(index, delta.content_delta)]
            case "thinking":
                return [*self._thinking(index, delta.content_delta, delta.signature_delta)]
            case "tool_call":
                return [*self._arguments(index, delta.args_delta)]
            case _:
                return []

    def _part_end(self, event: Any) -> list[SourceEvent]:
        index, part = event.index, event.part
        if index not in self._blocks:
            return []
        ended: list[SourceEvent] = []
        if index in self._unwritten:
            self._unwritten.discard(index)
            if (arguments := part.args_as_json_str()) != "{}":
                ended.append(ToolInputDelta(self._blocks[index], arguments))
        return [*ended, self._blocks.stop(index)]

    def _text(self, index: int, text: str | None) -> list[StreamEvent]:
        return [TextDelta(self._blocks[index], text)] if text else []

    def _thinking(self, index: int, text: str | None, signature: str | None) -> list[StreamEvent]:
        block = self._blocks[index]
        signed: list[StreamEvent] = [SignatureDelta(block, signature)] if signature else []
        return [ThinkingDelta(block, text), *signed] if text else signed

    def _arguments(self, index: int, given: str | dict[str, Any] | None) -> list[StreamEvent]:
        """Return arguments that are text. Arguments that are an object are shown when they are complete."""
        if not isinstance(given, str) or not given:
            return []
        self._unwritten.discard(index)
        return [ToolInputDelta(self._blocks[index], given)]

    def _tool_result(self, event: Any) -> list[SourceEvent]:
        part = event.part
        call = ToolCallName(part.tool_call_id, part.tool_name or "")
        failed = getattr(part, "outcome", "success") in _RETRIED
        respond = getattr(part, "model_response_str", None) or part.model_response
        return [*result_events(self._blocks.take(), call, respond(), is_error=failed)]

    def _custom(self, event: Any) -> list[SourceEvent]:
        data = {key: value for key, value in _plain(event).items() if key not in {"name", "event_kind"}}
        return [Data(event.name or type(event).__name__, data)]

    def _end(self, event: Any) -> list[SourceEvent]:
        result = event.result
        used = result.usage
        usage = Usage(
            used.input_tokens,
            used.output_tokens,
            used.cache_read_tokens or None,
            used.cache_write_tokens or None,
            used.details.get("reasoning_tokens"),
        )
        return [
            MessageStart(result.run_id, result.response.model_name),
            Metadata(usage),
            end_of(getattr(result.response, "finish_reason", None)),
        ]


def _plain(value: Any) -> dict[str, Any]:
    """Return a dataclass as JSON. Values that are not JSON become their repr."""
    fields = asdict(value) if is_dataclass(value) and not isinstance(value, type) else vars(value)
    return msgspec.json.decode(msgspec.json.encode(fields, enc_hook=repr))
