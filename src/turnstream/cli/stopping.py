"""Handling of Ctrl-C and SIGTERM while an answer streams."""

from __future__ import annotations

import asyncio
import signal

from turnstream.cli.followed_turn import FollowedTurn
from turnstream.process_signals import ending_signals

STOP_SECONDS = 5.0
"""Seconds that a stopped turn has to send its last events."""


class StopSignals:
    """Handles signals within its `with` block.

    The first signal interrupts the turn, whose last events still arrive for up to `STOP_SECONDS`. After that,
    after a second signal, or if the interrupt fails, the current task is cancelled.
    """

    def __init__(self, watched: FollowedTurn) -> None:
        self.by: signal.Signals | None = None
        """First signal that arrived, or None."""
        self._signals = ending_signals(self._on_signal)
        self._watched = watched
        self._task = asyncio.current_task()
        self._interrupt: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._signals.__enter__()

    def __exit__(self, *_: object) -> None:
        self._signals.__exit__(None, None, None)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._interrupt is not None:
            self._interrupt.cancel()

    def _on_signal(self, number: signal.Signals) -> None:
        if self.by is not None:
            self._stop_waiting()
            return
        self.by = number
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(STOP_SECONDS, self._stop_waiting)
        self._interrupt = loop.create_task(self._watched.interrupt())
        self._interrupt.add_done_callback(self._interrupted)

    def _interrupted(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._task is not None:
            self._task.cancel()
