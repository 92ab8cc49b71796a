"""A node's lease: how long it may write its turns, and when it may claim those of others.

Heartbeats renew the lease. The node counts it on its own clock, from the time at which it sent the last
heartbeat that the database has confirmed. The other nodes count it on the database's clock, from the time at
which the database stored that heartbeat. So the node stops first.
"""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import Final, NamedTuple

MICROSECONDS: Final = 1_000_000
_MARGIN = 0.2
"""Part of the lease that the node itself does not use. It is longer than the tolerance of clocks."""
_TOLERANCE = 0.1
"""Part of the lease by which the two clocks may differ between two heartbeats."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None) or time.CLOCK_MONOTONIC


def boot_seconds() -> float:
    """Return the seconds of a clock that is never set, and that continues while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class ConfirmedHeartbeat(NamedTuple):
    """A heartbeat that the database has stored.

    Attributes:
        sent, received: Times of this node's clock at which the heartbeat was sent and its answer came.
        stored: The database's time, in microseconds since the epoch.
    """

    sent: float
    received: float
    stored: int


class ClaimWindow(NamedTuple):
    """Times of the database, in microseconds since the epoch, between which a claim may be made."""

    not_before: int
    not_after: int


class Lease:
    """The lease of this node.

    Args:
        seconds: Length of the lease. `inf` for a process that has its database for itself.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._tolerance = _TOLERANCE * seconds
        self._renewed = asyncio.Event()
        self.begin()

    def begin(self) -> None:
        """Begin without any heartbeat."""
        self.deadline = inf if self.seconds == inf else -inf
        """Time of `boot_seconds` up to which this node may write its turns and show their events."""
        self._first: ConfirmedHeartbeat | None = None
        """First heartbeat of the unbroken series. None before it."""
        self._last: ConfirmedHeartbeat | None = None

    @property
    def is_valid(self) -> bool:
        """True as long as no other node can have claimed this node's turns."""
        return boot_seconds() < self.deadline

    @property
    def interval(self) -> float:
        """Seconds between two heartbeats."""
        return self.seconds / 5

    def had_lapsed(self, heartbeat: ConfirmedHeartbeat) -> bool:
        """Return True if turns may have been claimed before the database stored this heartbeat."""
        return self._last is not None and heartbeat.received >= self.deadline

    def renew(self, heartbeat: ConfirmedHeartbeat) -> None:
        """Renew the lease from a heartbeat.

        After a lapse, the caller must first stop the tasks of turns that other nodes have claimed.
        """
        if self._last is None or self.had_lapsed(heartbeat) or not self._continues(self._last, heartbeat):
            self._first = heartbeat
        self._last = heartbeat
        self.deadline = heartbeat.sent + self.seconds * (1 - _MARGIN)
        self._renewed.set()
        self._renewed = asyncio.Event()

    async def validity(self) -> None:
        """Wait until the lease is valid."""
        while not self.is_valid:
            await self._renewed.wait()

    def claim_window(self) -> ClaimWindow | None:
        """Return the times at which a claim may be made now. None if this node may not claim yet.

        A node may claim after a full lease of its own heartbeats, unbroken on its own clock and on the
        database's. In this time, every living node has renewed its lease by the same clocks.
        """
        first, last, now = self._first, self._last, boot_seconds()
        if first is None or last is None or now >= self.deadline or last.sent - first.received < self.seconds:
            return None
        return ClaimWindow(
            last.stored + int((now - last.received - self._tolerance) * MICROSECONDS),
            last.stored + int((now - last.sent + self._tolerance) * MICROSECONDS),
        )

    def _continues(self, last: ConfirmedHeartbeat, next: ConfirmedHeartbeat) -> bool:
        """Return True if both clocks have advanced by the same time between two heartbeats."""
        passed = (next.stored - last.stored) / MICROSECONDS
        least, most = next.sent - last.received, next.received - last.sent
        return least - self._tolerance <= passed <= most + self._tolerance
