"""The task of a turn: how it starts, how it is stopped, and how the turn ends if the task cannot end it.

own ─► start ─► the task runs ─► the turn's end is written ─► on_end
          stop: the source has STOP_SECONDS ─► a separate task ends the turn, and the coroutine is closed
          the task dies ─► the registry calls `end_lost`: a separate task ends the turn
          the rows are not stored ─► abandon
          another node has the turn ─► supersede      another node may have it ─► release
          the turn waits for approvals ─► on_end; later another task: continue_with ─► the task runs
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from turnstream.core.turn_events import Notice, ToolProgress, TurnEvent
from turnstream.errors import ProviderError, StaleGeneration, StoreError
from turnstream.model_loop.accounts import Summary
from turnstream.model_loop.sink import Progress
from turnstream.model_loop.source_shutdown import close_in_time, kill_source
from turnstream.model_loop.sources import TurnSource
from turnstream.nodes.lease import Lease
from turnstream.providers.failures import operator_words
from turnstream.store.base import OutcomeRecord, Store, TurnRecord
from turnstream.store.journal.pages import OpenedBlock
from turnstream.store.operations.progress import FinishTurn
from turnstream.store.operations.start import StartedRecords
from turnstream.turnlog.log import TurnLog
from turnstream.turns.clock import now_microseconds
from turnstream.turns.ending import LOST_EXECUTOR, STOPPED, StopCause
from turnstream.turns.failures import describe_failure
from turnstream.turns.finishing import Finisher
from turnstream.turns.interruption import Interruption
from turnstream.turns.new_turns import continued_state, start_event
from turnstream.turns.writing import LeasedWriter, TurnWriter

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""Seconds that a stopping turn waits for its source. Then it ends without the source."""


class TurnTask:
    """One turn's task and its end. A subclass defines `run`, and `_finish`, which writes the end."""

    def __init__(
        self,
        turn: TurnRecord,
        log: TurnLog,
        store: Store,
        *,
        lease: Lease | None = None,
        debug: bool = False,
    ) -> None:
        self.log = log
        self.ended = asyncio.Event()
        self.is_stored = True
        """False for a transient turn."""
        self.abandoned = False
        """True if the turn's rows were not stored, or may not have been: there is no turn to end."""
        self.superseded = False
        """True if another node continues the turn, or may do so: this task shows nothing more, not even an
        end."""
        self.failure: ProviderError | None = None
        """The failure of the model calls that ended the turn, or None."""
        self._debug = debug
        self._interruption = Interruption()
        self._starting: asyncio.Task[StartedRecords] | None = None
        self._continuing: asyncio.Task[TurnRecord] | None = None
        self._source: TurnSource | None = None
        self._decided: OutcomeRecord | None = None
        """The end that the task decided on, written or not."""
        self._deadline: asyncio.TimerHandle | None = None
        self._end_task: asyncio.Task[None] | None = None
        self._on_end: Callable[[], None] | None = None
        self.writer = (
            TurnWriter(turn, log, store, self._interruption)
            if lease is None
            else LeasedWriter(turn, log, store, self._interruption, lease)
        )
        self._finisher = Finisher(turn, log, store, self.writer, debug=debug)

    async def run(self, source: TurnSource) -> None:
        """Write the turn to its end."""
        raise NotImplementedError

    async def _finish(self, outcome: OutcomeRecord) -> None:
        """Decide the end, store it and show it. It may be called again after a cancellation."""
        raise NotImplementedError

    @property
    def turn(self) -> TurnRecord:
        """The turn's row, as far as this process knows it."""
        return self._finisher.turn

    @property
    def outcome(self) -> OutcomeRecord | None:
        """The end of the turn. None until it is decided."""
        return self._finisher.outcome

    @property
    def unsaved(self) -> FinishTurn | None:
        """The write of the turn's end, if storage refused it.

        The owner of the executor retries with `save_end`.
        """
        return self._finisher.unsaved

    @property
    def unsaved_bytes(self) -> int:
        """Estimated bytes that this object keeps until the turn's end is stored."""
        blocks = self.unsaved.blocks if self.unsaved is not None else ()
        return self.log.ring.size + sum(len(row.block.text_content or "") for row in blocks)

    @property
    def waiting(self) -> bool:
        """True if the turn waits for approvals. Then this task has ended, and another one continues it."""
        return self.writer.waiting

    @property
    def blocks_completed(self) -> int:
        """Number of complete blocks of the turn."""
        return self.writer.blocks_completed

    @property
    def progress(self) -> Progress:
        """Times that show if the turn's source is still active."""
        return self.writer.progress

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The turn's task. None before it starts."""
        return self._interruption.task

    def own(self, source: TurnSource, on_end: Callable[[], None]) -> None:
        """Take ownership of the source that the turn will read.

        Args:
            on_end: Called when the turn's task is done, when the turn has ended without the task, and when
                the task will never start.
        """
        self._source = source
        self._on_end = on_end

    def start(self, source: TurnSource) -> asyncio.Task[None]:
        """Start the turn's task on `source`."""
        task = asyncio.get_running_loop().create_task(self.run(source), name=f"turn {self.turn.id}")
        self._interruption.task = task
        self._source = source
        task.add_done_callback(self._note_done)
        return task

    def _note_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._interruption.detached:
            logger.error("turn %s: its task ended with %r", self.turn.id, error)
        self._stop_deadline()
        if self._end_task is not None and not self._end_task.done():
            return  # that task will note the end
        self._note_end()  # needed also if the task never ran

    def begin_with(
        self,
        writing: Coroutine[Any, Any, StartedRecords],
        launch: Callable[[], None] | None = None,
    ) -> asyncio.Task[StartedRecords]:
        """Begin the turn once its rows are durable. Close the source if the rows are not stored.

        The returned task belongs to the executor, and finishes even if no caller waits for it.

        Args:
            writing: The write of the rows.
            launch: Starts the turn's task, once the rows are stored. None: the caller starts it at once.
        """

        def settle(task: asyncio.Task[StartedRecords]) -> None:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if isinstance(error, StoreError):
                self._begin_unstored(error)
            elif error is not None or task.result().replayed:
                self.abandon()
            else:
                self._finisher.turn = task.result().assistant_turn
                self.begin(start_event(self.turn))
                if launch is not None:
                    launch()

        self._starting = asyncio.get_running_loop().create_task(writing)
        self._starting.add_done_callback(settle)
        return self._starting

    def continue_with(
        self,
        writing: Coroutine[Any, Any, TurnRecord],
        launch: Callable[[], None],
        opened: OpenedBlock | None = None,
    ) -> asyncio.Task[TurnRecord]:
        """Continue a turn that waited, or whose node was lost, once its new generation is stored.

        If the write fails, the source is closed. This object owns the returned task, and the task finishes
        even if no caller waits for it.

        Args:
            writing: The write of the new generation.
            launch: Starts the turn's task.
            opened: The open block, which the task continues or retracts, or None.
        """

        def settle(task: asyncio.Task[TurnRecord]) -> None:
            if task.cancelled() or task.exception() is not None:
                self.abandon()
                return
            turn = self._finisher.turn = task.result()
            self.log.taken_over(continued_state(turn, opened))
            self.writer.committed.set()
            launch()

        self._continuing = asyncio.get_running_loop().create_task(writing)
        self._continuing.add_done_callback(settle)
        return self._continuing

    def begin(self, start: TurnEvent) -> None:
        """Show events from now on, `start` first. The turn's rows are durable."""
        self.log.append([start])
        self.writer.committed.set()

    def _begin_unstored(self, error: StoreError) -> None:
        """End the turn for watchers after storage failed.

        Storage may still make the rows, as after a timeout.
        """
        self.abandon()
        self._finisher.turn = msgspec.structs.replace(self.turn, created_at=now_microseconds())
        self.log.append([start_event(self.turn)])
        self._finisher.end_unsaved(self._failed(error), (), Summary())

    def stop(self, cause: StopCause) -> bool:
        """Request an early end. Return False if it was requested before, or if the turn's end is decided."""
        if self.outcome is not None or self._interruption.detached:
            return False
        is_first = self._interruption.cause is None
        self._interruption.request_stop(cause)
        self._set_deadline()
        return is_first

    def supersede(self) -> None:
        """Stop without an end: another node continues the turn. The log becomes a mirror of that node's."""
        if self.superseded or self.log.terminal is not None:
            return
        self.writer.leave_log()
        self._stop_without_end()

    def release(self) -> None:
        """Stop without an end: another node may continue the turn. Watchers are disconnected: they resume."""
        if self.superseded or self.log.terminal is not None:
            return
        self.log.close()
        self._stop_without_end()

    def _stop_without_end(self) -> None:
        logger.warning("turn %s: another node continues it", self.turn.id)
        self.superseded = True
        self._interruption.request_stop("shutdown")
        self._set_deadline()

    def abandon(self) -> None:
        """Close the source, because the turn's rows could not be stored. Nothing has been shown."""
        self.abandoned = True
        self.writer.committed.set()
        if self._source is not None:
            self._source.give_up()
        if self.task is not None:
            self.task.cancel()
            self._set_deadline()
        elif self._source is not None:
            closing = self._close_unread(self._source)
            self._end_task = asyncio.get_running_loop().create_task(closing, name=f"end of {self.turn.id}")

    async def _close_unread(self, source: TurnSource) -> None:
        try:
            await close_in_time(source.close(), self.writer.label)
        finally:
            self._note_end()

    def _note_end(self) -> None:
        self.ended.set()
        if self._on_end is not None:
            self._on_end()
        if self.log.terminal is not None or self.abandoned or self.waiting or self.superseded:
            # Without reference cycles, all of it is freed at the last reference.
            self._on_end = self._source = self._starting = self._continuing = None

    def _set_deadline(self) -> None:
        if self._deadline is None and not self.ended.is_set():
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(STOP_SECONDS, self._end_at_deadline)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_at_deadline(self) -> None:
        """End the turn without its source, which has not stopped.

        First wait for a write that is under way.
        """
        self._deadline = None
        task = self.task
        if task is None or task.done() or self.outcome is not None:
            return
        if self.writer.busy or not self.writer.committed.is_set():
            self._set_deadline()
            return
        logger.error(
            "turn %s: its source does not stop within %g s, and is ended", self.turn.id, STOP_SECONDS
        )
        self._detach()
        if not (self.abandoned or self.superseded):
            self._end_in_task(STOPPED[self._interruption.cause or "cancelled"])
        kill_source(task, self.writer.label)

    async def end_lost(self) -> None:
        """End a turn whose task has died, and store and show all its text. It is safe to call this again."""
        self._detach()
        while self.log.terminal is None and not (self.abandoned or self.superseded):
            ending = self._end_in_task(self.outcome or self._decided or LOST_EXECUTOR)
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                caller = asyncio.current_task()
                if not ending.cancelled() or (caller is not None and caller.cancelling()):
                    raise

    def _detach(self) -> None:
        """Ignore the task from now on."""
        self._interruption.detached = True
        self.writer.is_ready = False

    def _end_in_task(self, outcome: OutcomeRecord) -> asyncio.Task[None]:
        """End the turn in a separate task that all callers share."""
        if self._end_task is None or self._end_task.done():
            ending = self._run_end(outcome)
            self._end_task = asyncio.get_running_loop().create_task(ending, name=f"end of {self.turn.id}")
        return self._end_task

    async def _run_end(self, outcome: OutcomeRecord) -> None:
        try:
            if self._source is not None and self.task is not None and self.task.done():
                await close_in_time(self._source.close(), self.writer.label)
            await self.writer.committed.wait()
            if not (self.abandoned or self.superseded):
                await self._end(outcome)
        finally:
            self._note_end()

    def notify(self, event: Notice | ToolProgress) -> None:
        """Show a transient event to the current watchers."""
        if self.outcome is not None or not self.writer.committed.is_set():
            return
        self.writer.show_soon(event)

    async def save_end(self) -> None:
        """Retry the write of an end that storage refused. Raises StoreError."""
        await self._finisher.save()

    async def _end(self, outcome: OutcomeRecord) -> None:
        try:
            await self._finish(outcome)
        except StaleGeneration:
            self.supersede()
        except Exception as error:
            logger.exception("turn %s could not be ended", self.turn.id)
            if self.log.terminal is None:
                self._finisher.end_unsaved(self._failed(error), (), Summary())

    def _failed(self, error: BaseException) -> OutcomeRecord:
        if isinstance(error, ProviderError):
            self.failure = error
        code, message = describe_failure(error, debug=self._debug)
        called = self._source.called if self._source is not None else None
        words = operator_words(error, called.name if called is not None else None)
        logger.warning("turn %s failed: %s", self.turn.id, words)
        return OutcomeRecord(status="error", error_code=code, error_message=message)
