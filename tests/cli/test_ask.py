"""`turnstream ask`, in the process and over HTTP."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.cli.cutting_proxy import CuttingProxy
from tests.cli.programs import Program, listening, run
from turnstream.core.stream_events import TextDelta
from turnstream.engine import Engine
from turnstream.simulator.script import story
from turnstream.simulator.texts import THOUGHT, UNUSUAL

SILENT = "sim/story:events=300,pace=0,fault=silence,after=20"
"""A model that says twenty words, then stays silent."""


def story_text(events: int) -> str:
    return "".join(event.text for event in story(events, 0) if isinstance(event, TextDelta))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for all tests of this file."""
    folder = tmp_path_factory.mktemp("server")
    arguments = Program("serve", "--port", "0", cwd=folder).arguments
    with (
        (folder / "errors.log").open("wb") as errors,
        subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        found = (re.search(r"listens on (http://\S+)", line) for line in process.stdout)
        yield next(match[1] for match in found if match)
        process.terminate()


async def fetched(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        response.raise_for_status()
        return await response.json()


async def last_turn(server: str) -> dict[str, Any]:
    """Return the assistant turn of the chat that changed last."""
    chat = (await fetched(f"{server}/api/chats"))["chats"][0]
    turns = (await fetched(f"{server}/api/chats/{chat['id']}/turns"))["turns"]
    (turn,) = [turn for turn in turns if turn["role"] == "assistant"]
    return await fetched(f"{server}/api/turns/{turn['id']}")


async def test_a_pipe_gets_the_answer_and_nothing_else(tmp_path: Path):
    ended = await run("ask", "Hello", "-m", "sim/thinking:pace=0", cwd=tmp_path)
    assert ended.code == 0
    assert ended.output == UNUSUAL
    assert ended.errors.rstrip("\n") == THOUGHT.rstrip("\n")
    assert "\x1b" not in ended.output + ended.errors


async def test_without_a_model_the_simulated_one_answers_and_says_so(tmp_path: Path):
    ended = await run("ask", "-", "--system", "Be brief.", cwd=tmp_path, given="Grüße\n".encode())
    assert ended.code == 0
    assert "sim/demo" in ended.output
    assert "> Grüße" in ended.output


async def test_thinking_is_dimmed_on_a_terminal(tmp_path: Path):
    ours, terminal = os.openpty()
    try:
        arguments = Program("ask", "Hello", "-m", "sim/thinking:pace=0", cwd=tmp_path).arguments
        process = await asyncio.create_subprocess_exec(
            *arguments, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal
        )
        os.close(terminal)
        shown = await asyncio.wait_for(asyncio.to_thread(_read_all, ours), 60)
        assert await process.wait() == 0
    finally:
        os.close(ours)
    assert "\x1b[2mThe" in shown
    assert "\x1b[0mEmoji: 🙂" in shown.replace("\r\n", "").replace("\x1b[2m\x1b[0m", "")


def _read_all(descriptor: int) -> str:
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # what Linux says when the other side is closed
            piece = b""
        if not piece:
            return b"".join(pieces).decode()
        pieces.append(piece)


async def test_a_named_database_keeps_the_turn(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/kept.sqlite"
    assert (await run("ask", "Hello", "-m", "sim/echo:pace=0", "--database-url", url, cwd=tmp_path)).code == 0
    async with Program("serve", "--port", "0", "--database-url", url, cwd=tmp_path) as program:
        turn = await last_turn(await listening(program))
    assert turn["status"] == "complete"
    assert turn["blocks"][0]["text_content"] == "Hello"


@pytest.mark.requirement("P5")
@pytest.mark.parametrize(
    ("model", "message", "partial"),
    [
        ("sim/story:pace=0,fault=cut,after=20", "stream_incomplete", True),
        ("sim/story:pace=0,fault=error-before,status=401", "authentication_error", False),
        ("sim/nobody", "no simulated model 'nobody'", False),
        ("nobody/x", "no provider 'nobody' is configured", False),
        ("anthropic/claude", "set ANTHROPIC_API_KEY", False),
    ],
)
async def test_a_failed_answer_is_never_a_success(model: str, message: str, partial: bool, tmp_path: Path):
    once = {"TURNSTREAM_RETRY__ATTEMPTS": "1"}
    ended = await run("ask", "Hello", "-m", model, "--debug", cwd=tmp_path, environ=once)
    assert ended.code == 1
    assert message in ended.errors.splitlines()[-1]
    assert ended.errors.splitlines()[-1].startswith("turnstream: ")
    assert bool(ended.output) == partial
    assert story_text(300).startswith(ended.output.rstrip("\n"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://nosuch.invalid"])
async def test_a_server_that_is_not_there_is_named(url: str, tmp_path: Path):
    ended = await run("ask", "Hello", "--url", url, cwd=tmp_path)
    assert ended.code == 1
    assert f"{url}/api cannot be reached" in ended.errors
    assert len(ended.errors.splitlines()) == 1


async def test_an_answer_over_http_is_the_same(server: str, tmp_path: Path):
    arguments = ("ask", "Hello", "-m", "sim/thinking:pace=0", "--system", "Be odd.")
    remote = await run(*arguments, "--url", server, cwd=tmp_path)
    assert (remote.code, remote.output) == (0, UNUSUAL)
    assert remote.errors.rstrip("\n") == THOUGHT.rstrip("\n")
    assert (await last_turn(server))["system"] == "Be odd."
    refused = await run("ask", "Hello", "-m", "nobody/x", "--url", f"{server}/api/", cwd=tmp_path)
    assert refused.code == 1
    assert "no provider 'nobody' is configured" in refused.errors


@pytest.mark.requirement("C3", "P1")
async def test_lost_connections_lose_nothing_of_the_answer(server: str, tmp_path: Path):
    """The first connection carries the chat and the start of the answer. Later connections are cut before the
    answer, within its headers, and at odd places of its stream. The answer is still whole."""
    parts = urlsplit(server)
    draw = random.Random(5)
    limits = [1000, 0, 3, *(draw.randint(1, 4000) for _ in range(12))]
    async with CuttingProxy((parts.hostname or "", parts.port or 0), limits) as proxy:
        arguments = ("ask", "Hello", "-m", "sim/story:events=300,pace=0.01", "--url", proxy.url)
        ended = await run(*arguments, cwd=tmp_path)
        assert proxy.cuts >= 8
    assert ended.output == story_text(300).rstrip("\n") + "\n" or ended.output == story_text(300)
    assert ended.code == 0
    turn = await last_turn(server)
    assert turn["status"] == "complete"
    assert turn["blocks"][0]["text_content"] == story_text(300)


@pytest.mark.requirement("A4", "J4")
async def test_ctrl_c_stops_the_turn_and_keeps_what_was_said(server: str, tmp_path: Path):
    async with Program("ask", "Hello", "-m", SILENT, "--url", server, cwd=tmp_path) as program:
        said = (await program.until(r"(?s)\A(\S+\s){10}"))[0]
        assert (await last_turn(server))["status"] == "streaming"
        program.signal(signal.SIGINT)
        ended = await program.ended()
    assert ended.code == 130
    assert ended.output.startswith(said)
    assert ended.errors.endswith("[stopped]\n")
    turn = await last_turn(server)
    assert turn["status"] == "cancelled"
    assert turn["blocks"][0]["partial"] is True
    assert turn["blocks"][0]["text_content"].rstrip() == ended.output.rstrip()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_stops_the_turn_in_the_process_too(number: signal.Signals, code: int, tmp_path: Path):
    url = f"sqlite:///{tmp_path}/kept.sqlite"
    async with Program("ask", "Hello", "-m", SILENT, "--database-url", url, cwd=tmp_path) as program:
        await program.until(r"(?s)\A(\S+\s){10}")
        program.signal(number)
        ended = await program.ended()
    assert ended.code == code
    assert ended.errors == "[stopped]\n"
    async with Engine(url) as engine:
        (chat,) = await engine.commands.store.read(_chats())
        turns = await engine.commands.store.read(_turns(chat.id))
        assert [turn.status for turn in turns] == ["complete", "cancelled"]


def _chats() -> Any:
    from turnstream.store.queries import ListChats

    return ListChats(owner="local", limit=10, before=None)


def _turns(chat_id: str) -> Any:
    from tests.store.reads import ListTurns

    return ListTurns(owner="local", chat_id=chat_id)


async def test_a_reader_that_leaves_stops_the_turn_without_noise(server: str, tmp_path: Path):
    arguments = Program(
        "ask", "Hello", "-m", "sim/story:events=100000,pace=0.002", "--url", server, cwd=tmp_path
    ).arguments
    process = await asyncio.create_subprocess_exec(
        *arguments, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    await asyncio.wait_for(process.stdout.readexactly(100), 60)
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    errors = await asyncio.wait_for(process.stderr.read(), 60)
    assert (await process.wait(), errors) == (141, b"")
    assert (await last_turn(server))["status"] == "cancelled"
