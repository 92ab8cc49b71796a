"""Runs of the OpenAI Agents SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec

from turnstream.adapters.opening import ForeignStream, opened
from turnstream.adapters.provider_sdks import responses_event
from turnstream.core.stream_events import (
    ContentBlockStart,
    MessageStart,
    MessageStop,
    Metadata,
    StreamEvent,
)
from turnstream.core.tool_results import ToolCallName, result_events
from turnstream.core.turn_events import Data, SourceEvent
from turnstream.core.usage import Usage
from turnstream.wires import WIRES
from turnstream.wires.base import Decoder
from turnstream.wires.recording import frame_line

_WIRE = "openai-responses"


async def from_openai_agents(run: Any) -> AsyncIterator[list[SourceEvent]]:
    """Yield the events of `Runner.run_streamed(…)`, or of its `stream_events()`.

    They are the model's output on the Responses API, to which the SDK converts all models, the results of
    tools, and a `data` event `agent` for each handoff. An exception of the run becomes the turn's error.
    """
    stream: ForeignStream = run.stream_events() if hasattr(run, "stream_events") else run
    turn = _RunnerRun()
    async with opened(stream) as items:
        async for event in items:
            if taken := turn.take(event):
                yield taken
    yield turn.end()


class _RunnerRun:
    """Decodes a run: several responses, each with its own decoder, and results of tools between them."""

    def __init__(self) -> None:
        self._decoder: Decoder | None = None
        self._base = 0
        self._next = 0
        self._usage = Usage()
        self._used_before = Usage()
        self._stop = MessageStop("end_turn")

    def take(self, event: Any) -> list[SourceEvent]:
        match event.type:
            case "raw_response_event":
                return [*self._response(event.data)]
            case "run_item_stream_event" if event.name == "tool_output":
                return [*self._result(event.item)]
            case "agent_updated_stream_event":
                return [Data("agent", {"name": event.new_agent.name})]
            case _:
                return []

    def end(self) -> list[SourceEvent]:
        """Return the last events of the run."""
        return [Metadata(self._used_before.plus(self._usage)), self._stop]

    def _response(self, data: Any) -> list[StreamEvent]:
        wire = WIRES[_WIRE]
        if self._decoder is None or data.type == "response.created":
            self._decoder = wire.decoder()
            self._used_before = self._used_before.plus(self._usage)
            self._usage = Usage()
            self._base = self._next
        text = responses_event(data)
        events = self._decoder.feed(frame_line(wire, text.encode())) if text is not None else []
        return [self._moved(event) for event in events]

    def _moved(self, event: StreamEvent) -> StreamEvent:
        """Return an event with its block index and usage counted over the whole run.

        The end of a response does not end the run."""
        match event:
            case MessageStop():
                self._stop = event
                return event
            case Metadata(usage=Usage() as usage):
                self._usage = self._usage.updated(usage)
                return msgspec.structs.replace(event, usage=self._used_before.plus(self._usage))
            case MessageStart() | Metadata():
                return event
            case _ if (index := getattr(event, "index", None)) is not None:
                place = self._base + index
                if isinstance(event, ContentBlockStart):
                    self._next = max(self._next, place + 1)
                return msgspec.structs.replace(event, index=place)
            case _:
                return event

    def _result(self, item: Any) -> list[StreamEvent]:
        raw: Any = item.raw_item
        said = cast("dict[str, Any]", raw if isinstance(raw, dict) else raw.model_dump())
        call = ToolCallName(str(said.get("call_id") or said.get("id") or ""), "")
        index = self._next
        self._next += 1
        output = said.get("output")
        content = output if isinstance(output, str) else msgspec.json.encode(output, enc_hook=repr).decode()
        return result_events(index, call, content, is_error=False)
