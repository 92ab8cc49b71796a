"""The one task that writes a turn: reads its source, folds, numbers, stores, ends it.

    open the step's stream ─► fold a batch ─► append to the log ─► … a block is finished:
        store it ─► append its block_stop ─► fold on ─► … ─► finish: one transaction, then the terminal event
        the stream fails: its source recovers ─► open another stream for the same step ─► …

Nothing is awaited per delta. An interrupt reaches the executor only while it waits for its source: what is being
written is always written to the end, so a turn's last words and its status are one decision, made here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import cast

from turnstream.core.accumulator import Accumulator
from turnstream.core.stream_events import MessageStop, StreamEvent
from turnstream.core.turn_events import (
    BlockReset,
    Data,
    Notice,
    Source,
    StepStart,
    StepStop,
    ToolProgress,
    TurnEvent,
)
from turnstream.core.usage import Usage
from turnstream.errors import (
    ProviderError,
    StreamIncomplete,
    TurnstreamError,
)
from turnstream.model_loop.accounts import TurnAccount
from turnstream.model_loop.sources import Batches, StepFailure, Stream, TurnSource
from turnstream.providers.base import PushSource
from turnstream.providers.failures import operator_words, stream_error
from turnstream.store.base import OutcomeRecord, Store, TurnRecord
from turnstream.store.journal.pages import JournalSegment
from turnstream.telemetry.measures import Histogram
from turnstream.turnlog.log import TurnLog
from turnstream.turns.ending import (
    STOPPED,
    add_cancelled,
)
from turnstream.turns.finishing import Rest
from turnstream.turns.interruption import TaskStopped
from turnstream.turns.journal import BlockJournal
from turnstream.turns.leaving import PutDown, close_in_time, leave_stream
from turnstream.turns.turn_task import SOURCE_CLOSE_TIMEOUT, TurnTask

logger = logging.getLogger(__name__)

_BREATH_EVERY = 8
"""Batches after which a source that always has more lets other tasks run."""
_OWN_EVENTS = frozenset({BlockReset, Data, Notice, Source, StepStart, StepStop, ToolProgress})


class Executor(TurnTask):
    """Runs one turn; `run` is the body of its only task. Safe to ask for anything from the same event loop."""

    def __init__(self, turn: TurnRecord, log: TurnLog, store: Store, *, debug: bool = False) -> None:
        super().__init__(turn, log, store, debug=debug)
        self.accumulator = Accumulator()
        self.account = TurnAccount()
        self.gaps: Histogram | None = None
        """Where the seconds between two pieces of the source are counted."""
        self._clock = asyncio.get_running_loop().time
        self.last_progress = self._clock()
        self.runs_tools = False
        """Silence is a tool's then, which has a limit of its own."""
        self._rest: Rest | None = None
        """Blocks that were left when the end was decided."""
        self._reported_usage = Usage()
        self._notices_shown = 0
        self._step_shown = False
        self._journal = BlockJournal()

    def journal_segment(self, *, whole: bool = False) -> JournalSegment | None:
        """What the open block has gained since the last call; None when that is nothing, or is being stored. `whole`: all
        of it, even if it is being stored: that may fail."""
        if whole:
            return self._journal.whole_segment(self.log)
        if self.writer.busy or self.outcome is not None:
            return None
        return self._journal.next_segment(self.log)

    # -- the task ------------------------------------------------------------------------------------------------

    async def run(self, source: TurnSource) -> None:
        """Write the turn to its end. Never raises but for a cancellation that is not ours, and what ends the process:
        then the registry ends the turn (`end_lost`)."""
        self._decided = await self._outcome(source)
        await self._committed.wait()
        if not self._interruption.detached and not self.abandoned:
            await self._end(self._decided)

    async def _outcome(self, source: TurnSource) -> OutcomeRecord:
        try:
            outcome = await self._generate(source)
        except TaskStopped:
            outcome = STOPPED[self._interruption.cause or "cancelled"]
        except TurnstreamError as error:
            outcome = self._failed(error)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit, PutDown):
            raise
        except BaseException as error:  # what a source raises ends its turn, and nothing else
            logger.exception("turn %s failed unexpectedly", self.turn.id)
            outcome = self._failed(error)
        self._decided = outcome
        await close_in_time(source.close(), self.turn.id, SOURCE_CLOSE_TIMEOUT)
        return outcome

    async def _generate(self, source: TurnSource) -> OutcomeRecord:
        source.begin(self.notify)
        step = 0
        reason: str | None = None
        while (stream := source.step(step)) is not None:
            stop = await self._run_step(source, step, stream)
            self.accumulator.end()
            await self._advance([])
            if (results := source.results(stop)) is not None:
                await self._run_tools(results)
            reason = stop.stop_reason if stop is not None else "end_turn"
            self.log.append([StepStop(step, reason)])
            step += 1
        return OutcomeRecord(status="complete", stop_reason=source.stop_reason or reason)

    async def _run_step(self, source: TurnSource, step: int, stream: Stream) -> MessageStop | None:
        """Read model calls until one is whole, or nothing can be done about its failure; its end marker, if it has one.
        Blocks that it left open stay so: whether they are whole depends on the marker."""
        self._fold_anew()
        first = self.accumulator.next_sequence
        start: StepStart | None = StepStart(step)
        while True:
            self.account.begin(step, source.called, source.estimated_input)
            try:
                await self._read(stream, start)
                return self._whole_answer(source)
            except ProviderError as error:
                stream = await self._recover(source, error, first)
            if self._step_shown:
                start = None

    def _whole_answer(self, source: TurnSource) -> MessageStop | None:
        """Raises ProviderError where the answer that was read is not whole."""
        accumulator = self.accumulator
        if accumulator.error is not None:
            raise stream_error(accumulator.error)
        if accumulator.stop is not None:
            self.account.close(accumulator.usage, accumulator.raw_usage)
        elif source.needs_end_marker:
            raise StreamIncomplete("the model's answer ended without its end marker")
        return accumulator.stop

    async def _recover(self, source: TurnSource, failure: ProviderError, first: int) -> Stream:
        """The stream to read on after a failure. What was shown stands. Raises the failure where there is none."""
        wait, accumulator = self._interruption.wait, self.accumulator
        shown = accumulator.shown
        begun = (shown.sequence + 1 if shown is not None else accumulator.next_sequence) - first
        open_block = shown.finish(partial=True) if shown is not None else None
        unstored = accumulator.unstored()
        self.account.fail(failure.code, accumulator.usage, accumulator.raw_usage, unstored=unstored)
        failed = source.called.name if source.called is not None else None
        recovery = await wait(source.recover(StepFailure(failure, first, begun, open_block)))
        await wait(self._committed.wait())
        accumulator.resume()
        self._reported_usage = Usage()
        recovered = f"{recovery.notice.code} ({recovery.notice.model})"
        logger.warning("turn %s: %s; then %s", self.turn.id, operator_words(failure, failed), recovered)
        await self.writer.show(recovery.notice)
        await wait(recovery.pause())
        self.last_progress = asyncio.get_running_loop().time()
        return recovery.stream

    def _fold_anew(self) -> None:
        self.accumulator = Accumulator(self.accumulator.next_sequence)
        self._notices_shown = 0
        self._reported_usage = Usage()
        self._step_shown = False

    async def _run_tools(self, results: Stream) -> None:
        self._fold_anew()
        self.runs_tools = True
        try:
            await self._read(results, None)
        finally:
            self.runs_tools = False
            self.last_progress = self._clock()

    async def _read(self, stream: Stream, start: StepStart | None) -> None:
        """Open a stream, fold it to its end, and let go of it, however it ends."""
        batches = await self._interruption.wait(stream.__aenter__())
        try:
            await self._interruption.wait(self._committed.wait())
            self.account.answering()
            self._step_shown = True
            if start is not None:
                self.log.append([start])
            await self._read_all(batches)
        except (GeneratorExit, PutDown):
            raise  # nothing can be awaited any more
        except BaseException as error:
            await leave_stream(stream, error, self.turn.id, SOURCE_CLOSE_TIMEOUT)
            if isinstance(error, asyncio.CancelledError):
                self._interruption.blame_source()  # a deadline of its own that passed during a write
            raise
        await leave_stream(stream, None, self.turn.id, SOURCE_CLOSE_TIMEOUT)
        self._interruption.check()

    async def _read_all(self, batches: Batches) -> None:
        """Fold a stream to its end. What only adds text to the shown block is taken where it arrives, if the stream
        pushes it; the task is woken for all else."""
        clock, wait, gaps = self._clock, self._interruption.wait, self.gaps
        if hasattr(batches, "push_to"):  # isinstance takes 20 µs for a protocol before Python 3.12
            cast("PushSource", batches).push_to(self._take_at_once)
        count = 0
        while True:
            try:
                events = await wait(anext(batches))
            except StopAsyncIteration:
                return
            now = clock()
            if count == 0:
                if not self.writer.marked:
                    self.writer.mark_streaming()
            elif gaps is not None:
                gaps.observe(now - self.last_progress)
            self.last_progress = now
            if _OWN_EVENTS.isdisjoint(map(type, events)):
                await self._advance(cast("Sequence[StreamEvent]", events))
            else:
                await self._absorb(events)
            del events  # a batch may be large, and the next long in coming
            count += 1
            if count % _BREATH_EVERY == 0:
                await asyncio.sleep(0)

    def _take_at_once(self, events: Sequence[StreamEvent]) -> bool:
        """Show a batch for which nothing has to be awaited, while the task waits for its source. False, and nothing is
        done, for any other."""
        if self._interruption.cause is not None:
            return False
        changes = self.accumulator.extend_shown(events)
        if changes is None:
            return False
        now = self._clock()
        if self.gaps is not None:
            self.gaps.observe(now - self.last_progress)
        self.last_progress = now
        for delta in changes:
            self.log.grow(delta)
        return True

    async def _absorb(self, events: Sequence[object]) -> None:
        """Take one batch with events that are not the model's: they are shown in their place."""
        start = 0
        for place, event in enumerate(events):
            if type(event) in _OWN_EVENTS:
                await self._advance(cast("Sequence[StreamEvent]", events[start:place]))
                if type(event) is BlockReset:
                    await self._take_back(event)
                else:
                    await self.writer.show(cast("TurnEvent", event))
                start = place + 1
        await self._advance(cast("Sequence[StreamEvent]", events[start:]))

    async def _advance(self, events: Sequence[StreamEvent]) -> None:
        """Fold, show, and store each block as it closes."""
        accumulator, log = self.accumulator, self.log
        position = 0
        while True:
            try:
                position = accumulator.fold(events, position)
            finally:  # what was folded before a bad event is shown: the log and the open block agree
                log.show(accumulator.take_changes(), accumulator.shown)
            if len(accumulator.notices) > self._notices_shown:
                await self._show_notices()
            if accumulator.finished is None:
                break
            block = accumulator.finished
            await self.writer.store_block(block)
            log.block_stored(accumulator.release(), accumulator.shown)
            self._finisher.blocks_completed += 1
            self.account.said(block)
            if self._source is not None:
                self._source.stored(block)
            self.writer.show_postponed()
        if accumulator.usage != self._reported_usage and accumulator.stop is not None:
            self._reported_usage = accumulator.usage
            log.append([self.account.report(accumulator.usage, accumulator.raw_usage)])

    async def _take_back(self, reset: BlockReset) -> None:
        """Drop blocks: in the store, then here, then for watchers. Of those that nobody was shown nothing is told."""
        index, accumulator = reset.block_index, self.accumulator
        shown = accumulator.shown
        stored = accumulator.next_sequence if shown is None else shown.sequence
        was_shown = index < (stored if shown is None else stored + 1)
        if was_shown:
            await self.writer.take_back(reset)
            self._finisher.blocks_completed -= max(0, stored - max(0, index))
            self.account.taken_back()
            self._journal = BlockJournal()
        accumulator.take_back(index)
        if self._source is not None:
            self._source.taken_back(index)
        if was_shown:
            self.log.retracted(reset, accumulator.shown)
            self.writer.show_postponed()

    async def _show_notices(self) -> None:
        while self._notices_shown < len(self.accumulator.notices):
            notice = self.accumulator.notices[self._notices_shown]
            self._notices_shown += 1
            await self.writer.show(notice)

    # -- the end -------------------------------------------------------------------------------------------------

    async def _finish(self, outcome: OutcomeRecord) -> None:
        """Decide the end: from here on nothing can change it."""
        self._finisher.outcome = outcome
        await self.account.ready()
        if self._rest is None:
            self._rest = self._take_rest(outcome)
        await self._finisher.finish(outcome, self._rest)

    def _take_rest(self, outcome: OutcomeRecord) -> Rest:
        """Take what is left of the turn out of the accumulator and the account."""
        events, cuts = self.accumulator.cut()
        summary = self.account.end(
            self.accumulator.usage,
            self.accumulator.raw_usage,
            cut=[cut.block for cut in cuts],
            complete=outcome.status == "complete",
            outcome=outcome.error_code or outcome.status,
        )
        if self._source is not None and outcome.status != "complete":
            calls = self._source.unanswered()
            add_cancelled(calls, self.accumulator.next_sequence, outcome, events, cuts)
        report = self.account.untold(summary)
        told_last = () if report is None else (report,)
        return Rest(events, cuts, summary, told_last)
