"""The one loop of a turn's model calls and tools.

    open the step's stream ─► fold a batch ─► show it ─► … a block is complete: keep it ─► fold on ─► …
        the stream fails: its source recovers ─► open another stream for the same step
        the step is complete ─► the results of its tools ─► the next step ─► … ─► the stop reason

The sink shows and keeps blocks. An interrupt stops only an await that goes through `Sink.wait`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import cast

import msgspec

from turnstream.core.accumulator import Accumulator
from turnstream.core.answers import replacement_events, without_content
from turnstream.core.open_block import OpenBlock
from turnstream.core.stream_events import MessageStop, RedactContent, StreamEvent
from turnstream.core.turn_events import (
    BlockReset,
    Data,
    Notice,
    Source,
    StepStart,
    StepStop,
    ToolProgress,
    TurnEvent,
    UserRedacted,
)
from turnstream.core.usage import Usage
from turnstream.errors import ProviderError, StreamIncomplete
from turnstream.model_loop.accounts import Summary, TurnAccount
from turnstream.model_loop.model_call import ModelCall
from turnstream.model_loop.position import LoopPosition
from turnstream.model_loop.sink import OwnEvent, Sink
from turnstream.model_loop.source_shutdown import SourceKilled, close_stream, raise_if_source_cancelled
from turnstream.model_loop.sources import Batches, StepFailure, Stream, TurnSource
from turnstream.providers.base import PushSource
from turnstream.providers.clocks import is_output
from turnstream.providers.failures import operator_words, stream_error
from turnstream.providers.joining import RepetitionJoint, joined

logger = logging.getLogger(__name__)

_YIELD_EVERY = 8
"""Batches after which other tasks may run, even if the source always has more."""
_OWN_EVENTS = frozenset({BlockReset, Data, Notice, RedactContent, Source, StepStart, StepStop, ToolProgress})


class LoopDriver:
    """Runs the steps of one source. It can begin at any position, with an account that already has calls."""

    def __init__(self, sink: Sink, account: TurnAccount, position: LoopPosition | None = None) -> None:
        position = position or LoopPosition()
        self.account = account
        self.accumulator = Accumulator(position.sequence)
        """Folds the call, or the results of tools, that is being read."""
        self.recovered: ProviderError | None = None
        """The last failure that was recovered."""
        self.stop_sequence: str | None = None
        """The stop sequence at which the last model call ended, if the provider names it."""
        self.answer_headers: Mapping[str, str] = {}
        """Headers of the last answer of a provider."""
        self.on_account: Callable[[Summary], None] | None = None
        """Called with the account so far: after a step's call, and without attempts when a call is booked."""
        self._sink = sink
        self._source = TurnSource()
        self.step = position.step
        """Number of the current step."""
        self._answered, self._step_shown = position.answered, position.step_shown
        self._repeated, self._restart = position.repeated, position.restart
        self._first = position.first
        self._notices_shown, self._reported = 0, Usage()
        if position.open_block is not None:
            self.accumulator.shown = position.open_block
            self.accumulator.resume()

    @property
    def is_silent(self) -> bool:
        """True if the current step has shown nothing, and none of its tools runs."""
        accumulator = self.accumulator
        has_shown = accumulator.shown is not None or accumulator.next_sequence > self._first
        return not (has_shown or self._sink.progress.runs_tools)

    @property
    def shows_stored_answer(self) -> bool:
        """True if another process would read the current answer at its provider. Its text is being shown."""
        shown, source = self.accumulator.shown, self._source
        is_text = shown is not None and shown.block_type == "text"
        # A hook would run again there, and may choose another model.
        return is_text and source.answer_id is not None and not source.needs_preparation

    async def run(self, source: TurnSource) -> str | None:
        """Read `source` to its end, and return the stop reason.

        Also returns, with the stop reason None, if calls wait for an approval (`TurnSource.pending`). Raises
        the failure of a call that cannot be recovered, and any other error of the source or the sink.
        """
        self._source = source
        source.book_with(self._book)
        try:
            return await self._run(source)
        finally:
            self._source = TurnSource()  # drop the source, which may reference this driver

    async def _run(self, source: TurnSource) -> str | None:
        reason: str | None = None
        if self._restart is not None:  # first: the store does not have the blocks that are retracted
            await self._retract(self._restart[0])
            await self._keep_event(self._restart[1])
        if source.needs_preparation:
            await self._prepare(source)
        stream = None if self._answered else source.step(self.step)
        if stream is not None and self._repeated:
            stream = joined(stream, RepetitionJoint(self._repeated))
        while stream is not None or self._answered:
            if stream is not None:
                stop = await self._run_step(source, stream)
                self.accumulator.end()
                await self._advance(())
            else:
                stop, self._answered = MessageStop("tool_use"), False
            if (results := source.results(stop)) is not None:
                self._note_step_end()
                await self._run_tools(results)
                if source.pending:
                    return None
            reason = stop.stop_reason if stop is not None else "end_turn"
            self.stop_sequence = stop.stop_sequence if stop is not None else None
            self._sink.show([StepStop(self.step, reason)], self.accumulator.shown)
            self.step += 1
            if (stream := source.step(self.step)) is not None:
                if results is None:
                    self._note_step_end()
                self._reset_accumulator()
                self._first = self.accumulator.next_sequence
                self._step_shown = False
        return source.stop_reason or reason

    async def _prepare(self, source: TurnSource) -> None:
        """Prepare the source, once the turn is stored."""
        await self._get_ready()
        notice = await self._sink.wait(source.prepare())
        self._sink.progress.last = monotonic()
        if notice is not None:
            await self._keep_event(notice)

    def _book(self, stream: str, calls: Sequence[ModelCall]) -> None:
        self.account.book(stream, calls)
        if self.on_account is not None:
            self.on_account(msgspec.structs.replace(self.account.so_far(), attempts=()))

    def _note_step_end(self) -> None:
        if self.on_account is not None:
            self.on_account(self.account.so_far())

    async def _run_step(self, source: TurnSource, stream: Stream) -> MessageStop | None:
        """Read model calls until one is complete. Return its end marker, or None if it has none.

        Blocks that the call left open stay open: the marker decides whether they are complete. Raises
        ProviderError if the source cannot recover from the failure.
        """
        while True:
            self.account.begin(self.step, source.called, source.estimated_input)
            try:
                await self._read(stream, self.step)
                return self._whole_answer(source)
            except ProviderError as failure:
                stream = await self._recover(source, failure)

    def _whole_answer(self, source: TurnSource) -> MessageStop | None:
        """Return the end marker of the answer that was read. Raises ProviderError if it is not complete."""
        accumulator = self.accumulator
        if accumulator.error is not None:
            raise stream_error(accumulator.error)
        if accumulator.stop is not None:
            self.account.close(accumulator)
        elif source.needs_end_marker:
            raise StreamIncomplete("the model's answer ended without its end marker")
        return accumulator.stop

    async def _recover(self, source: TurnSource, failure: ProviderError) -> Stream:
        """Return the stream to read after a failure.

        Shown blocks stay. Raises the failure if there is no recovery.
        """
        sink, accumulator = self._sink, self.accumulator
        shown = accumulator.shown
        begun = (shown.sequence + 1 if shown is not None else accumulator.next_sequence) - self._first
        open_block = shown.finish(partial=True) if shown is not None else None
        unstored = accumulator.unstored()
        self.account.fail(failure.code, accumulator.usage, accumulator.raw_usage, unstored=unstored)
        failed = source.called.name if source.called is not None else None
        recovery = await sink.wait(source.recover(StepFailure(failure, self._first, begun, open_block)))
        if recovery.reads_again:
            self.account.read_again()
        await self._get_ready()
        accumulator.resume()
        self._reported, self.recovered = Usage(), failure
        recovered = f"{recovery.notice.code} ({recovery.notice.model})"
        logger.warning("%s: %s; then %s", sink.label, operator_words(failure, failed), recovered)
        await self._keep_event(recovery.notice)
        await sink.wait(recovery.pause())
        sink.progress.last = monotonic()
        return recovery.without_repetition(failure)

    def _reset_accumulator(self) -> None:
        self.accumulator = Accumulator(self.accumulator.next_sequence)
        self._notices_shown, self._reported = 0, Usage()

    async def _run_tools(self, results: Stream) -> None:
        progress = self._sink.progress
        self._reset_accumulator()
        progress.runs_tools = True
        try:
            await self._read(results, None)
        finally:
            progress.runs_tools = False
            progress.last = monotonic()

    # -- a stream ----------------------------------------------------------------------------------------

    async def _read(self, stream: Stream, step: int | None) -> None:
        """Open a stream, fold it to its end, and close it in any case.

        Args:
            step: Number of the step. None for the results of tools.
        """
        sink = self._sink
        batches = await sink.wait(stream.__aenter__())
        try:
            take = sink.taker(self.accumulator, step)
            await self._get_ready()
            if step is not None:
                self._begin_answer(step)
            if hasattr(batches, "push_to"):  # isinstance takes 20 µs for a protocol before Python 3.12
                cast("PushSource", batches).push_to(take)
            # The socket may push the first output into a block that this stream continues.
            await self._read_all(batches, notes_output=step is not None and self.accumulator.shown is None)
        except (GeneratorExit, SourceKilled):
            raise  # nothing can be awaited after these
        except BaseException as error:
            await close_stream(stream, error, sink.label)
            if isinstance(error, asyncio.CancelledError):
                raise_if_source_cancelled(
                    asyncio.current_task()
                )  # the source's own deadline passed during a write
            raise
        await close_stream(stream, None, sink.label)
        await self._get_ready()

    async def _get_ready(self) -> None:
        if not self._sink.is_ready:
            await self._sink.wait(self._sink.ready())

    def _begin_answer(self, step: int) -> None:
        called = self._source.called
        logger.debug(
            "%s: %s answers step %d",
            self._sink.label,
            called.name if called is not None else "the source",
            step,
        )
        self.account.answering()
        self.answer_headers = self._source.answer_headers
        if not self._step_shown:
            self._step_shown = True
            self._sink.show([self._source.step_start(step)], self.accumulator.shown)

    async def _read_all(self, batches: Batches, *, notes_output: bool) -> None:
        """Fold a stream to its end.

        The socket pushes batches that only add text to the open block. The task wakes for all other batches.
        """
        sink, accumulator, progress = self._sink, self.accumulator, self._sink.progress
        wait, fold, gaps = sink.wait, accumulator.fold, progress.gaps
        count = 0
        while True:
            if not sink.is_ready:
                await wait(sink.ready())
            try:
                events = await wait(anext(batches))
            except StopAsyncIteration:
                return
            if not sink.is_ready:
                await wait(sink.ready())
            now = monotonic()
            if count and gaps is not None:
                gaps.observe(now - progress.last)
            progress.last = now
            progress.has_begun = True
            if notes_output and is_output(events):
                self.account.note_output()
                notes_output = False
            if _OWN_EVENTS.isdisjoint(map(type, events)) and not accumulator.is_redacted:
                own = cast("Sequence[StreamEvent]", events)
                try:
                    position = fold(own)
                finally:  # events that were folded before a bad one are shown, too
                    sink.show(accumulator.take_changes(), accumulator.shown)
                if accumulator.finished is not None or accumulator.stop is not None or accumulator.notices:
                    await self._settle(own, position)
                del own
            else:
                await self._absorb(events)
            del events  # free the batch, which may be large, before the next wait
            count += 1
            if count % _YIELD_EVERY == 0:
                await asyncio.sleep(0)

    async def _absorb(self, events: Sequence[object]) -> None:
        """Fold a batch that also has events of the source's own. Each is shown at its position."""
        start = 0
        for place, event in enumerate(events):
            if type(event) in _OWN_EVENTS:
                await self._advance(cast("Sequence[StreamEvent]", events[start:place]))
                if type(event) is BlockReset:
                    await self._retract(event)
                elif type(event) is RedactContent:
                    await self._redact(event)
                else:
                    await self._keep_event(cast("OwnEvent", event))
                start = place + 1
        await self._advance(cast("Sequence[StreamEvent]", events[start:]))

    async def _advance(self, events: Sequence[StreamEvent]) -> None:
        if self.accumulator.is_redacted:
            events = without_content(events)
        await self._settle(events, self._fold(events, 0))

    async def _redact(self, event: RedactContent) -> None:
        """Replace the content that the provider retracts: of this call, or of the user's turn."""
        if event.side == "user":
            await self._keep_event(UserRedacted(event.replacement))
        else:
            await self._retract(BlockReset(self._first, shown=()))  # no dialect may compare what it showed
            replacement = replacement_events(event.replacement)
            await self._settle(replacement, self._fold(replacement, 0))
        self.accumulator.note(event)

    def _fold(self, events: Sequence[StreamEvent], position: int) -> int:
        accumulator = self.accumulator
        try:
            return accumulator.fold(events, position)
        finally:  # events that were folded before a bad one are shown, too
            self._sink.show(accumulator.take_changes(), accumulator.shown)

    async def _settle(self, events: Sequence[StreamEvent], position: int) -> None:
        """Keep the notices and the blocks that `events[:position]` finished, and fold the rest."""
        accumulator = self.accumulator
        while True:
            for notice in accumulator.notices[self._notices_shown :]:
                self._notices_shown += 1
                await self._keep_event(notice)
            if (block := accumulator.finished) is None:
                break
            await self._sink.keep(block, self._release)
            self.account.count_block(block)
            self._source.stored(block)
            if position == len(events) and accumulator.shown is None:
                break
            position = self._fold(events, position)
        if accumulator.usage != self._reported and accumulator.stop is not None:
            self._reported = accumulator.usage
            report = self.account.report(accumulator.usage, accumulator.raw_usage)
            self._sink.show([report], accumulator.shown)

    def _release(self) -> tuple[TurnEvent, OpenBlock | None]:
        return self.accumulator.release(), self.accumulator.shown

    async def _keep_event(self, event: OwnEvent) -> None:
        await self._sink.keep(event, lambda: (event, self.accumulator.shown))

    async def _retract(self, reset: BlockReset) -> None:
        """Retract blocks: first in the sink, then in memory.

        Blocks that no watcher has seen are dropped silently.
        """
        index, shown = reset.block_index, self.accumulator.shown
        if index < (self.accumulator.next_sequence if shown is None else shown.sequence + 1):
            await self._sink.keep(reset, lambda: self._apply_reset(reset))
        else:
            self._forget(index)

    def _apply_reset(self, reset: BlockReset) -> tuple[TurnEvent, OpenBlock | None]:
        self.account.note_retracted()
        self._forget(reset.block_index)
        return reset, self.accumulator.shown

    def _forget(self, index: int) -> None:
        self.accumulator.retract(index)
        self._source.note_retracted(index)
