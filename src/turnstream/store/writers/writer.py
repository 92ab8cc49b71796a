"""The writer: a thread that commits writes in groups. `order.py` divides writes among several writers.

    write(operation) ─► queue ─► the thread takes all queued writes ─► BEGIN, apply in order, COMMIT
                                                                         └─► one call into the event loop
                                                                             resolves every waiting future

While a group is committed, the next group queues, so all writes of a group share the cost of one commit.
Refusals (NotFound, Conflict, Fenced) answer their own operation, and the rest of the group is committed.
`committer.py` has the thread's part: what happens if the database fails a group.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from turnstream.errors import RequestError, StoreError
from turnstream.store.base import Operation
from turnstream.store.database import OpenDatabase
from turnstream.store.writers.committer import Committer
from turnstream.store.writers.outage import Outage
from turnstream.telemetry.measures import StoreMeasures

logger = logging.getLogger(__name__)

LARGEST_GROUP = 4096
_CLOCK_TICK = 0.05

Result = TypeVar("Result")


class _WaitingWrite(NamedTuple):
    operation: Operation[Any]
    future: asyncio.Future[Any]
    submitted: float


class Writer:
    """Queues writes on one event loop, and commits them in a thread.

    It belongs to the event loop that created it. `stop` and `has_ended` may be called from any thread except
    the writer's own.

    Args:
        thread: Name of the thread.
        timeout: Seconds that a write may take.
        outage: Seconds that writes wait for a database that is lost.
        capacity: Largest number of waiting writes.
        on_answer: Called in the event loop with each write that is committed or refused.
    """

    def __init__(  # noqa: PLR0913 - limits, and two ways to tell of writes
        self,
        database: OpenDatabase,
        *,
        thread: str = "turnstream-writer",
        timeout: float,
        outage: float,
        capacity: int,
        measures: StoreMeasures | None = None,
        on_answer: Callable[[Operation[Any]], None] = lambda _operation: None,
    ) -> None:
        self._on_answer = on_answer
        self._timeout = timeout
        self._capacity = capacity
        self._measures = measures or StoreMeasures()
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_WaitingWrite | None] = SimpleQueue()
        self._unresolved: deque[_WaitingWrite] = deque()
        """Writes that are queued or being committed, in the order of the queue.

        Answers come for the oldest first.
        """
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._outage = Outage(outage)
        self._committer = Committer(database, self._outage)
        self._thread = threading.Thread(target=self._run, name=thread, daemon=True)
        self._thread.start()

    # -- on the event loop -----------------------------------------------------------------------------------

    def submit(self, operation: Operation[Result]) -> asyncio.Future[Result]:
        """Queue a write. Return a future that has its answer after the commit.

        Raises StoreError if the write cannot be queued. The future fails after the timeout, but the operation
        stays queued and may still be applied, so repeating it must be safe. Cancelling the future does not
        cancel the write.
        """
        if self._closed:
            raise StoreError("the store is closed", retryable=False)
        if len(self._unresolved) >= self._capacity:
            raise StoreError(f"{self._capacity} writes are waiting for the database already")
        future: asyncio.Future[Result] = self._loop.create_future()
        now = self._loop.time()
        waiting = _WaitingWrite(operation, future, now)
        self._unresolved.append(waiting)
        self._queue.put(waiting)
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._timeout, self._expire)
        return future

    @property
    def is_waiting(self) -> bool:
        """True while the database is lost."""
        return self._outage.is_going_on

    def _resolve(self, answers: Sequence[Any]) -> None:
        """Answer the oldest writes. Skip the futures that were cancelled or have expired."""
        measures, now = self._measures, self._loop.time()
        for answer in answers:
            operation, future, submitted = self._unresolved.popleft()
            measures.writes.observe(now - submitted)
            if isinstance(answer, Exception) and not isinstance(answer, RequestError):
                measures.failed_writes += 1
            self._on_answer(operation)
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _expire(self) -> None:
        """Fail the writes whose deadlines have passed. Writes expire in order, so one timer is enough."""
        now = self._loop.time()
        self._timer = None
        for waiting in self._unresolved:
            deadline = self._outage.deadline(waiting.submitted, self._timeout)
            if deadline > now:
                self._timer = self._loop.call_at(max(deadline, now + _CLOCK_TICK), self._expire)
                break
            if not waiting.future.done():
                waiting.future.set_exception(
                    StoreError(f"the database did not answer within {self._timeout:g} s")
                )

    # -- in any thread ---------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Refuse new writes. The thread commits the queued ones without waiting for an outage, and ends."""
        self._closed = True
        self._outage.close()
        self._queue.put(None)

    def has_ended(self, timeout: float) -> bool:
        """Wait until the thread has ended. Blocks, `timeout` s at most. Return False if it has not."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- in the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        open_for_more = True
        try:
            while open_for_more:
                group, open_for_more = self._take()
                if group:
                    self._deliver(self._committer.commit([waiting.operation for waiting in group]))
                    self._committer.tidy()
        finally:
            self._committer.disconnect()

    def _take(self) -> tuple[list[_WaitingWrite], bool]:
        """Wait for a write, then return all queued writes, and False if the writer was closed after them."""
        group: list[_WaitingWrite] = []
        waiting = self._queue.get()
        try:
            while waiting is not None:
                group.append(waiting)
                if len(group) == LARGEST_GROUP:
                    return group, True
                waiting = self._queue.get_nowait()
        except Empty:
            return group, True
        return group, False

    def _deliver(self, answers: Sequence[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._resolve, answers)
        except RuntimeError:
            logger.debug("the event loop has ended; the results of %d writes are discarded", len(answers))
