"""Checkpoints that keep the write-ahead log small while reads overlap.

SQLite copies the log into the database by itself, but it restarts the log only at a moment without readers.
If reads always overlap, there is no such moment, and the log grows without bound. So if the log is large, new
reads wait until the running reads have ended, and the log is restarted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from sqlalchemy import Connection

from turnstream.store.sqlite.driver import driver_connection

logger = logging.getLogger(__name__)

WAL_LIMIT = 64 * 1024 * 1024
"""Bytes above which the write-ahead log is restarted."""
WAIT_FOR_READS = 1.0
"""Seconds that a checkpoint waits for the running reads."""
RETRY_SECONDS = 10.0
"""Seconds before the next checkpoint is tried, if a read took longer."""


class ReadGate:
    """Lets reads through, unless it is shut. Threads share it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._reading = 0
        self._is_shut = False

    @contextmanager
    def reading(self) -> Generator[None, None, None]:
        """Keep the gate open during a read. Wait first if it is shut."""
        with self._condition:
            while self._is_shut:
                self._condition.wait(WAIT_FOR_READS)
            self._reading += 1
        try:
            yield
        finally:
            with self._condition:
                self._reading -= 1
                if not self._reading:
                    self._condition.notify_all()

    @contextmanager
    def shut(self, seconds: float) -> Generator[bool, None, None]:
        """Make new reads wait.

        Yield True once no read runs, or False if a read still runs after `seconds`.
        """
        with self._condition:
            self._is_shut = True
            is_empty = self._condition.wait_for(lambda: not self._reading, seconds)
        try:
            yield is_empty
        finally:
            with self._condition:
                self._is_shut = False
                self._condition.notify_all()


class Checkpointer:
    """Restarts the write-ahead log of one database if the log is large. Only the writer's thread uses it."""

    def __init__(self, database: Path, gate: ReadGate) -> None:
        self._wal = database.with_name(f"{database.name}-wal")
        self._gate = gate
        self._next_try = 0.0

    def after_commit(self, connection: Connection) -> None:
        """Restart the log if it is large. To be called after a commit, outside a transaction."""
        if monotonic() < self._next_try:
            return
        try:
            size = self._wal.stat().st_size
        except OSError:
            return
        if size <= WAL_LIMIT:
            return
        with self._gate.shut(WAIT_FOR_READS) as is_empty:
            if not (is_empty and _restart(connection)):
                self._next_try = monotonic() + RETRY_SECONDS
                logger.warning("the write-ahead log has %d MiB: a long read prevents a restart", size >> 20)


def _restart(connection: Connection) -> bool:
    """Copy all of the log and truncate it. Return False if another program reads it."""
    driver = driver_connection(connection)
    (timeout,) = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        driver.execute(f"PRAGMA busy_timeout = {int(timeout)}")
    return not busy
