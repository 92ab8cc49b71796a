"""The task of a turn: how it begins, is stopped, and is ended where it does not end by itself.

own ─► start ─► the task runs ─► the turn's end is written ─► on_end
          stop: the source has STOP_SECONDS ─► the turn ends in a task of its own, and the coroutine is closed
          the task dies ─► the registry asks for `end_lost`, which ends the turn in a task of its own
          the rows are not made ─► abandon
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from turnstream.core.turn_events import Notice, ToolProgress, TurnEvent
from turnstream.errors import StoreError
from turnstream.model_loop.accounts import Summary
from turnstream.model_loop.leaving import close_in_time, put_down
from turnstream.model_loop.sink import Progress
from turnstream.model_loop.sources import TurnSource
from turnstream.providers.failures import operator_words
from turnstream.store.base import OutcomeRecord, Store, TurnRecord
from turnstream.store.operations import FinishTurn, StartedRecords
from turnstream.turnlog.log import TurnLog
from turnstream.turns.clock import now_microseconds
from turnstream.turns.ending import LOST_EXECUTOR, STOPPED, StopCause
from turnstream.turns.failures import describe_failure
from turnstream.turns.finishing import Finisher
from turnstream.turns.interruption import Interruption
from turnstream.turns.new_turns import start_event
from turnstream.turns.writing import TurnWriter

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""Seconds that a turn that is asked to stop waits for its source. Then it ends without the source."""


class TurnTask:
    """One turn's task and its end. A subclass says what the task does: `run`, and `_finish`, which writes the end."""

    def __init__(self, turn: TurnRecord, log: TurnLog, store: Store, *, debug: bool = False) -> None:
        self.log = log
        self.ended = asyncio.Event()
        self.abandoned = False
        """The turn's rows were not made, or not surely: there is nothing to end."""
        self._debug = debug
        self._interruption = Interruption()
        self._starting: asyncio.Task[StartedRecords] | None = None
        self._source: TurnSource | None = None
        self._decided: OutcomeRecord | None = None
        """The end that the task had come to, whether or not it could write it."""
        self._deadline: asyncio.TimerHandle | None = None
        self._ending_alone: asyncio.Task[None] | None = None
        self._on_end: Callable[[], None] | None = None
        self.writer = TurnWriter(turn, log, store, self._interruption)
        self._finisher = Finisher(turn, log, store, self.writer)

    async def run(self, source: TurnSource) -> None:
        """Write the turn to its end."""
        raise NotImplementedError

    async def _finish(self, outcome: OutcomeRecord) -> None:
        """Decide the end, store it and show it. May be called again after a cancellation."""
        raise NotImplementedError

    @property
    def turn(self) -> TurnRecord:
        """The turn's row, as far as is known here."""
        return self._finisher.turn

    @property
    def outcome(self) -> OutcomeRecord | None:
        """The end of the turn, once it is decided."""
        return self._finisher.outcome

    @property
    def unsaved(self) -> FinishTurn | None:
        """The end of the turn, where storage refused it; whoever keeps the executor tries `save_end`."""
        return self._finisher.unsaved

    @property
    def blocks_completed(self) -> int:
        return self.writer.blocks_completed

    @property
    def progress(self) -> Progress:
        """The signs of life of the turn's source."""
        return self.writer.progress

    @property
    def task(self) -> asyncio.Task[None] | None:
        return self._interruption.task

    def own(self, source: TurnSource, on_end: Callable[[], None]) -> None:
        """Take over the source that the turn will read. `on_end` is called when the turn's task is done, when the turn
        ended without the task, and when the task will never be started."""
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
        if self._ending_alone is not None and not self._ending_alone.done():
            return  # that tells of the end
        self._note_end()  # also when the task never began

    def begin_with(
        self,
        writing: Coroutine[Any, Any, StartedRecords],
        launch: Callable[[], None] | None = None,
    ) -> asyncio.Task[StartedRecords]:
        """Begin once the turn's rows are durable, or let go of the source when they are not made. The task is the
        executor's own, and ends whether or not anybody waits for it.

        `launch` starts the turn's task, and is called when the rows are made. None: the caller starts it at once.
        """

        def settle(task: asyncio.Task[StartedRecords]) -> None:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if isinstance(error, StoreError):
                self._begin_in_doubt(error)
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

    def begin(self, start: TurnEvent) -> None:
        """The turn's rows are durable: from now on events are shown, `start` first."""
        self.log.append([start])
        self.writer.committed.set()

    def _begin_in_doubt(self, error: StoreError) -> None:
        """Storage failed, but may yet make the rows, as after a timeout: if it does, the turn has ended."""
        self.abandon()
        self._finisher.turn = msgspec.structs.replace(self.turn, created_at=now_microseconds())
        self.log.append([start_event(self.turn)])
        self._finisher.end_unsaved(self._failed(error), (), Summary())

    def stop(self, cause: StopCause) -> None:
        """Ask to end early; the first cause counts. Does nothing once the turn's end is decided."""
        if self.outcome is None and not self._interruption.detached:
            self._interruption.ask(cause)
            self._set_deadline()

    def abandon(self) -> None:
        """The turn's rows could not be made: let go of the source; nothing was shown."""
        self.abandoned = True
        self.writer.committed.set()
        if self.task is not None:
            self.task.cancel()
            self._set_deadline()
        elif self._source is not None:
            closing = self._close_unread(self._source)
            self._ending_alone = asyncio.get_running_loop().create_task(
                closing, name=f"end of {self.turn.id}"
            )

    async def _close_unread(self, source: TurnSource) -> None:
        try:
            await close_in_time(source.close(), self.writer.label)
        finally:
            self._note_end()

    def _note_end(self) -> None:
        self.ended.set()
        if self._on_end is not None:
            self._on_end()
        if self.log.terminal is not None or self.abandoned:
            # Without cycles of references all of it is freed as soon as nobody holds on to it.
            self._on_end = self._source = self._starting = None

    def _set_deadline(self) -> None:
        if self._deadline is None and not self.ended.is_set():
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(STOP_SECONDS, self._end_at_deadline)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_at_deadline(self) -> None:
        """The source has not let go. What is being written has a deadline of its own, and is waited for."""
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
        if not self.abandoned:
            self._end_alone(STOPPED[self._interruption.cause or "cancelled"])
        put_down(task, self.writer.label)

    async def end_lost(self) -> None:
        """End a turn whose task has died, with all that it had: stored and shown. It may be asked again."""
        self._detach()
        while self.log.terminal is None and not self.abandoned:
            ending = self._end_alone(self.outcome or self._decided or LOST_EXECUTOR)
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                caller = asyncio.current_task()
                if not ending.cancelled() or (caller is not None and caller.cancelling()):
                    raise

    def _detach(self) -> None:
        """Take nothing more from the task."""
        self._interruption.detached = True
        self.writer.is_ready = False

    def _end_alone(self, outcome: OutcomeRecord) -> asyncio.Task[None]:
        """End the turn in a task of its own; all callers wait for the same."""
        if self._ending_alone is None or self._ending_alone.done():
            ending = self._run_alone(outcome)
            self._ending_alone = asyncio.get_running_loop().create_task(ending, name=f"end of {self.turn.id}")
        return self._ending_alone

    async def _run_alone(self, outcome: OutcomeRecord) -> None:
        try:
            if self._source is not None and self.task is not None and self.task.done():
                await close_in_time(self._source.close(), self.writer.label)
            await self.writer.committed.wait()
            if not self.abandoned:
                await self._end(outcome)
        finally:
            self._note_end()

    def notify(self, event: Notice | ToolProgress) -> None:
        """Show a passing event to whoever watches now."""
        if self.outcome is not None or not self.writer.committed.is_set():
            return
        self.writer.show_soon(event)

    async def save_end(self) -> None:
        """Try again to store the end that storage refused. Raises StoreError."""
        await self._finisher.save()

    async def _end(self, outcome: OutcomeRecord) -> None:
        try:
            await self._finish(outcome)
        except Exception as error:
            logger.exception("turn %s could not be ended", self.turn.id)
            if self.log.terminal is None:
                self._finisher.end_unsaved(self._failed(error), (), Summary())

    def _failed(self, error: BaseException) -> OutcomeRecord:
        code, message = describe_failure(error, debug=self._debug)
        called = self._source.called if self._source is not None else None
        words = operator_words(error, called.name if called is not None else None)
        logger.warning("turn %s failed: %s", self.turn.id, words)
        return OutcomeRecord(status="error", error_code=code, error_message=message)
