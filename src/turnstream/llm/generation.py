"""The task of a stream: a driver reads a source into memory, without a store.

driver ─► memory_sink ─► live_answer ─► readers
   └─► the message, complete or cut off
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from turnstream.core.blocks import Block
from turnstream.core.turn_events import TurnComplete, TurnEvent
from turnstream.errors import CANNOT_CONTINUE, ProviderError, StreamBroken, StreamClosed, TurnstreamError
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.memory_sink import AnswerChanged, MemorySink
from turnstream.llm.metrics import StreamMetrics
from turnstream.llm.model_message import MessageAttempt, MessageStep, ModelMessage
from turnstream.llm.text_log import blocks_of_text
from turnstream.model_loop.accounts import Summary, TurnAccount
from turnstream.model_loop.driver import LoopDriver
from turnstream.model_loop.model_call import ModelCall
from turnstream.model_loop.source_shutdown import close_in_time
from turnstream.model_loop.sources import TurnSource
from turnstream.providers.pricing import Pricing

logger = logging.getLogger(__name__)


class Generation:
    """Writes the answer of one stream."""

    def __init__(self, stream_id: str, live: LiveAnswer, pricing: Pricing | None) -> None:
        self.message: ModelMessage[Any] | None = None
        """The message. None until the stream has ended."""
        self._id = stream_id
        self._live = live
        self._pricing = pricing
        self._sink = MemorySink(stream_id, live)
        self._account = TurnAccount()
        self._driver = LoopDriver(self._sink, self._account)
        self._started_at = time.time()
        self._began = time.perf_counter()
        self._ended: float | None = None
        self._source = TurnSource()

    async def opened(self) -> bool:
        """Wait until the first model call is answered or has failed. Return True if it is answered."""
        await self._sink.opened.wait()
        return bool(self._sink.answers)

    async def run(self, make_source: Callable[[], Awaitable[TurnSource]]) -> None:
        """Write the answer to its end. Raises only a cancellation, or an exception that ends the process.

        The source is closed when it returns.
        """
        try:
            try:
                source = self._source = await make_source()
                show = self._live.show
                source.begin(lambda event: show([event]))
                reason = await self._driver.run(source)
                self._live.text.end()
            except BaseException:
                self._source.give_up()
                raise
            finally:
                await close_in_time(self._source.close(), self._sink.label)
            self._complete(reason)
        except BaseException as error:
            self._fail(error.failure if isinstance(error, AnswerChanged) else error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._sink.opened.set()
            if not self._live.done:  # readers would wait for ever
                self._live.end(TurnstreamError("the stream ended for an unknown reason"))

    def snapshot(self) -> ModelMessage[Any]:
        """Return the message so far."""
        if self.message is not None:
            return self.message
        accumulator, usage = self._driver.accumulator, self._account.usage
        if accumulator.stop is None:  # after the end marker, the account has this usage
            usage = usage.plus(accumulator.usage)
        return self._message(self._live.snapshot(), Summary(usage=usage))

    def watch_calls(self, act: Callable[[Sequence[ModelCall]], None]) -> None:
        """Call `act` with the model calls so far, each time that a model begins to answer."""
        self._sink.on_answer = lambda: act(self._account.calls_so_far())

    @property
    def metrics(self) -> StreamMetrics:
        """Times and counts of the stream so far."""
        first = self._sink.first_output
        return StreamMetrics(
            self._started_at,
            None if first is None else first - self._began,
            self._ended if self._ended is not None else time.perf_counter() - self._began,
            self._live.events,
            self._live.text.length,
            len(self._sink.answers),
        )

    # -- the end -----------------------------------------------------------------------------------------

    def _complete(self, reason: str | None) -> None:
        blocks, accumulator = tuple(self._live.fold.blocks), self._driver.accumulator
        summary = self._account.end(accumulator.usage, accumulator.raw_usage, complete=True)
        self._ended = time.perf_counter() - self._began
        self.message = replace(self._message(blocks, summary), complete=True, stop_reason=reason)
        usage = summary.usage
        last = TurnComplete(reason, usage.input_tokens, usage.output_tokens, len(blocks), usage=usage)
        logger.debug("stream %s is complete: %s, %s", self._id, reason, usage)
        self._live.end(None, [last])

    def _fail(self, error: BaseException) -> None:
        """End the stream with an error. Keep the message so far as the error's `partial`."""
        if isinstance(error, asyncio.CancelledError):
            error = StreamClosed("the stream was left before its end: `partial` has what came until then")
        accumulator, fold = self._driver.accumulator, self._live.fold
        events, cuts = accumulator.cut()
        fold.blocks.extend(cut.block for cut in cuts)
        self._show_cut(events)
        summary = self._account.end(
            accumulator.usage,
            accumulator.raw_usage,
            cut=[cut.block for cut in cuts],
            complete=False,
            outcome=error.code if isinstance(error, ProviderError) else "cancelled",
        )
        self._ended = time.perf_counter() - self._began
        blocks = tuple(fold.blocks)
        if isinstance(error, StreamBroken) and error.code == CANNOT_CONTINUE:
            # The blocks in memory begin another answer. Readers keep the answer that they have read.
            blocks = blocks_of_text(self._sink.before_reset, self._live.text.read_text)
            if (cause := self._driver.recovered) is not None:
                error.retryable, error.__cause__ = cause.retryable, cause
        self.message = self._message(blocks, summary)
        if isinstance(error, TurnstreamError):
            error.partial = self.message
        logger.debug("stream %s broke off: %r", self._id, error)
        self._live.end(error)

    def _show_cut(self, events: Sequence[TurnEvent]) -> None:
        try:
            self._live.show(events)
        except StreamBroken as error:  # it has ended the stream, or another error has
            logger.debug("stream %s: the rest of it cannot be shown: %s", self._id, error)

    def _steps(self) -> tuple[MessageStep, ...]:
        models = {call.number: call.model for call in self._account.calls}
        return tuple(
            MessageStep.of(number, models.get(number), facts) for number, facts in self._sink.answers.items()
        )

    def _message(self, blocks: tuple[Block, ...], summary: Summary) -> ModelMessage[Any]:
        steps = self._steps()
        last = steps[-1] if steps else None
        called = (last.called if last is not None else None) or self._source.called
        calls = [call for call in self._account.calls if call.model is not None]
        return ModelMessage(
            self._id,
            (last.model if last is not None else None) or (called.model if called is not None else ""),
            called.provider if called is not None else "",
            blocks,
            usage=summary.usage,
            steps=steps,
            attempts=tuple(map(MessageAttempt.of, summary.attempts, calls)),
            user_replacement=next(
                (
                    facts.user_replacement
                    for facts in self._sink.answers.values()
                    if facts.user_replacement is not None
                ),
                None,
            ),
            pricing=self._pricing,
        )
