"""A limit on the total size of the request bodies that are being read."""

from __future__ import annotations

from turnstream.errors import Unavailable

BODIES_LIMIT = 256 * 1024 * 1024
"""Bytes that all bodies in progress may hold in total. The first `FREE_BYTES` of each do not count."""
FREE_BYTES = 64 * 1024
"""Bytes of each body that do not count, so that large requests never block ordinary ones."""


class BodyBudget:
    """Counts the bytes of bodies that are being read."""

    def __init__(self, limit: int = BODIES_LIMIT) -> None:
        self._limit = limit
        self._held = 0

    def add(self, before: int, after: int) -> None:
        """Count the growth of a body from `before` to `after` bytes.

        Raises Unavailable if the total exceeds the limit.
        """
        self._held += _counted(after) - _counted(before)
        if self._held > self._limit and after > FREE_BYTES:
            raise Unavailable("too many large requests are being read: send this one again in a moment")

    def remove(self, size: int) -> None:
        """Stop counting a body that had `size` bytes."""
        self._held -= _counted(size)


def _counted(size: int) -> int:
    return max(0, size - FREE_BYTES)
