"""Reads a model source without a store, like the library: the same loop as a turn's, with the blocks in
memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block, Message
from turnstream.core.history import PastTurn
from turnstream.core.stream_events import MessageStop, StreamEvent
from turnstream.core.turn_events import BlockReset, Notice
from turnstream.errors import ProviderError, StreamIncomplete
from turnstream.model_loop.model_source import ModelSource
from turnstream.model_loop.sources import StepFailure, Stream, TurnSource
from turnstream.model_loop.tool_calls import ToolUse
from turnstream.providers.failures import stream_error
from turnstream.providers.plan import CallPlan
from turnstream.tools.runner import ToolRunner
from turnstream.wires.base import ModelRequest


class Reader:
    """One answer. `notices`: notices on the way. `models`: models of the calls. `resets`: indexes of
    block_resets."""

    def __init__(self, plan: CallPlan, request: ModelRequest, tools: ToolRunner | None = None) -> None:
        runner = tools or ToolRunner({})
        use = ToolUse(runner, tuple(runner.tools), "turn", "owner", {})
        self.source: TurnSource = ModelSource(plan, request, self._past, use)
        self._request = request
        self.blocks: list[Block] = []
        self.notices: list[Notice] = []
        self.models: list[str] = []
        self.resets: list[int] = []
        self.stop: MessageStop | None = None
        self._accumulator = Accumulator()

    @property
    def text(self) -> str:
        return "".join(block.text_content or "" for block in self.blocks if block.block_type == "text")

    async def read(self) -> None:
        """Read to the end. Raises the ProviderError of an unrecovered failure; its partial is in `blocks`."""
        self.source.begin(lambda _event: None)
        number = 0
        try:
            while (stream := self.source.step(number)) is not None:
                await self._step(stream)
                if (results := self.source.results(self.stop)) is not None:
                    self._accumulator = Accumulator(len(self.blocks))
                    await self._take_all(results)
                number += 1
        except ProviderError:
            _, cuts = self._accumulator.cut()
            self.blocks.extend(cut.block for cut in cuts)
            raise
        finally:
            await self.source.close()

    async def _past(self) -> Sequence[PastTurn]:
        past = [
            PastTurn(m.role, "complete", m.blocks) for m in cast("Sequence[Message]", self._request.messages)
        ]
        return [*past, PastTurn("assistant", "streaming", tuple(self.blocks))]

    async def _step(self, stream: Stream) -> None:
        first = len(self.blocks)
        accumulator = self._accumulator = Accumulator(first)
        while True:
            called = self.source.called
            assert called is not None
            self.models.append(called.name)
            try:
                await self._take_all(stream)
                if accumulator.error is not None:
                    raise stream_error(accumulator.error)
                if accumulator.stop is None:
                    raise StreamIncomplete("no end marker")
                accumulator.end()
                self._fold(())
                self.stop = accumulator.stop
                return
            except ProviderError as failure:
                shown = accumulator.shown
                block = shown.finish(partial=True) if shown is not None else None
                begun = len(self.blocks) - first + (block is not None)
                recovery = await self.source.recover(StepFailure(failure, first, begun, block))
                stream = recovery.without_repetition(failure)
            accumulator.resume()
            self.notices.append(recovery.notice)
            await recovery.pause()

    async def _take_all(self, stream: Stream) -> None:
        async with stream as batches:
            async for events in batches:
                for event in events:
                    if isinstance(event, BlockReset):
                        self.resets.append(event.block_index)
                        self._accumulator.retract(event.block_index)
                        del self.blocks[event.block_index :]
                        self.source.note_retracted(event.block_index)
                    elif not isinstance(event, Notice):
                        self._fold((cast("StreamEvent", event),))
                await asyncio.sleep(0)

    def _fold(self, events: Sequence[Any]) -> None:
        position = 0
        while True:
            position = self._accumulator.fold(events, position)
            self._accumulator.take_changes()
            if self._accumulator.finished is None:
                return
            block = self._accumulator.finished
            self.blocks.append(block)
            self._accumulator.release()
            self.source.stored(block)
