"""Interrupts of a turn's task. They take effect only while it waits for its source, never while it writes.

A cancellation can also come from elsewhere. If it comes from within the source (a task that the source awaits
was cancelled, or a deadline of the source has passed), it counts as the source's failure. If it comes from
the host application, it ends the task, and the registry ends the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from turnstream.model_loop.source_shutdown import raise_if_source_cancelled
from turnstream.turns.ending import StopCause

Value = TypeVar("Value")


class TaskStopped(Exception):
    """Raised in a turn's task after a request to stop."""


class Interruption:
    """Stops a running turn. There is no other way to interrupt it.

    Attributes:
        task: The turn's task.
        cause: The first cause to stop. None until then.
        detached: True if the turn has ended without the task. Nothing that the task still does may be shown.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.cause: StopCause | None = None
        self.detached = False
        self._waiting = False

    def request_stop(self, cause: StopCause) -> None:
        """Stop the task at its wait for the source. Only the first cause counts."""
        if self.cause is None:
            self.cause = cause
            if self._waiting and self.task is not None:
                self.task.cancel()

    def check(self) -> None:
        """Raise TaskStopped if the turn has ended without the task."""
        if self.detached:
            raise TaskStopped

    async def wait(self, waiting: Awaitable[Value]) -> Value:
        """Await something that an interrupt may cut short. No other await of the task is cut short.

        Raises TaskStopped after an interrupt, CancelledError if the task is cancelled from outside, and
        TurnstreamError if the source raises a CancelledError of its own.
        """
        if self.cause is not None:
            # Closed, because a coroutine that is never awaited warns.
            close = getattr(waiting, "close", None)
            if close is not None:
                close()
            raise TaskStopped
        self._waiting = True
        try:
            value = await waiting
        except asyncio.CancelledError:
            if self.cause is None:
                raise_if_source_cancelled(self.task)
                raise
        except Exception:
            if self.cause is None:
                raise  # after an interrupt, the source's exception does not matter
        else:
            if self.cause is None:
                return value
        finally:
            self._waiting = False
        await self._absorb_cancellation()
        raise TaskStopped

    async def _absorb_cancellation(self) -> None:
        """Consume the cancellation that `request_stop` sent, so that the next `await` is not cancelled."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
