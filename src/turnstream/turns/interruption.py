"""How a turn's task is asked to stop: only where it waits for its source, never while it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from turnstream.turns.ending import StopCause

Value = TypeVar("Value")


class Stopped(Exception):
    """The task was asked to stop."""


class Interruption:
    """The one way into a running turn. `task`: the one that waits; `cause`: the first that asked it to stop."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.cause: StopCause | None = None
        self._waiting = False

    def ask(self, cause: StopCause) -> None:
        """Ask the task to stop; the first cause counts."""
        if self.cause is None:
            self.cause = cause
            if self._waiting and self.task is not None:
                self.task.cancel()

    async def wait(self, waiting: Awaitable[Value]) -> Value:
        """Await something that may be cut short. Everything else that the task awaits is finished. Raises Stopped."""
        if self.cause is not None:
            close = getattr(waiting, "close", None)  # a coroutine that is never awaited complains
            if close is not None:
                close()
            raise Stopped
        self._waiting = True
        try:
            value = await waiting
        except (Exception, asyncio.CancelledError):
            if self.cause is None:
                raise  # else the source is let go of, and what it made of that is no matter
        else:
            if self.cause is None:
                return value
        finally:
            self._waiting = False
        await self._absorb_cancellation()
        raise Stopped

    async def _absorb_cancellation(self) -> None:
        """Take back the cancellation that `ask` sent, wherever it has got to: what follows must not be cut short."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
        if self.task is not None:
            while self.task.cancelling():
                self.task.uncancel()
