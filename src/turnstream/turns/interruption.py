"""Asking a turn's task to stop: only where it waits for its source, never while it writes.

A cancellation that was not asked for here comes from a host that cancels tasks, or from within the source: a task that it
awaits was cancelled, or a deadline of its own has passed. The source's own is its failure. A host's ends the task, and the
registry ends the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from turnstream.model_loop.leaving import blame_source
from turnstream.turns.ending import StopCause

Value = TypeVar("Value")


class TaskStopped(Exception):
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

    def ask(self, cause: StopCause) -> None:
        """Ask the task to stop; the first cause counts."""
        if self.cause is None:
            self.cause = cause
            if self._waiting and self.task is not None:
                self.task.cancel()

    def check(self) -> None:
        """Raise TaskStopped if the turn was ended without the task."""
        if self.detached:
            raise TaskStopped

    async def wait(self, waiting: Awaitable[Value]) -> Value:
        """Await something that may be cut short. Everything else that the task awaits is finished.

        Raises TaskStopped, CancelledError if the task itself is cancelled from outside, and TurnstreamError if the source
        gives up with a CancelledError of its own.
        """
        if self.cause is not None:
            close = getattr(waiting, "close", None)  # a coroutine that is never awaited complains
            if close is not None:
                close()
            raise TaskStopped
        self._waiting = True
        try:
            value = await waiting
        except asyncio.CancelledError:
            if self.cause is None:
                blame_source(self.task)
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
        raise TaskStopped

    async def _absorb_cancellation(self) -> None:
        """Take back the cancellation that `ask` sent, wherever it has got to: what follows must not be cut short."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
