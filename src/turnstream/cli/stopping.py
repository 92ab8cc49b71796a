"""Ctrl-C while an answer streams."""

from __future__ import annotations

import asyncio
import signal

from turnstream.cli.watched import Watched

STOP_SECONDS = 5.0
"""What a stopped turn gets to tell its end."""


class Stopping:
    """Within it, the first Ctrl-C asks the turn to stop and lets its end come; the second gives up at once."""

    def __init__(self, watched: Watched) -> None:
        self.asked = False
        self._watched = watched
        self._task = asyncio.current_task()
        self._interrupt: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._on_signal)

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._interrupt is not None:
            self._interrupt.cancel()

    def _on_signal(self) -> None:
        if self.asked:
            self._give_up()
            return
        self.asked = True
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(STOP_SECONDS, self._give_up)
        self._interrupt = loop.create_task(self._watched.interrupt())
        self._interrupt.add_done_callback(self._interrupted)

    def _interrupted(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._give_up()

    def _give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()
