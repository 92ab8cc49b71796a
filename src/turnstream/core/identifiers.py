"""UUIDv7 (RFC 9562): ids that sort by the time of their making (requirement A6)."""

from __future__ import annotations

import os
import re
import threading
import time

_PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """A new id, greater than every id made before it in this process (36 characters)."""
    global _last  # noqa: PLW0603 - ids of one process are strictly increasing
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10), "big")
    with _lock:
        value = (milliseconds << 74) | (random_bits & ((1 << 74) - 1))
        if value <= _last:
            value = _last + 1 + (random_bits & 0xFFFFFFFF)
        _last = value
    high, low = value >> 62, value & ((1 << 62) - 1)
    time_part, random_a = high >> 12, high & 0xFFF
    digits = f"{(time_part << 80) | (7 << 76) | (random_a << 64) | (2 << 62) | low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_id(text: str) -> bool:
    """Whether `text` is an id in the form that `new_id` gives."""
    return _PATTERN.fullmatch(text) is not None
