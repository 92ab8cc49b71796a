"""The writer of the audit log: a bounded queue, and one thread that writes groups of records and syncs them.

    require(record) ─► queue ─► the thread: one write, one fsync ─► the act may begin
    note(record)    ─► queue ─►                                     its end, without a wait

An act that changes something begins only once its record is durable. If the log cannot be written in time,
the act is refused (503 `audit_unavailable`), so that no act is missing. The end of an act is noted without a
wait: it cannot be refused any more. Its record stays in the queue until the disk takes it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import msgspec

from turnstream.audit.file import AuditFile
from turnstream.audit.records import AuditRecord, Head, now, short
from turnstream.errors import Unavailable

logger = logging.getLogger(__name__)

REQUIRE_SECONDS = 5.0
"""Seconds that an act waits until its record is durable. Then the act is refused."""
CAPACITY = 10_000
"""Records in the queue above which acts are refused at once.

The ends of acts still get a place. There are at most as many as acts in progress.
"""
LARGEST_GROUP = 1000
"""Records of one write."""
RETRY_SECONDS = 0.5
"""Seconds between two attempts to write to a disk that is full."""
CLOSE_SECONDS = 5.0
"""Seconds that a stopping server waits for the queue to be written."""
REFUSAL_SECONDS = 1.0
"""Seconds of refused requests that share one record, so that many requests cannot fill the disk."""


class _Waiting(NamedTuple):
    record: AuditRecord
    written: asyncio.Future[None] | None


def _unchanged(text: str) -> str:
    return text


class AuditTrail:
    """The audit log of one server.

    Args:
        path: The file. It is created if it does not exist.
        max_bytes: Size at which a file is closed and the next one begins.
        mask: Replaces secrets in the texts of records.
    """

    def __init__(self, path: str | Path, *, max_bytes: int, mask: Callable[[str], str] = _unchanged) -> None:
        self._file = AuditFile(Path(path), max_bytes)
        self._mask = mask
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._writing = 0
        """Records at the head of the queue that the thread is writing."""
        self._closing: float | None = None
        """Time after which a failed write is not retried. None while the trail is open."""
        self._failing_since: float | None = None
        self._refused = 0
        """Acts that were refused since the log could last be written."""
        self._is_open = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keys = _RefusedKeys(self.note, lambda: self._failing_since is not None)

    @property
    def head(self) -> Head:
        """The last record of the log."""
        return self._file.head

    async def open(self) -> None:
        """Lock and check the file, and start the writer.

        Raises ConfigurationError if another server has the log, or if its chain is broken.
        """
        await asyncio.to_thread(self._file.open)
        self._loop = asyncio.get_running_loop()
        self._closing = None
        self._thread = threading.Thread(target=self._run, name="turnstream-audit", daemon=True)
        self._is_open = True
        self._thread.start()
        self.note(AuditRecord(act="audit.opened"))

    async def close(self) -> None:
        """Write what is queued, and close the file. Log an error if records cannot be written."""
        if (thread := self._thread) is None:
            return
        self._thread = None
        self._keys.flush()
        self.note(AuditRecord(act="audit.closed"))
        with self._changed:
            self._is_open = False
            self._closing = monotonic() + CLOSE_SECONDS
            self._changed.notify()
        await asyncio.to_thread(thread.join, 2 * CLOSE_SECONDS)
        if self._queue:
            logger.critical(
                "%d records of the audit log %s are lost: it could not be written before the server ended",
                len(self._queue),
                self._file.path,
            )
        if not thread.is_alive():  # a disk that hangs keeps the thread, and the lock
            await asyncio.to_thread(self._file.close)

    async def require(self, record: AuditRecord) -> None:
        """Return once the record is durable.

        Raises Unavailable (`audit_unavailable`) if that takes too long. The act must not begin then.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(self._stamped(record), loop.create_future())
        with self._changed:
            has_place = self._is_open and len(self._queue) < CAPACITY
            if has_place:
                self._queue.append(waiting)
                self._changed.notify()
        if not has_place:
            raise self._refusal()
        assert waiting.written is not None
        try:
            async with asyncio.timeout(REQUIRE_SECONDS):
                await waiting.written
        except TimeoutError:
            if not self._withdraw(waiting):
                self.note(msgspec.structs.replace(record, outcome="audit_unavailable"))
            raise self._refusal() from None

    def note(self, record: AuditRecord) -> None:
        """Queue the record of something that has happened, or of an act that must not be refused."""
        waiting = _Waiting(self._stamped(record), None)
        with self._changed:
            if self._is_open:
                self._queue.append(waiting)
                self._changed.notify()
                return
        logger.critical("the audit log %s is closed: the act %s has no record", self._file.path, record.act)

    def note_refused_key(self, address: str | None) -> None:
        """Note a request that was refused because of its key. `address`: of the client, if it is known."""
        self._keys.add(address)

    def _stamped(self, record: AuditRecord) -> AuditRecord:
        """Return the record with its time. Its texts are masked, and of bounded length."""
        texts = {
            name: short(self._mask(value))
            for name in ("owner", "tool", "outcome")
            if (value := getattr(record, name)) is not None
        }
        details = {
            name: short(self._mask(value)) if isinstance(value, str) else value
            for name, value in record.details.items()
        }
        return msgspec.structs.replace(record, at=record.at or now(), details=details, **texts)

    def _withdraw(self, waiting: _Waiting) -> bool:
        """Remove a record from the queue. Return False if the thread is writing it."""
        with self._changed:
            if waiting not in islice(self._queue, self._writing, None):
                return False
            self._queue.remove(waiting)
            return True

    def _refusal(self) -> Unavailable:
        with self._changed:
            self._refused += 1
        return Unavailable(
            "the audit log cannot be written, and nothing is done without a record: try again in a moment",
            code="audit_unavailable",
        )

    # -- in the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while group := self._next_group():
            try:
                self._file.append([waiting.record for waiting in group])
            except Exception as error:  # noqa: BLE001 - any failure leaves the records in the queue
                if not self._retries(error):
                    return
                continue
            self._written(group)

    def _next_group(self) -> list[_Waiting]:
        """Wait for records. Return an empty list if the trail is closed and all are written."""
        with self._changed:
            while not self._queue and self._closing is None:
                self._changed.wait()
            group = list(islice(self._queue, LARGEST_GROUP))
            self._writing = len(group)
            return group

    def _retries(self, error: Exception) -> bool:
        """Wait before the next attempt. Return False if there is no time for one."""
        if self._failing_since is None:
            self._failing_since = monotonic()
            logger.error(
                "the audit log %s cannot be written (%s): turns, tools, answers to approvals and deletions "
                "are refused until it can",
                self._file.path,
                error,
            )
        with self._changed:
            self._writing = 0
            if self._closing is None:
                self._changed.wait_for(lambda: self._closing is not None, RETRY_SECONDS)
                return True
            self._changed.wait_for(lambda: False, RETRY_SECONDS)
            return monotonic() < self._closing

    def _written(self, group: list[_Waiting]) -> None:
        with self._changed:
            for _ in group:
                self._queue.popleft()
            self._writing = 0
            refused, self._refused = self._refused, 0
        if (since := self._failing_since) is not None:
            self._failing_since = None
            details = {"seconds": round(monotonic() - since, 1), "refused": refused}
            logger.warning("the audit log %s can be written again", self._file.path)
            self.note(AuditRecord(act="audit.resumed", details=details))
        futures = [waiting.written for waiting in group if waiting.written is not None]
        if futures and self._loop is not None:
            self._loop.call_soon_threadsafe(_resolve, futures)


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class _RefusedKeys:
    """Counts refused requests, and notes those of a second as one record.

    While the log cannot be written (`is_failing`), they are only counted.
    """

    def __init__(self, note: Callable[[AuditRecord], None], is_failing: Callable[[], bool]) -> None:
        self._note = note
        self._is_failing = is_failing
        self._count = 0
        self._address: str | None = None
        self._due: asyncio.TimerHandle | None = None

    def add(self, address: str | None) -> None:
        """Count a request. The first one of a second is noted at once."""
        self._count += 1
        self._address = address
        if self._due is None:
            if not self._is_failing():
                self.flush()
            self._due = asyncio.get_running_loop().call_later(REFUSAL_SECONDS, self._end_second)

    def flush(self) -> None:
        """Note the requests that were counted."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._count:
            details = {"count": self._count, "last_address": self._address}
            self._count = 0
            self._note(AuditRecord(act="access.refused", decision="refused", details=details))

    def _end_second(self) -> None:
        self._due = None
        if not self._is_failing():
            self.flush()
        elif self._count:
            self._due = asyncio.get_running_loop().call_later(REFUSAL_SECONDS, self._end_second)
