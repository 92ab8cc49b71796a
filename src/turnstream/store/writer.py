"""The one writer: a thread that commits writes in groups.

    write(operation) ─► queue ─► the thread takes all queued writes ─► BEGIN, apply in order, COMMIT
                                                                         └─► one call into the event loop
                                                                             resolves every waiting future

While a group is committed, the next group queues, so all writes of a group share the cost of one commit.
Refusals (NotFound, Conflict, Fenced) answer their own operation, and the rest of the group is committed. If
the database fails a group, the group is rolled back and its operations are retried turn by turn, in order. So
one bad row fails one turn.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection

from turnstream.errors import RequestError, StoreError
from turnstream.store.base import Operation
from turnstream.store.database import OpenDatabase, describe_failure
from turnstream.telemetry.measures import StoreMeasures

logger = logging.getLogger(__name__)

LARGEST_GROUP = 4096
_CLOCK_TICK = 0.05
_REFUSALS = (RequestError, StoreError)

Result = TypeVar("Result")


class _WaitingWrite(NamedTuple):
    operation: Operation[Any]
    future: asyncio.Future[Any]
    deadline: float


class _CannotBegin(Exception):
    """The database cannot begin a transaction, so no operation can be applied."""


class Writer:
    """Queues writes on one event loop, and commits them in a thread.

    It belongs to the event loop that created it. `close` may be called from any thread except the writer's
    own.
    """

    def __init__(
        self,
        database: OpenDatabase,
        *,
        timeout: float,
        capacity: int,
        measures: StoreMeasures | None = None,
        on_change: Callable[[str], None] = lambda _owner: None,
    ) -> None:
        self._database = database
        self._on_change = on_change
        self._engine = database.writer
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
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="turnstream-writer", daemon=True)
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
        waiting = _WaitingWrite(operation, future, self._loop.time() + self._timeout)
        self._unresolved.append(waiting)
        self._queue.put(waiting)
        if self._timer is None:
            self._timer = self._loop.call_at(waiting.deadline, self._expire)
        return future

    def _resolve(self, answers: Sequence[Any]) -> None:
        """Answer the oldest writes. Skip the futures that were cancelled or have expired."""
        measures, submitted_before = self._measures, self._loop.time() + self._timeout
        for answer in answers:
            operation, future, deadline = self._unresolved.popleft()
            measures.writes.observe(submitted_before - deadline)
            if isinstance(answer, Exception) and not isinstance(answer, RequestError):
                measures.failed_writes += 1
            if (owner := operation.changed_owner) is not None:
                self._on_change(owner)
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
            if waiting.deadline > now:
                self._timer = self._loop.call_at(max(waiting.deadline, now + _CLOCK_TICK), self._expire)
                break
            if not waiting.future.done():
                waiting.future.set_exception(
                    StoreError(f"the database did not answer within {self._timeout:g} s")
                )

    # -- in any thread ---------------------------------------------------------------------------------------

    def close(self, timeout: float) -> None:
        """Commit the queued writes, then end the thread.

        Blocks. Raises StoreError if this takes over `timeout` s.
        """
        self._closed = True
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise StoreError(f"the writes still queued were not committed within {timeout:g} s")

    # -- in the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        open_for_more = True
        try:
            while open_for_more:
                group, open_for_more = self._take()
                if group:
                    self._deliver(self._commit([waiting.operation for waiting in group]))
                    self._tidy()
        finally:
            self._disconnect()

    def _tidy(self) -> None:
        if self._connection is None:
            return
        try:
            self._database.committed(self._connection)
        except Exception as error:  # noqa: BLE001 - the writer survives any error
            logger.warning("the database could not be tidied between two writes: %s", describe_failure(error))
            self._disconnect()

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

    def _commit(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Commit the operations. Return an answer for each: a result, a refusal, or a StoreError."""
        try:
            return self._transact(operations)
        except _CannotBegin as error:
            return _failures(error.__cause__, len(operations))
        except Exception as error:  # noqa: BLE001 - the writer survives any error of an operation
            turns = _by_turn(operations)
            if len(turns) == 1:
                return _failures(error, len(operations))
            logger.warning(
                "a group of %d turns failed and is retried turn by turn: %s",
                len(turns),
                describe_failure(error),
            )
        return self._commit_turns(operations, turns)

    def _commit_turns(
        self, operations: Sequence[Operation[Any]], turns: Sequence[Sequence[int]]
    ) -> list[Any]:
        """Commit each turn in its own transaction. Fail the remaining turns if a transaction cannot begin."""
        answers: list[Any] = [None] * len(operations)
        no_database: BaseException | None = None
        for places in turns:
            try:
                if no_database is not None:
                    raise no_database
                turn_answers = self._transact([operations[place] for place in places])
            except _CannotBegin as error:
                no_database = error
                turn_answers = _failures(error.__cause__, len(places))
            except Exception as error:  # noqa: BLE001 - the error is this turn's answer
                turn_answers = _failures(error, len(places))
            for place, answer in zip(places, turn_answers, strict=True):
                answers[place] = answer
        return answers

    def _transact(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Apply the operations in one transaction.

        After a failure, the next transaction gets a new connection.
        """
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            transaction = self._connection.begin()
        except Exception as error:
            self._disconnect()
            raise _CannotBegin from error
        try:
            answers = _apply(self._connection, operations)
            transaction.commit()
        except BaseException:
            self._disconnect()
            raise
        return answers

    def _disconnect(self) -> None:
        """Close the connection. An open transaction is rolled back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


def _apply(connection: Connection, operations: Sequence[Operation[Any]]) -> list[Any]:
    answers: list[Any] = []
    for together in _neighbours(operations):
        first = together[0]
        if len(together) > 1:
            answers.extend(type(first).apply_many(connection, together))
            continue
        try:
            answers.append(first.apply(connection))
        except _REFUSALS as refusal:
            answers.append(refusal)
    return answers


def _neighbours(operations: Sequence[Operation[Any]]) -> Iterator[Sequence[Operation[Any]]]:
    """Yield consecutive operations of one batched class together, and every other operation alone."""
    start = 0
    while start < len(operations):
        kind = type(operations[start])
        end = start + 1
        while kind.batched and end < len(operations) and type(operations[end]) is kind:
            end += 1
        yield operations[start:end]
        start = end


def _by_turn(operations: Sequence[Operation[Any]]) -> list[list[int]]:
    """Return the indexes of each turn's operations. An operation without a turn is a group of its own."""
    turns: dict[str | int, list[int]] = {}
    for place, operation in enumerate(operations):
        turns.setdefault(operation.turn_id or place, []).append(place)
    return list(turns.values())


def _failures(cause: BaseException | None, count: int) -> list[StoreError]:
    """Return `count` new errors.

    An exception that several tasks raise would collect the tracebacks of all of them.
    """
    return [_failure(cause) for _ in range(count)]


def _failure(cause: BaseException | None) -> StoreError:
    if isinstance(cause, StoreError):
        return cause
    error = StoreError(
        f"the database refused the write: {describe_failure(cause)}" if cause else "no database"
    )
    error.__cause__ = cause
    return error
