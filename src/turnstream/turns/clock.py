"""Wall-clock time, as rows and events show it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_microseconds() -> int:
    """Return the microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def iso_timestamp(microseconds: int) -> str:
    """Return the RFC 3339 form of a time, in UTC with milliseconds: `2026-01-31T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
