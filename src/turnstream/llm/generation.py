"""The task behind a stream: drives a source from step to step, without a store.

open the step's stream ─► fold a batch ─► show it ─► … ─► the results of its tools ─► the next step ─► … ─► the end
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

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
from turnstream.errors import (
    CANNOT_CONTINUE,
    ProviderError,
    StreamBroken,
    StreamClosed,
    StreamIncomplete,
    TurnstreamError,
)
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.metrics import StreamMetrics
from turnstream.llm.model_message import MessageAttempt, MessageStep, ModelMessage
from turnstream.llm.text_log import blocks_of_text
from turnstream.model_loop.accounts import Summary, TurnAccount
from turnstream.model_loop.sources import Batches, StepFailure, Stream, TurnSource
from turnstream.providers.base import CalledModel, PushSource
from turnstream.providers.failures import operator_words, stream_error
from turnstream.providers.pricing import Pricing

logger = logging.getLogger(__name__)

SOURCE_CLOSE_TIMEOUT = 5.0
"""Seconds that a source has to let go of what it holds."""
_BREATH_EVERY = 8
"""Batches after which a source that always has more lets other tasks run."""
_OWN_EVENTS = frozenset({BlockReset, Data, Notice, Source, StepStart, StepStop, ToolProgress})


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
        self._tried: list[_TriedCall] = []
        self._reported = Usage()
        self._before_reset: tuple[Block, ...] = ()
        """The blocks of which readers have the text, before the last reset took some of them back."""
        self._broken_by: ProviderError | None = None
        """The failure that was recovered from last."""
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
        return self._message(self._live.snapshot(), self._all_steps(), Summary(usage=self._usage_so_far()))

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
            stop = await self._run_step(number, stream)
            self._shown(self._fold.end_call())
            if self._open is not None:
                self._steps.append(self._with_answer(self._open))
                self._open = None
            if (results := source.results(stop)) is not None:
                self._fold_anew()
                async with results as batches:
                    await self._read(batches)
            reason = stop.stop_reason if stop is not None else "end_turn"
            show([StepStop(number, reason)])
            number += 1
        self._live.text.end()
        return source.stop_reason or reason

    async def _run_step(self, number: int, stream: Stream) -> MessageStop | None:
        """Read model calls until one is whole, or nothing can be done about its failure; its end marker, if it has one."""
        self._fold_anew()
        first = self._fold.accumulator.next_sequence
        while True:
            self._begin_call(number)
            try:
                async with stream as batches:
                    self._answering(number)
                    await self._read(batches)
                return self._whole_answer()
            except ProviderError as failure:
                if failure.code == CANNOT_CONTINUE:
                    raise
                stream = await self._recover(failure, first)

    def _begin_call(self, number: int) -> None:
        source = self._source
        self._account.begin(number, source.called, source.estimated_input)
        if source.called is not None:
            self._tried.append(_TriedCall(source.called))

    def _answering(self, number: int) -> None:
        """The provider has begun to answer."""
        self._account.answering()
        logger.debug("stream %s: %s answers step %d", self._id, self._called_name(), number)
        if self._open is None:
            self._live.show([StepStart(number)])
        self._open = MessageStep(number, self._source.called)
        self.answered = True
        self.opened.set()

    def _whole_answer(self) -> MessageStop | None:
        """Raises ProviderError where the answer that was read is not whole."""
        accumulator = self._fold.accumulator
        if accumulator.error is not None:
            raise stream_error(accumulator.error)
        if accumulator.stop is not None:
            self._account.close(accumulator.usage, accumulator.raw_usage)
            self._note_usage()
        elif self._source.needs_end_marker:
            raise StreamIncomplete("the model's answer ended without its end marker")
        return accumulator.stop

    async def _recover(self, failure: ProviderError, first: int) -> Stream:
        """The stream to read on after a failure. What was shown stands. Raises the failure where there is none."""
        self._broken_by = failure
        accumulator = self._fold.accumulator
        shown = accumulator.shown
        begun = (shown.sequence + 1 if shown is not None else accumulator.next_sequence) - first
        open_block = shown.finish(partial=True) if shown is not None else None
        unstored = accumulator.unstored()
        self._account.fail(failure.code, accumulator.usage, accumulator.raw_usage, unstored=unstored)
        self._note_usage()
        failed = self._called_name()
        recovery = await self._source.recover(StepFailure(failure, first, begun, open_block))
        self._fold.resume()
        self._reported = Usage()
        recovered = f"{recovery.notice.code} ({recovery.notice.model})"
        logger.warning("stream %s: %s; then %s", self._id, operator_words(failure, failed), recovered)
        self._live.show([recovery.notice])
        await recovery.pause()
        return recovery.stream

    def _note_usage(self) -> None:
        """What the provider said of the call that ends, in its own words."""
        if self._tried:
            self._tried[-1].raw_usage = self._fold.accumulator.raw_usage

    def _called_name(self) -> str:
        called = self._source.called
        return called.name if called is not None else "the source"

    def _fold_anew(self) -> None:
        self._fold.begin_call()
        self._reported = Usage()
        self._notices_shown = 0

    async def _read(self, batches: Batches) -> None:
        """Fold a stream to its end. What only adds text to the shown block is taken where it arrives, if the stream
        pushes it; the task is woken for all else."""
        live = self._live
        if hasattr(batches, "push_to"):  # isinstance takes 20 µs for a protocol before Python 3.12
            cast("PushSource", batches).push_to(self._take_at_once)
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

    def _take_at_once(self, events: Sequence[StreamEvent]) -> bool:
        """Show a batch while the task waits for its source. False, and nothing is done, for one that has to wait itself."""
        live = self._live
        if live.is_full or live.text.repeats or self._first_output is None:
            return False
        changes = self._fold.accumulator.extend_shown(events)
        if changes is None:
            return False
        live.show(changes)
        return True

    def _absorb_mixed(self, events: Sequence[object]) -> None:
        """Take one batch with events that are not the model's: they are shown in their place."""
        start = 0
        for place, event in enumerate(events):
            if type(event) in _OWN_EVENTS:
                self._absorb(cast("Sequence[StreamEvent]", events[start:place]))
                if isinstance(event, BlockReset):
                    if not self._live.text.repeats:
                        self._before_reset = self._fold.snapshot()
                    self._fold.take_back(event.block_index)
                    self._account.taken_back()
                    self._source.taken_back(event.block_index)
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

    def _with_answer(self, step: MessageStep) -> MessageStep:
        """The step that is being read, as far as it has come."""
        accumulator = self._fold.accumulator
        return replace(
            step,
            called=self._source.called or step.called,
            model=accumulator.model,
            message_id=accumulator.message_id,
            stop_reason=accumulator.stop.stop_reason if accumulator.stop is not None else None,
            usage=accumulator.usage,
            raw_usage=accumulator.raw_usage,
        )

    def _all_steps(self) -> list[MessageStep]:
        return self._steps if self._open is None else [*self._steps, self._with_answer(self._open)]

    def _usage_so_far(self) -> Usage:
        """Of all calls, as far as providers have told."""
        said = self._fold.accumulator.usage if self._open is not None else Usage()
        return self._account.usage if said == self._reported else self._account.usage.plus(said)

    # -- the end -------------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(SOURCE_CLOSE_TIMEOUT):
                await self._source.close()
        except Exception as failure:  # noqa: BLE001 - a source may raise anything
            logger.warning("stream %s: its source did not close: %r", self._id, failure)

    def _complete(self, reason: str | None) -> None:
        blocks = tuple(self._fold.blocks)
        summary = self._account.end(Usage(), complete=True)
        self._end_clock()
        whole = self._message(blocks, self._steps, summary)
        self.message = replace(whole, complete=True, stop_reason=reason)
        usage = summary.usage
        last = TurnComplete(reason, usage.input_tokens, usage.output_tokens, len(blocks), usage=usage)
        logger.debug("stream %s is complete: %s, %s", self._id, reason, usage)
        self._live.end(None, [last])

    def _fail(self, error: BaseException) -> None:
        """Keep what there is, and let the error tell of it."""
        if isinstance(error, asyncio.CancelledError):
            error = StreamClosed("the stream was left before its end")
        kept, steps = len(self._fold.blocks), self._all_steps()
        usage, raw = self._fold.accumulator.usage, self._fold.accumulator.raw_usage
        if self._open is not None:
            self._note_usage()
        self._show_cut(self._fold.cut())
        cut: list[Block] = self._fold.blocks[kept:]
        outcome = error.code if isinstance(error, ProviderError) else "cancelled"
        summary = self._account.end(usage, raw, cut=cut, complete=False, outcome=outcome)
        self._end_clock()
        blocks = tuple(self._fold.blocks)
        if isinstance(error, StreamBroken) and error.code == CANNOT_CONTINUE:
            # The blocks at hand are another answer's beginning. Readers keep the one that they have read.
            blocks = blocks_of_text(self._before_reset, self._live.text.read_text)
            if (cause := self._broken_by) is not None:
                error.retryable, error.__cause__ = cause.retryable, cause
        self.message = self._message(blocks, steps, summary)
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

    def _message(
        self, blocks: tuple[Block, ...], steps: Sequence[MessageStep], summary: Summary
    ) -> ModelMessage[Any]:
        last = steps[-1] if steps else None
        called = (last.called if last is not None else None) or self._source.called
        tried = zip(summary.attempts, self._tried, strict=True) if summary.attempts else ()
        return ModelMessage(
            self._id,
            (last.model if last is not None else None) or (called.model if called is not None else ""),
            called.provider if called is not None else "",
            blocks,
            usage=summary.usage,
            steps=tuple(steps),
            attempts=tuple(
                MessageAttempt.of(attempt, call.called, call.raw_usage) for attempt, call in tried
            ),
            pricing=self._pricing,
        )


class _TriedCall:
    """A call, as long as the account has its other side."""

    __slots__ = ("called", "raw_usage")

    def __init__(self, called: CalledModel) -> None:
        self.called = called
        self.raw_usage: dict[str, Any] | None = None
