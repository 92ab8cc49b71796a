"""The chat as plain lines."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from io import StringIO
from pathlib import Path

import pytest

import turnstream as ts
from tests.terminal.windows import server
from turnstream.terminal.asking import Asking
from turnstream.terminal.plain_mode import PlainChat, SpokenTurn
from turnstream.terminal.server_connection import ServerAccess, ServerConnection
from turnstream.terminal.transcript_turn import TranscriptTurn


class TypedLines:
    """Lines that a test types, one after the other."""

    def __init__(self) -> None:
        read, self._written = os.pipe()
        self._file = os.fdopen(read, encoding="utf-8")

    def readline(self) -> str:
        return self._file.readline()

    def type(self, line: str) -> None:
        os.write(self._written, f"{line}\n".encode())

    def end(self) -> None:
        os.close(self._written)

    def close(self) -> None:
        self._file.close()


class PlainWindow:
    """A running plain chat."""

    def __init__(self, url: str, asking: Asking) -> None:
        self.typed, self.output = TypedLines(), StringIO()
        self.connection = ServerConnection(ServerAccess(url))
        self.chat = PlainChat(self.connection, asking, lines=self.typed, output=self.output)  # type: ignore[arg-type]
        self.running = asyncio.create_task(self.chat.run())

    async def until(self, text: str) -> None:
        def said() -> bool:
            return text in self.output.getvalue() or self.running.done()

        async with asyncio.timeout(30):
            while not said():  # noqa: ASYNC110 - the output is a file, which tells nothing
                await asyncio.sleep(0.01)
        assert text in self.output.getvalue(), self.output.getvalue()

    async def close(self) -> None:
        self.typed.end()
        async with asyncio.timeout(30):
            await self.running
        self.typed.close()
        await self.connection.close()


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., PlainWindow]]:
    @ts.tool(ask="always")
    def delete_file(path: str) -> str:
        """Delete a file."""
        return f"{path} is gone"

    made: list[PlainWindow] = []
    async with server(tmp_path, tools=[delete_file]) as url:

        def make(model: str) -> PlainWindow:
            made.append(PlainWindow(url, Asking(model)))
            return made[-1]

        yield make
        for each in made:
            await each.close()


async def test_questions_and_answers_are_lines(opened: Callable[..., PlainWindow]) -> None:
    chat = opened("sim/echo:pace=0")
    await chat.until("/help lists the commands")
    chat.typed.type("<think>secret</think>Hello \x1b[31m")
    await chat.until("[Ready. ")
    assert "sim/echo:pace=0:\n[Thinking] secret\n[Answer] Hello ␛[31m\n[Ready. " in chat.output.getvalue()
    chat.typed.type("/help")
    await chat.until("/model [PROVIDER/MODEL]: choose")
    chat.typed.type("/retry")
    await chat.until("[Ready. ")


async def test_ctrl_c_stops_an_answer(opened: Callable[..., PlainWindow]) -> None:
    chat = opened("sim/story:events=100000,pace=0.01")
    await chat.until("/help lists")
    chat.typed.type("Tell")
    await chat.until("sim/story")
    os.kill(os.getpid(), signal.SIGINT)
    await chat.until("[Stopped.")
    os.kill(os.getpid(), signal.SIGINT)
    await chat.until("[Nothing runs. /quit ends the chat.]")


async def test_a_tool_runs_only_after_the_word_yes(opened: Callable[..., PlainWindow]) -> None:
    chat = opened("sim/tools:pace=0")
    await chat.until("/help lists")
    chat.typed.type("Delete")
    await chat.until("May the tool delete_file run?")
    chat.typed.type("y")
    await chat.until("Neither yes nor no.")
    chat.typed.type("yes")
    chat.typed.type("")
    await chat.until("[Ready. ")
    said = chat.output.getvalue()
    assert "example 1 is gone" in said
    assert "✗ not approved" in said


def test_sources_are_lines() -> None:
    turn = TranscriptTurn("t", "assistant")
    spoken = SpokenTurn(turn)
    turn.feed("source", {"source_id": "1", "url": "https://example.org/\x1b[2J", "title": "Sky"})
    assert spoken.growth() == "\n[Source: Sky https://example.org/␛[2J]\n"
    assert spoken.growth() == ""
