"""How a turn's task is asked to stop: only where it waits for its source, never while it writes.

A cancellation that nobody asked for here comes from a host that cancels tasks, or from a deadline inside the source. It
never cuts a write short: it is kept, and delivered where the task next waits for its source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from turnstream.errors import TurnstreamError
from turnstream.turns.ending import StopCause

Value = TypeVar("Value")

_MOST_CANCELLATIONS = 100
"""Times that one write is begun again. A task that is cancelled more often than that is not left in peace."""


class Stopped(Exception):
    """The task was asked to stop."""


class Interruption:
    """The one way into a running turn.

    `task`: the task that waits. `cause`: the first that asked it to stop. `detached`: the turn has been ended without
    the task; whatever the task still does must not show.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.cause: StopCause | None = None
        self.detached = False
        self._waiting = False
        self._is_cancelled = False
        """A foreign cancellation waits to be delivered."""

    def ask(self, cause: StopCause) -> None:
        """Ask the task to stop; the first cause counts."""
        if self.cause is None:
            self.cause = cause
            if self._waiting and self.task is not None:
                self.task.cancel()

    def check(self) -> None:
        """Raise Stopped if the turn was ended without the task."""
        if self.detached:
            raise Stopped

    async def wait(self, waiting: Awaitable[Value]) -> Value:
        """Await something that may be cut short. Everything else that the task awaits is finished.

        Raises Stopped, CancelledError if the task itself is cancelled from outside, and TurnstreamError if the source
        gives up with a CancelledError of its own.
        """
        if self.cause is not None:
            close = getattr(waiting, "close", None)  # a coroutine that is never awaited complains
            if close is not None:
                close()
            raise Stopped
        if self._is_cancelled and self.task is not None:
            self._is_cancelled = False
            self.task.cancel()
        self._waiting = True
        try:
            value = await waiting
        except asyncio.CancelledError:
            if self.cause is None:
                if self.task is not None and not self.task.cancelling():
                    raise TurnstreamError(
                        "the source of this turn was cancelled from within", code="source_error"
                    ) from None
                raise
        except Exception:
            if self.cause is None:
                raise  # else the source is let go of, and what it made of that is no matter
        else:
            if self.cause is None:
                return value
        finally:
            self._waiting = False
        await self._absorb_cancellation()
        raise Stopped

    async def whole(self, begin: Callable[[], Awaitable[Value]]) -> Value:
        """Await what must not be cut short. `begin` is called again after each foreign cancellation, so what it begins
        must bear to be done twice."""
        for _ in range(_MOST_CANCELLATIONS):
            try:
                return await begin()
            except asyncio.CancelledError:
                self._is_cancelled = True
                _take_back_cancellation()
        raise asyncio.CancelledError

    async def _absorb_cancellation(self) -> None:
        """Take back the cancellation that `ask` sent, wherever it has got to: what follows must not be cut short."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
        _take_back_cancellation()


def _take_back_cancellation() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
