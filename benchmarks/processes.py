"""Measured child processes: start, pin to a core, CPU time, memory, stop."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE = 0
LOAD_CORE = max(1, (os.cpu_count() or 1) - 1) if (os.cpu_count() or 1) > 1 else 0
"""The upstream and the load share a core, so that the server has its own."""
STOP_SECONDS = 10.0
GIVE_BACK_SECONDS = 0.5


def pin(core: int, pid: int = 0) -> None:
    """Keep a process (0: this one) on one core, if the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {core})


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this process on one core for a while."""
    if not hasattr(os, "sched_getaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    pin(core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def give_back_memory() -> None:
    """Return free memory to the system. Memory of an earlier busy moment does not count then."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Child:
    """A child process, from `with` to its end. Its first line of output is `ready PORT`."""

    def __init__(self, name: str, arguments: Sequence[str], *, core: int) -> None:
        self.name = name
        self.port = 0
        self.is_ours = False
        """True for a turnstream server, which returns free memory on a signal."""
        self._arguments = list(arguments)
        self._core = core

    @classmethod
    def of_module(cls, module: str, *arguments: str, core: int) -> Child:
        """Start one of turnstream's own modules, in this interpreter."""
        child = cls(module, [sys.executable, "-m", module, *arguments], core=core)
        child.is_ours = True
        return child

    def __enter__(self) -> Child:
        self._popen = subprocess.Popen(self._arguments, cwd=ROOT, stdout=subprocess.PIPE)
        pin(self._core, self._popen.pid)
        self.process = psutil.Process(self._popen.pid)
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline().decode().split()
        if line[:1] != ["ready"]:
            self._popen.kill()
            raise RuntimeError(f"{self.name} did not start")
        self.port = int(line[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        assert self._popen.stdout is not None
        self._popen.stdout.close()

    def cpu_seconds(self) -> float:
        """User and system time so far, all threads."""
        times = self.process.cpu_times()
        return times.user + times.system

    async def memory(self) -> int:
        """Resident bytes now, after a server of ours has given back what it does not use."""
        if self.is_ours:
            self.tell(signal.SIGUSR2)
        await asyncio.sleep(GIVE_BACK_SECONDS)
        return int(self.process.memory_info().rss)

    def tell(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)
