"""UUIDv7 (RFC 9562): ids that sort by their time of creation."""

from __future__ import annotations

import os
import re
import threading
import time

from turnstream.forking import renew_after_fork

ID_PATTERN = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_PATTERN = re.compile(ID_PATTERN, re.ASCII)


_CHANCE = 10
"""Random bytes in an id."""
_CHANCE_AT_ONCE = 256 * _CHANCE
"""Random bytes that are read from the system at a time.

Each read releases the interpreter's lock, and the store's thread may keep the lock for a while.
"""


class _Sequence:
    """The numbers of one process's ids (122 bits): time and random bits, strictly increasing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._chance = b""
        self._used = 0
        renew_after_fork(self)

    def renew_in_child(self) -> None:
        """Renew the lock and the random bytes. See `Renewable`."""
        self._lock = threading.Lock()  # another thread of the parent may have held the old one
        self._chance, self._used = b"", 0  # two processes must not use the same bytes

    def next(self) -> int:
        """Return the next number: milliseconds since the epoch, then random bits."""
        milliseconds = time.time_ns() // 1_000_000
        with self._lock:
            if self._used >= len(self._chance):
                self._chance, self._used = os.urandom(_CHANCE_AT_ONCE), 0
            random_bits = int.from_bytes(self._chance[self._used : self._used + _CHANCE], "big")
            self._used += _CHANCE
            value = (milliseconds << 74) | (random_bits & ((1 << 74) - 1))
            if value <= self._last:
                value = self._last + 1 + (random_bits & 0xFFFFFFFF)
            self._last = value
        return value


_sequence = _Sequence()


def new_id() -> str:
    """Return a new id (36 characters) that is greater than every id made before in this process."""
    value = _sequence.next()
    high, low = value >> 62, value & ((1 << 62) - 1)
    time_part, random_a = high >> 12, high & 0xFFF
    digits = f"{(time_part << 80) | (7 << 76) | (random_a << 64) | (2 << 62) | low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_id(text: str) -> bool:
    """Return True if `text` has the form that `new_id` returns."""
    return _PATTERN.fullmatch(text) is not None
