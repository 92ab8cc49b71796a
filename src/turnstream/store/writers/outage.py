"""The time in which a database cannot be reached, and for which writes wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic

logger = logging.getLogger(__name__)

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0


class Outage:
    """The outages of a database, as the writer's thread sees them.

    Args:
        limit: Seconds that an outage may last before writes fail. 0 for a database that is never lost.

    The event loop's thread reads the times. Only the writer's thread changes them.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since: float | None = None
        self._trying_since: float | None = None
        self._ended = 0.0
        self._delay = _FIRST_DELAY
        self._closing = threading.Event()

    def lost(self, reason: str) -> bool:
        """Begin an outage, or continue it. Wait a moment, then return True if another attempt may be made."""
        now = monotonic()
        if self._since is None:
            self._since, self._delay = now, _FIRST_DELAY
            logger.warning("the database is lost (%s): writes wait for it up to %g s", reason, self._limit)
        left = self._since + self._limit - now
        if left <= 0 or self._closing.is_set():
            return False
        self._closing.wait(min(self._delay, left))
        self._delay = min(2 * self._delay, _LONGEST_DELAY)
        return True

    @contextmanager
    def attempt(self) -> Generator[None, None, None]:
        """Run a transaction inside the block. If it is committed, it ends the outage."""
        self._trying_since = monotonic()
        yield
        if self._since is not None:
            now = monotonic()
            logger.warning("the database is back after %.1f s", now - self._since)
            self._ended, self._since = now, None

    @property
    def is_going_on(self) -> bool:
        """True while the database is lost."""
        return self._since is not None

    def close(self) -> None:
        """Let no write wait any more. Another thread calls this."""
        self._closing.set()

    def deadline(self, submitted: float, timeout: float) -> float:
        """Return the time at which a write fails. It was submitted at `submitted`, and may take `timeout` s.

        After the end of an outage, a write that waited for it has `timeout` s. While a transaction waits for
        an answer, an outage may have begun, so writes wait until the deadline of that transaction.
        """
        since, trying_since = self._since, self._trying_since or 0.0
        if self._limit == 0:
            return submitted + timeout
        if since is not None:
            return max(submitted, since + self._limit) + timeout
        return max(submitted, self._ended, trying_since + timeout) + timeout
