"""Runs `turnstream …` like its users: in a process of its own, with pipes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

START_SECONDS = 60.0
END_SECONDS = 30.0


class Ended(NamedTuple):
    code: int
    output: str
    errors: str


class Program:
    """A running command. As an async context manager it is killed at the end if it still runs.

    `output` and `errors` have the text so far. With `own_group`, its children are killed too. `command` is
    another program, which gets the arguments instead of turnstream.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        environ: Mapping[str, str] | None = None,
        given: bytes | None = None,
        module: str = "turnstream.cli.main",
        own_group: bool = False,
        pass_fds: Sequence[int] = (),
        command: Sequence[str | Path] | None = None,
    ) -> None:
        self.arguments = [*(command or (sys.executable, "-m", module)), *arguments]
        self.output = ""
        self.errors = ""
        self._cwd = cwd
        folders = {f"XDG_{kind.upper()}_HOME": str(cwd / kind) for kind in ("state", "data", "config")}
        self.environ = {**os.environ, **folders, **(environ or {})}
        self._given = given
        self._own_group = own_group
        self._pass_fds = pass_fds
        self._grown = asyncio.Condition()
        self._readers: list[asyncio.Task[None]] = []
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self.arguments,
            cwd=self._cwd,
            env=self.environ,
            stdin=DEVNULL if self._given is None else PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=self._own_group,
            pass_fds=self._pass_fds,
        )
        if self._given is not None:
            assert self._process.stdin is not None
            self._process.stdin.write(self._given)
            self._process.stdin.close()
        self._readers = [asyncio.create_task(self._read(name)) for name in ("output", "errors")]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own_group:
            with suppress(ProcessLookupError):  # all have ended
                self.signal_group(signal.SIGKILL)
        elif self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(*self._readers)

    async def until(
        self, pattern: str, *, errors: bool = False, seconds: float = START_SECONDS
    ) -> re.Match[str]:
        """Wait until its output matches `pattern`. Fails if it ends without a match."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.errors if errors else self.output)

        async with asyncio.timeout(seconds), self._grown:
            await self._grown.wait_for(lambda: found() or all(reader.done() for reader in self._readers))
        match = found()
        assert match is not None, f"no {pattern!r} in {self.output!r}, {self.errors!r}"
        return match

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the process and its children, like a terminal. Needs `own_group`."""
        os.killpg(self.process.pid, number)

    async def ended(self, seconds: float = END_SECONDS) -> Ended:
        """Wait for its end."""
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await asyncio.gather(*self._readers)
        return Ended(code, self.output, self.errors)

    async def _read(self, name: str) -> None:
        stream = self.process.stdout if name == "output" else self.process.stderr
        assert stream is not None
        data = bytearray()
        while piece := await stream.read(64 * 1024):
            data += piece
            async with self._grown:
                setattr(self, name, data.decode("utf-8", "replace"))
                self._grown.notify_all()


async def run(
    *arguments: str,
    cwd: Path,
    environ: Mapping[str, str] | None = None,
    given: bytes | None = None,
    seconds: float = START_SECONDS,
    program: Path | None = None,
) -> Ended:
    """Run a command to its end. `program`: a script in place of turnstream."""
    command = None if program is None else (sys.executable, program)
    async with Program(*arguments, cwd=cwd, environ=environ, given=given, command=command) as running:
        return await running.ended(seconds)


async def listening(program: Program) -> str:
    """Return the URL at which `serve` or `simulate` listens, after its first output is complete."""
    await program.until("Ctrl-C")
    return (await program.until(r"listens on (http://\S+)"))[1]
