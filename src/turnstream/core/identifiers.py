"""UUIDv7 (RFC 9562): ids that sort by their time of creation."""

from __future__ import annotations

import os
import re
import threading
import time
from zlib import crc32

from turnstream.forking import renew_after_fork

ID_PATTERN = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_PATTERN = re.compile(ID_PATTERN, re.ASCII)


_CHANCE = 10
"""Random bytes in an id."""
_MARK_BITS = 32
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

    def next(self, home: str | None = None) -> int:
        """Return the next number: milliseconds since the epoch, then random bits, then the mark of `home`."""
        milliseconds = time.time_ns() // 1_000_000
        with self._lock:
            if self._used >= len(self._chance):
                self._chance, self._used = os.urandom(_CHANCE_AT_ONCE), 0
            random_bits = int.from_bytes(self._chance[self._used : self._used + _CHANCE], "big")
            self._used += _CHANCE
            value = (milliseconds << 74) | (random_bits & ((1 << 74) - 1))
            if value <= self._last:
                value = self._last + 1 + (random_bits & 0xFFFFFFFF)
            if home is not None:
                high = max(value >> _MARK_BITS, (self._last >> _MARK_BITS) + 1)
                value = (high << _MARK_BITS) | _mark(high, _short(home))
            self._last = value
        return value


_sequence = _Sequence()


def new_id(home: str | None = None) -> str:
    """Return a new id (36 characters) that is greater than every id made before in this process.

    `home`: name that the id carries as a mark of 32 bits. See `has_home`. None: no mark.
    """
    value = _sequence.next(home)
    high, low = value >> 62, value & ((1 << 62) - 1)
    time_part, random_a = high >> 12, high & 0xFFF
    digits = f"{(time_part << 80) | (7 << 76) | (random_a << 64) | (2 << 62) | low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_id(text: str) -> bool:
    """Return True if `text` has the form that `new_id` returns."""
    return _PATTERN.fullmatch(text) is not None


def has_home(marked_id: str) -> bool:
    """Return True if an id was made with a `home`. One in 65,536 other ids is taken for such an id."""
    if not is_id(marked_id):
        return False
    high, mark = _parts(marked_id)
    return mark == _mark(high, mark >> 16)


def is_of_home(marked_id: str, home: str) -> bool:
    """Return True if an id with a mark carries the mark of `home`."""
    return _parts(marked_id)[1] >> 16 == _short(home)


def _parts(marked_id: str) -> tuple[int, int]:
    """Return the number before the mark of an id, and the mark."""
    bits = int(marked_id.replace("-", ""), 16)
    value = (bits >> 80 << 74) | ((bits >> 64 & 0xFFF) << 62) | (bits & ((1 << 62) - 1))
    return value >> _MARK_BITS, value & ((1 << _MARK_BITS) - 1)


def _mark(high: int, home: int) -> int:
    """Return the mark behind the number `high`: the short form of the home, and a check sum of both."""
    return (home << 16) | (crc32(f"{high:x} {home:x}".encode()) & 0xFFFF)


def _short(home: str) -> int:
    return crc32(home.encode()) & 0xFFFF
