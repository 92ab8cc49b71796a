"""One loop at a time over a watched stream, for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class OneLoop:
    """Lets one loop at a time iterate over a stream.

    A loop that was left may end late, when it is garbage-collected.

    Args:
        close: Closes the stream's connection.
        advice: The remedy that the error names.
    """

    def __init__(self, close: Callable[[], None], advice: str) -> None:
        self._close = close
        self._advice = advice
        self._loop: object | None = None
        self._is_reading = False

    def begin(self) -> object:
        """Start a loop, which continues after the last event of the previous loop. Raises RuntimeError."""
        self.check(self._loop)
        if self._loop is not None:
            self._close()  # the server sends events again that the previous loop had read and not taken
        self._loop = object()
        return self._loop

    def end(self, loop: object) -> None:
        """End a loop, and close the connection unless another loop reads from it."""
        if loop is self._loop:
            self._loop = None
            self._close()

    def check(self, loop: object | None) -> None:
        """Raise RuntimeError if another loop than `loop` watches."""
        if self._is_reading or loop is not self._loop:
            raise RuntimeError(f"this object is being iterated already: {self._advice}")

    async def read(self, reading: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Return the result of a read. Raises RuntimeError if another read is under way."""
        self.check(self._loop)
        self._is_reading = True
        try:
            return await reading()
        finally:
            self._is_reading = False
