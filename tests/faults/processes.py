"""Start, kill and await the processes of `server_process.py`."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.faults.server_process import Refused, ServerPlan, Started, run_server, run_simulator

START_SECONDS = 20.0
END_SECONDS = 20.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["psutil", "pytest", "turnstream.engine", "turnstream.server.uvicorn_server", "uvloop"]
)


class NotStarted(Exception):
    """The process ended before it served. `refused` is its output, if any."""

    def __init__(self, refused: Refused | None, exit_code: int | None) -> None:
        super().__init__(f"{refused} (exit code {exit_code})")
        self.refused = refused
        self.exit_code = exit_code


class RunningProcess:
    """A process that serves at `url` inside the context manager, and is killed at its end.

    Entering raises NotStarted if the process ends before it serves.
    """

    def __init__(self, target: Callable[[Any, Connection], None], plan: Any) -> None:
        self._receiver, self._sender = _context.Pipe(duplex=False)
        self._process: ForkServerProcess = _context.Process(
            target=target, args=(plan, self._sender), daemon=True
        )
        self.started = Started("", 0.0)

    @property
    def url(self) -> str:
        return self.started.url

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    async def __aenter__(self) -> Self:
        self._process.start()
        self._sender.close()
        try:
            await _readable(self._receiver.fileno(), START_SECONDS)
            answer = self._receiver.recv()
        except EOFError:
            answer = None
        except BaseException:
            await self.kill()
            raise
        if not isinstance(answer, Started):
            raise NotStarted(answer, await self.ended())
        self.started = answer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
        self._receiver.close()

    def kill_now(self) -> None:
        """Send SIGKILL, without waiting; see `ended`."""
        self._process.kill()

    async def kill(self) -> None:
        """End the process with SIGKILL, if it has not ended."""
        if self._process.is_alive():
            self._process.kill()
        await self.ended()

    async def ended(self, seconds: float = END_SECONDS) -> int | None:
        """Return the exit code after the end of the process. A killed process has -9."""
        await _readable(self._process.sentinel, seconds)
        self._process.join()
        return self._process.exitcode


def server(plan: ServerPlan) -> RunningProcess:
    return RunningProcess(run_server, plan)


def simulator(log: Path) -> RunningProcess:
    """The simulated provider. `log` gets a line for each request."""
    return RunningProcess(run_simulator, log)


async def _readable(descriptor: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        async with asyncio.timeout(seconds):
            await readable.wait()
    finally:
        loop.remove_reader(descriptor)
