"""Handling of the signals that end a process: the engine drains before its server stops.

    first SIGTERM or SIGINT   no new turns; running turns have the grace time; reads and watchers continue
    second                    the grace time is over: running turns end with the output that they have

The commands handle these signals with `ending_signals`. In a host application the server has a handler, which
waits for open streams. `HostSignals` runs before that handler, so that the streams end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

logger = logging.getLogger(__name__)

Drain: TypeAlias = Callable[[float], Awaitable[None]]
_Previous: TypeAlias = Callable[[int, FrameType | None], object] | int | None

_WITH_A_HANDLER = tuple(getattr(signal, name) for name in ("SIGQUIT",) if hasattr(signal, name))
"""Signals that end the process only if the server says so: gunicorn ends its workers with SIGQUIT."""

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))
"""Signals by which a user or a supervisor ends a process. SIGBREAK is Windows' own."""


@contextmanager
def ending_signals(handle: Callable[[signal.Signals], object]) -> Generator[None, None, None]:
    """Call `handle` in the running event loop for each ending signal that arrives in the `with` block.

    Unlike the handlers of an event loop, this works on Windows too. Only the main thread may enter it. After
    it, Python's default action applies to the signals.
    """
    loop = asyncio.get_running_loop()

    def receive(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(handle, signal.Signals(number))

    for number in ENDING:
        signal.signal(number, receive)
    try:
        yield
    finally:
        default_signals()


def default_signals() -> None:
    """Let Python's default action apply to the ending signals."""
    for number in ENDING:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


class SignalledDrain:
    """The drain that signals begin. Each call of `signalled` counts as one signal.

    Args:
        drain: `Engine.drain`. It is called with the grace time in seconds.
        grace: Seconds that running turns have after the first signal.
        on_end: Called when the last drain has ended, also if it has failed.
    """

    def __init__(self, drain: Drain, grace: float, on_end: Callable[[], None]) -> None:
        self.signals = 0
        self._drain = drain
        self._grace = grace
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = None

    def signalled(self) -> None:
        """Begin to drain. At the second signal, end the running turns."""
        self.signals += 1
        grace = self._grace if self.signals == 1 else 0.0
        if grace:
            logger.info("draining: running turns may continue for %g s; a second signal ends them", grace)
        else:
            logger.info("ending the running turns")
        self._task = asyncio.get_running_loop().create_task(
            self._run(self._task, grace), name="turnstream drain"
        )

    async def _run(self, before: asyncio.Task[None] | None, grace: float) -> None:
        if before is not None:
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)
        try:
            await self._drain(grace)
        finally:
            if self._task is asyncio.current_task():
                self._on_end()

    async def wait(self) -> None:
        """Wait for the drain, if one has begun. Raises its exception."""
        if self._task is not None:
            await self._task

    async def settled(self) -> None:
        """Wait until no drain is running, also if another signal begins another drain meanwhile."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def cancel(self) -> None:
        """Cancel the drain, if one runs, and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class HostSignals:
    """Drains an engine on the signals that end its process, and then lets the previous handlers run.

    The previous handlers are the server's. If a signal has no handler, the process ends by the signal after
    the drain. Ignored signals stay ignored. The signals of a forked process are not handled here.

    Args:
        drain: `Engine.drain`.
        grace: Seconds that running turns have after the first signal. None: no signal is handled.
    """

    def __init__(self, drain: Drain, grace: float | None) -> None:
        self._draining = SignalledDrain(drain, grace or 0.0, self._end_by_signal)
        self._numbers = () if grace is None else (*ENDING, *_WITH_A_HANDLER)
        self._previous: dict[int, _Previous] = {}
        self._handler = self._handle  # one object, which `close` recognises
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._ends_by = 0
        """Signal that ends the process after the drain. 0: a previous handler decides."""

    def open(self) -> None:
        """Handle the signals from now on. Does nothing outside the main thread: no other gets signals."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop, self._process = asyncio.get_running_loop(), os.getpid()
        for number in self._numbers:
            previous = signal.getsignal(number)
            # None is a handler that Python cannot call.
            if previous is None or previous is signal.SIG_IGN:
                continue
            if previous is signal.SIG_DFL and number in _WITH_A_HANDLER:
                continue
            self._previous[number] = previous
            signal.signal(number, self._handler)

    async def finish(self, end: Callable[[], Awaitable[None]], *, at_once: bool) -> None:
        """Wait for the drain, if one is running, and then call `end` in any case.

        A server that has no open streams ends its lifespan early, while turns still have time.

        Args:
            at_once: True to skip the wait for the drain.
        """
        try:
            if not at_once:
                await self._draining.settled()
        finally:
            await end()

    async def close(self) -> None:
        """Restore the previous handlers, and cancel the drain if it still runs."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) is self._handler:  # otherwise another handler calls this one
                signal.signal(number, previous)
        self._loop = None
        await self._draining.cancel()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous[number]
        loop = self._loop if os.getpid() == self._process else None
        if loop is not None:
            loop.call_soon_threadsafe(self._draining.signalled)
        if callable(previous):
            previous(number, frame)
        elif loop is not None and not self._ends_by:
            self._ends_by = number
        else:
            _end_process(number)

    def _end_by_signal(self) -> None:
        if self._ends_by:
            _end_process(self._ends_by)


def _end_process(number: int) -> None:
    """End the process as the signal does without a handler."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
