"""The task behind a stream: drives a source from step to step, without a store.

open the step's stream ─► fold a batch ─► show it ─► … ─► the results of its tools ─► the next step ─► … ─► the end
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from turnstream.core.blocks import Block
from turnstream.core.stream_events import MessageStop, StreamEvent
from turnstream.core.turn_events import (
    BlockReset,
    Data,
    Notice,
    Source,
    StepStart,
    StepStop,
    ToolProgress,
    TurnComplete,
    TurnEvent,
)
from turnstream.core.usage import Usage
from turnstream.errors import StreamBroken, StreamClosed, StreamIncomplete, TurnstreamError
from turnstream.llm.accounts import TurnAccount
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.model_message import MessageStep, ModelMessage
from turnstream.llm.source import Batches, Stream, TurnSource
from turnstream.providers.failures import stream_error
from turnstream.providers.pricing import Pricing

logger = logging.getLogger(__name__)

SOURCE_CLOSE_TIMEOUT = 5.0
"""Seconds that a source has to let go of what it holds."""
_BREATH_EVERY = 8
"""Batches after which a source that always has more lets other tasks run."""
_OWN_EVENTS = frozenset({BlockReset, Data, Notice, Source, StepStart, StepStop, ToolProgress})


class StreamMetrics(NamedTuple):
    """How a stream went. `started_at`: seconds since 1970; `first_output`, `duration`: seconds since then; `first_output` None
    before there was any. `characters`: of the text."""

    started_at: float
    first_output: float | None
    duration: float
    events: int
    characters: int
    steps: int

    @property
    def characters_per_second(self) -> float:
        """From the first output on."""
        seconds = self.duration - (self.first_output or 0.0)
        return self.characters / seconds if seconds > 0 else 0.0


class Generation:
    """One stream's work. `opened`: set once the first model call was answered (`answered`), or has failed."""

    def __init__(self, stream_id: str, live: LiveAnswer, pricing: Pricing | None) -> None:
        self.opened = asyncio.Event()
        self.answered = False
        self.message: ModelMessage[Any] | None = None
        """The whole message, at its end."""
        self._id = stream_id
        self._live = live
        self._fold = live.fold
        self._pricing = pricing
        self._account = TurnAccount()
        self._steps: list[MessageStep] = []
        self._open: MessageStep | None = None
        self._reported = Usage()
        self._notices_shown = 0
        self._started_at = time.time()
        self._began = time.perf_counter()
        self._first_output: float | None = None
        self._ended: float | None = None
        self._source = TurnSource()

    async def run(self, make_source: Callable[[], Awaitable[TurnSource]]) -> None:
        """Write the answer to its end, whatever end that is; only a cancellation is raised. Nothing of the source is
        left when it returns."""
        try:
            try:
                self._source = await make_source()
                reason = await self._generate()
            finally:
                await self._close()
            self._complete(reason)
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self.opened.set()
            if not self._live.done:  # or readers would wait for ever
                self._live.end(TurnstreamError("the stream ended for a reason that nobody thought of"))

    def snapshot(self) -> ModelMessage[Any]:
        """The message as far as it has come."""
        if self.message is not None:
            return self.message
        return self._message(self._live.snapshot(), self._all_steps())

    @property
    def metrics(self) -> StreamMetrics:
        now = self._ended if self._ended is not None else time.perf_counter() - self._began
        text = self._live.text.length
        steps = len(self._all_steps())
        return StreamMetrics(self._started_at, self._first_output, now, self._live.events, text, steps)

    # -- the task ------------------------------------------------------------------------------------------------

    async def _generate(self) -> str | None:
        source, show = self._source, self._live.show
        source.begin(lambda event: show([event]))
        number = 0
        reason: str | None = None
        while (stream := source.step(number)) is not None:
            stop = await self._call(number, stream)
            if stop is None and source.needs_end_marker:
                raise StreamIncomplete("the model's answer ended without its end marker")
            self._shown(self._fold.end_call())
            self._close_step(stop)
            if (results := source.results(stop)) is not None:
                self._begin_call()
                async with results as batches:
                    await self._read(batches)
            reason = stop.stop_reason if stop is not None else "end_turn"
            show([StepStop(number, reason)])
            number += 1
        self._live.text.end()
        return source.stop_reason or reason

    async def _call(self, number: int, stream: Stream) -> MessageStop | None:
        self._begin_call()
        async with stream as batches:
            self._open = MessageStep(number, self._source.called)
            self._account.begin(number, self._source.called, self._source.estimated_input)
            self._live.show([StepStart(number)])
            logger.debug("stream %s: %s answers step %d", self._id, self._called_name(), number)
            self.answered = True
            self.opened.set()
            await self._read(batches)
        accumulator = self._fold.accumulator
        if accumulator.error is not None:
            raise stream_error(accumulator.error)
        return accumulator.stop

    def _called_name(self) -> str:
        called = self._source.called
        return called.name if called is not None else "the source"

    def _begin_call(self) -> None:
        self._fold.begin_call()
        self._reported = Usage()
        self._notices_shown = 0

    async def _read(self, batches: Batches) -> None:
        live = self._live
        count = 0
        async for events in batches:
            if _OWN_EVENTS.isdisjoint(map(type, events)):
                self._absorb(cast("Sequence[StreamEvent]", events))
            else:
                self._absorb_mixed(events)
            count += 1
            if count % _BREATH_EVERY == 0:
                await asyncio.sleep(0)
            if live.is_full:
                await live.room()

    def _absorb_mixed(self, events: Sequence[object]) -> None:
        """Take one batch with events that are not the model's: they are shown in their place."""
        start = 0
        for place, event in enumerate(events):
            if type(event) in _OWN_EVENTS:
                self._absorb(cast("Sequence[StreamEvent]", events[start:place]))
                if isinstance(event, BlockReset):
                    self._fold.take_back(event.block_index)
                    self._begin_call()
                self._live.show([cast("TurnEvent", event)])
                start = place + 1
        self._absorb(cast("Sequence[StreamEvent]", events[start:]))

    def _absorb(self, events: Sequence[StreamEvent]) -> None:
        if not events:
            return
        changes = self._fold.fold(events)
        if changes and self._first_output is None:
            self._first_output = time.perf_counter() - self._began
        self._shown(changes)

    def _shown(self, changes: list[TurnEvent]) -> None:
        fold, accumulator = self._fold, self._fold.accumulator
        if len(accumulator.notices) > self._notices_shown:
            changes += accumulator.notices[self._notices_shown :]
            self._notices_shown = len(accumulator.notices)
        if accumulator.stop is not None and accumulator.usage != self._reported:
            self._reported = accumulator.usage
            changes.append(self._account.report(accumulator.usage, accumulator.raw_usage))
        self._live.show(changes)
        if fold.has_finished:
            for block in fold.take_finished():
                self._account.said(block)
                self._source.stored(block)

    def _close_step(self, stop: MessageStop | None) -> None:
        accumulator = self._fold.accumulator
        self._account.close(accumulator.usage, accumulator.raw_usage)
        step = self._open_step()
        assert step is not None
        self._open = None
        self._steps.append(replace(step, stop_reason=stop.stop_reason if stop is not None else None))

    def _open_step(self) -> MessageStep | None:
        """The step that is being read, as far as it has come."""
        step, accumulator = self._open, self._fold.accumulator
        if step is None:
            return None
        return replace(
            step,
            called=self._source.called or step.called,
            model=accumulator.model,
            message_id=accumulator.message_id,
            usage=accumulator.usage,
            raw_usage=accumulator.raw_usage,
        )

    def _all_steps(self) -> list[MessageStep]:
        step = self._open_step()
        return self._steps if step is None else [*self._steps, step]

    # -- the end -------------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(SOURCE_CLOSE_TIMEOUT):
                await self._source.close()
        except Exception as failure:  # noqa: BLE001 - a source may raise anything
            logger.warning("stream %s: its source did not close: %r", self._id, failure)

    def _complete(self, reason: str | None) -> None:
        blocks = tuple(self._fold.blocks)
        self._end_clock()
        self.message = replace(self._message(blocks, self._steps), complete=True, stop_reason=reason)
        usage = self.message.usage
        last = TurnComplete(reason, usage.input_tokens, usage.output_tokens, len(blocks), usage=usage)
        logger.debug("stream %s is complete: %s, %s", self._id, reason, usage)
        self._live.end(None, [last])

    def _fail(self, error: BaseException) -> None:
        """Keep what there is, and let the error tell of it."""
        kept = len(self._fold.blocks)
        usage, raw = self._fold.accumulator.usage, self._fold.accumulator.raw_usage
        steps = self._all_steps()
        self._show_cut(self._fold.cut())
        cut: list[Block] = self._fold.blocks[kept:]
        summary = self._account.end(usage, raw, cut=cut, complete=False)
        said = {step.step: step for step in summary.steps}
        steps = [
            replace(step, usage=said[step.number].usage, estimated=said[step.number].estimated)
            if step.number in said
            else step
            for step in steps
        ]
        self._end_clock()
        self.message = self._message(tuple(self._fold.blocks), steps)
        if isinstance(error, asyncio.CancelledError):
            error = StreamClosed("the stream was left before its end")
        if isinstance(error, TurnstreamError):
            error.partial = self.message
        logger.debug("stream %s broke off: %r", self._id, error)
        self._live.end(error)

    def _show_cut(self, events: list[TurnEvent]) -> None:
        try:
            self._live.show(events)
        except StreamBroken as error:  # it is the error that ends the stream, or comes after one
            logger.debug("stream %s: the rest of it cannot be shown: %s", self._id, error)

    def _end_clock(self) -> None:
        self._ended = time.perf_counter() - self._began

    def _message(self, blocks: tuple[Block, ...], steps: Sequence[MessageStep]) -> ModelMessage[Any]:
        usage = Usage()
        for step in steps:
            usage = usage.plus(step.usage)
        last = steps[-1] if steps else None
        called = (last.called if last is not None else None) or self._source.called
        return ModelMessage(
            self._id,
            (last.model if last is not None else None) or (called.model if called is not None else ""),
            called.provider if called is not None else "",
            blocks,
            usage=usage,
            steps=tuple(steps),
            pricing=self._pricing,
        )
