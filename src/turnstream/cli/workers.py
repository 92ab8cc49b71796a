"""`turnstream serve --workers N`: several processes that accept connections on one address.

    the command ─► forks N workers, which share its listening sockets
        signal ─► each worker drains          a worker dies ─► another takes its place

Each worker is a node of its own. A worker that dies soon after its start ends the command.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from turnstream.errors import ConfigurationError
from turnstream.store.urls import database_of

if TYPE_CHECKING:
    from turnstream.config import Settings

logger = logging.getLogger(__name__)

_START_SECONDS = 5.0
"""A worker that ends before this age could not start: another one could not either."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SIGNAL_AT_PARENTS_END = 1
"""Option of Linux' prctl()."""


def check_workers(count: int, database_url: str) -> None:
    """Raise ConfigurationError if that many processes cannot serve this database."""
    if count < 1:
        raise ConfigurationError(f"{count} workers cannot serve: give --workers 1 or more")
    if count == 1:
        return
    if not hasattr(os, "fork"):
        raise ConfigurationError("this system cannot start workers: leave --workers out")
    if not database_of(database_url).is_shared:
        raise ConfigurationError(
            "an SQLite database has one process: leave --workers out, "
            "or give --database-url postgresql://USER@HOST/NAME"
        )


def settings_of_worker(settings: Settings, worker: int) -> Settings:
    """Return the settings of the worker with this number. Its audit log is a file of its own."""
    if settings.audit.path is None:
        return settings
    path = Path(settings.audit.path)
    own = path.with_name(f"{path.stem}-{worker}{path.suffix}")
    return settings.model_copy(update={"audit": settings.audit.model_copy(update={"path": str(own)})})


def become_worker(count: int) -> int:
    """Start `count` workers. Return in each of them, with its number from 0.

    In the calling process, supervise the workers, and exit after the last of them.
    """
    return _Supervisor(count).start()


class _Supervisor:
    def __init__(self, count: int) -> None:
        self._missing = list(range(count))
        self._workers: dict[int, tuple[int, float]] = {}
        """Number and start of each worker, by its process id."""
        self._stopping = False
        self._exit_code = 0

    def start(self) -> int:
        for number in _SIGNALS:
            signal.signal(number, self._pass_on)
        while True:
            while self._missing and not self._stopping:
                worker = self._missing.pop()
                if self._fork(worker):
                    return worker
            if not self._workers:
                sys.exit(self._exit_code)
            self._note_end(*os.wait())

    def _fork(self, worker: int) -> bool:
        """Start a worker, unless a signal has come. Return True in the worker."""
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = None if self._stopping else os.fork()
        if pid == 0:
            os.setpgid(0, 0)  # Ctrl-C reaches the supervisor alone, which passes it on
            _end_with(parent)
            for number in _SIGNALS:
                signal.signal(
                    number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                )
        elif pid is not None:
            self._workers[pid] = (worker, monotonic())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return pid == 0

    def _pass_on(self, number: int, _frame: object) -> None:
        self._stopping = True
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and is noted next
                os.kill(pid, number)

    def _note_end(self, pid: int, status: int) -> None:
        if pid not in self._workers:
            return  # a child of the program before this one, or an orphan in a container
        worker, started = self._workers.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        if self._stopping:
            return
        if monotonic() - started < _START_SECONDS:
            logger.error("worker %d could not start (exit code %d): all workers are stopped", worker, code)
            self._exit_code = 1
            self._pass_on(signal.SIGTERM, None)
            return
        logger.warning("worker %d has ended (exit code %d): another takes its place", worker, code)
        self._missing.append(worker)


def _end_with(parent: int) -> None:
    """Let this process get SIGTERM when its parent dies, where the system can do so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_END, signal.SIGTERM)
        if os.getppid() != parent:  # it has died before
            os._exit(1)
