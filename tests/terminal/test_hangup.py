"""A closed terminal or a signal ends the chat, and the answer continues at the server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cli.terminals import start_on_terminal
from tests.terminal.windows import server
from turnstream.client import AsyncClient

SECONDS = 60.0
MOST_SECONDS = 10.0
"""Twice the promised time, because a loaded machine may run the process late."""
MODEL = "sim/story:events=200,pace=0.02"


ENDS_BY_ITSELF = """
import asyncio, signal
from turnstream.cli.hangup import HangupWatch

async def chat():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a parent may ignore it, as nohup does
    with HangupWatch(asyncio.current_task().cancel, ("SIGHUP",)) as watch:
        signal.raise_signal(signal.SIGHUP)
    await asyncio.sleep(0)
    return watch.code

raise SystemExit(asyncio.run(chat()))
"""

IS_SIGNALLED_LATE = """
import asyncio, signal
from turnstream.cli.hangup import HangupWatch

async def chat():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with HangupWatch(asyncio.current_task().cancel, ("SIGHUP",)):
        pass
    signal.raise_signal(signal.SIGHUP)
    return 128 + signal.SIGHUP

raise SystemExit(asyncio.run(chat()))
"""
SEES_THE_HANGUP_LAST = """
import asyncio, os, select, sys
from turnstream.cli.hangup import HangupWatch

class LatePoller:
    def __init__(self, poller, leaving):
        self.register, self._poller, self._leaving = poller.register, poller, leaving

    def poll(self, timeout=None):
        if timeout is None:
            select.select([self._leaving], [], [])
        return self._poller.poll(0)

class LateWatch(HangupWatch):
    def _poller(self):
        return LatePoller(super()._poller(), self._leaving)

async def chat():
    with LateWatch(asyncio.current_task().cancel, ()) as watch:
        os.close(master)
        try:
            print("text", flush=True)
        except OSError:
            assert watch.has_hung_up()
    return watch.code

master, terminal = os.openpty()
for number in (0, 1, 2):
    os.dup2(terminal, number)
os.close(terminal)
code = asyncio.run(chat())
sys.stdout.flush()
raise SystemExit(code)
"""


class RunningChat:
    """A chat on a terminal. `screen` has all output of the chat."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        self.process = process
        self.screen = b""
        self._terminal = terminal
        self._grown = asyncio.Event()
        os.set_blocking(terminal, False)
        asyncio.get_running_loop().add_reader(terminal, self._read)

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    async def until(self, text: str) -> None:
        async with asyncio.timeout(SECONDS):
            while text.encode() not in self.screen:
                await self._grown.wait()
                self._grown.clear()

    def close_terminal(self) -> None:
        if self._terminal >= 0:
            asyncio.get_running_loop().remove_reader(self._terminal)
            os.close(self._terminal)
            self._terminal = -1

    async def ended(self) -> int:
        """Wait for the end of the process. Return its exit code."""
        async with asyncio.timeout(MOST_SECONDS):
            return await self.process.wait()

    def _read(self) -> None:
        try:
            piece = os.read(self._terminal, 65536)
        except OSError:  # the other side is closed
            piece = b""
        if not piece:
            asyncio.get_running_loop().remove_reader(self._terminal)
        self.screen += piece
        self._grown.set()


@asynccontextmanager
async def answering(
    url: str, folder: Path, *arguments: str, ignores_hangup: bool = False
) -> AsyncGenerator[RunningChat, None]:
    """Yield a chat in the middle of an answer."""

    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignores_hangup else signal.SIG_DFL)

    command = (sys.executable, "-m", "turnstream.cli.main", "chat", "--url", url, "-m", MODEL, *arguments)
    chat = RunningChat(*await start_on_terminal(*command, cwd=folder, prepare=prepare))
    try:
        await chat.until("Type a question" if "--plain" in arguments else "Ready")
        chat.type(b"Tell a story\r" if "--plain" not in arguments else b"Tell a story\n")
        await started(url)
        yield chat
    finally:
        chat.close_terminal()
        if chat.process.returncode is None:
            chat.process.kill()
            await chat.process.wait()


async def started(url: str) -> str:
    """Wait until the server has the answer. Return its id."""
    async with AsyncClient(url) as client, asyncio.timeout(SECONDS):
        while True:
            for chat in (await client.chats.list()).chats:
                if chat.active_turn_id is not None:
                    return chat.active_turn_id


async def whole_answer(url: str) -> str:
    """Wait for the end of the answer at the server. Return its text."""
    async with AsyncClient(url) as client, asyncio.timeout(SECONDS):
        answer = client.watch(await started(url))
        await answer.wait()
        return answer.text


@pytest.mark.requirement("R4", "O3")
@pytest.mark.parametrize("ignores_hangup", [False, True])
@pytest.mark.parametrize("arguments", [(), ("--plain",)], ids=["window", "plain"])
async def test_a_chat_ends_with_its_terminal_and_the_answer_goes_on(
    tmp_path: Path, arguments: tuple[str, ...], ignores_hangup: bool
) -> None:
    async with (
        server(tmp_path) as url,
        answering(url, tmp_path, *arguments, ignores_hangup=ignores_hangup) as chat,
    ):
        began = time.monotonic()
        chat.close_terminal()
        assert await chat.ended() == 128 + signal.SIGHUP
        sys.stdout.write(f"ended {time.monotonic() - began:.2f} s after its terminal\n")
        assert len((await whole_answer(url)).split()) == 200


@pytest.mark.requirement("R4", "O3")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
async def test_a_signal_ends_a_window_and_its_terminal_is_restored(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with server(tmp_path) as url, answering(url, tmp_path) as chat:
        chat.process.send_signal(number)
        assert await chat.ended() == 128 + number
        await chat.until("\x1b[?1049l")
        assert "Traceback" not in chat.screen.decode("utf-8", "replace")
        assert len((await whole_answer(url)).split()) == 200


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(ENDS_BY_ITSELF, id="is-not-ended-again"),
        pytest.param(IS_SIGNALLED_LATE, id="is-not-killed-by-the-signal"),
        pytest.param(SEES_THE_HANGUP_LAST, id="knows-of-the-hangup"),
    ],
)
async def test_a_chat_that_ends_by_itself(program: str) -> None:
    """A write to a closed terminal fails before the signal comes, or before the watch sees the hangup."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    async with asyncio.timeout(SECONDS):
        assert await process.wait() == 128 + signal.SIGHUP
