"""Ends a chat whose terminal is closed, or whose process gets a signal to end."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from turnstream.cli.command import FAILED, SIGNALLED

END_SECONDS = 4.5
"""Seconds that the process has to close its connections, and the server in it. Then it exits."""
_STANDARD_STREAMS = (0, 1, 2)


class HangupWatch:
    """Watches the terminal and the signals within its `with` block, in the main thread and in an event loop.

    The kernel sends SIGHUP if a terminal is closed. A process that ignores SIGHUP, because `nohup` started it
    for example, gets no signal. So the terminal itself is watched too. Once it is closed, the null device
    takes its place: a write to a closed terminal fails, and each read of it returns at once.

    After the `with` block, or after the call of `end`, the process exits within `END_SECONDS`. The signals do
    nothing more then.

    Args:
        end: Called once, in the event loop, when the chat must end. It is not called after the `with` block.
        signals: Signals that end the chat.
    """

    def __init__(self, end: Callable[[], object], signals: tuple[str, ...]) -> None:
        self.code: int | None = None
        """Exit code of the process. None: no signal came, and the terminal is open."""
        self._end: Callable[[], object] | None = end
        self._numbers = [getattr(signal, name) for name in signals if hasattr(signal, name)]
        self._terminals = [number for number in _STANDARD_STREAMS if os.isatty(number)]
        self._leaving, self._left = os.pipe()
        self._thread: threading.Thread | None = None
        self._deadline: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)
        if self._terminals and hasattr(select, "poll"):
            self._thread = threading.Thread(target=self._watch, name="hangup", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The chat ends already, but the loop may still have a call of `end`. SIGHUP may come after a write to
        # the closed terminal has failed, so the signals stay handled: their default would set the exit code.
        self._end = None
        os.close(self._left)  # wakes the thread
        if self._thread is not None:
            self._thread.join()
        os.close(self._leaving)
        self._exit_soon(FAILED if kind is not None else 0)

    def has_hung_up(self) -> bool:
        """Return True if the terminal is closed. A write to it may fail before the thread has seen it."""
        is_closed = bool(self._terminals and self._poller().poll(0))
        return is_closed or self.code is not None  # the thread sets the code before it replaces the terminal

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._begin(SIGNALLED + number)

    def _watch(self) -> None:
        poller = self._poller()
        poller.register(self._leaving, select.POLLIN)
        if self._terminals[0] not in [number for number, _ in poller.poll()]:
            return
        self.code = self.code or SIGNALLED + signal.SIGHUP
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in self._terminals:
            os.dup2(nothing, number)
        os.close(nothing)
        self._begin(self.code)

    def _poller(self) -> select.poll:
        poller = select.poll()
        poller.register(self._terminals[0], 0)  # a hangup is always reported
        return poller

    def _begin(self, code: int) -> None:
        """End the chat. A signal handler and the thread call this."""
        self.code = self.code or code
        if self._deadline is None and self._loop is not None:
            self._exit_soon(code)
            self._loop.call_soon_threadsafe(self._end_once)

    def _exit_soon(self, code: int) -> None:
        if self._deadline is None:
            self._deadline = threading.Thread(target=_exit_late, args=(code,), name="deadline", daemon=True)
            self._deadline.start()

    def _end_once(self) -> None:
        if self._end is not None:
            end, self._end = self._end, None
            end()


def _exit_late(code: int) -> None:
    threading.Event().wait(END_SECONDS)
    os._exit(code)
