"""The bodies of requests that are being read, all together."""

from __future__ import annotations

from turnstream.errors import Unavailable

BODIES_LIMIT = 256 * 1024 * 1024
"""Bytes that all bodies under way may hold, beyond the small part of each that is free."""
FREE_BYTES = 64 * 1024
"""Bytes of each body that do not count: ordinary requests pass whatever large ones do."""


class BodiesUnderWay:
    """Counts the bytes of bodies that are being read."""

    def __init__(self, limit: int = BODIES_LIMIT) -> None:
        self._limit = limit
        self._held = 0

    def add(self, before: int, after: int) -> None:
        """Count a body that has grown from `before` to `after` bytes. Raises Unavailable if all together are too many."""
        self._held += _counted(after) - _counted(before)
        if self._held > self._limit and after > FREE_BYTES:
            raise Unavailable("too many large requests are being read: send this one again in a moment")

    def remove(self, size: int) -> None:
        """Count no more of a body that had `size` bytes."""
        self._held -= _counted(size)


def _counted(size: int) -> int:
    return max(0, size - FREE_BYTES)
