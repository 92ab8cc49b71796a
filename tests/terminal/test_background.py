"""The background server of a user: found, started once, ended when unused, and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.cli.programs import Program
from tests.terminal.windows import Window, texts
from turnstream.cli.background.finding import find_or_start
from turnstream.cli.background.in_process import InProcessServer
from turnstream.cli.background.place import BackgroundPlace, background_place
from turnstream.config import load_settings
from turnstream.terminal.app import ChatApp, WindowOptions
from turnstream.terminal.asking import Asking
from turnstream.terminal.server_connection import ServerAccess, ServerConnection

SECONDS = 60.0
MOST_SECONDS = 10.0
"""Twice the promise: a loaded machine is slow to run the threads at all."""
STORY = "sim/story:events=400,pace=0.02"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BackgroundPlace]:
    """The place of a server of this test alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    found = background_place()
    yield found
    for process in servers(found):
        process.kill()
        process.wait(SECONDS)


def servers(place: BackgroundPlace) -> list[psutil.Process]:
    """The processes of servers of a place."""
    found = []
    for process in psutil.process_iter():
        try:
            serves = "turnstream.cli.background.serving" in process.cmdline()
            if serves and process.environ().get("XDG_STATE_HOME") == str(place.folder.parents[1]):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def until_gone(process: psutil.Process, place: BackgroundPlace) -> None:
    deadline = time.monotonic() + SECONDS
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"{process} runs on: {place.log_path.read_text()}"
        os.sched_yield()


def test_windows_that_start_at_once_start_one_server(place: BackgroundPlace) -> None:
    with ThreadPoolExecutor(4) as threads:
        starts = [threads.submit(find_or_start, place, idle_seconds=60) for _ in range(4)]
        for start in starts:
            start.result(SECONDS)
    assert place.answers()
    assert len(servers(place)) == 1


def test_only_the_user_can_read_what_a_server_leaves(place: BackgroundPlace) -> None:
    find_or_start(place, idle_seconds=60)
    files = [
        place.socket_path,
        place.log_path,
        place.lock_path,
        *Path(os.environ["XDG_DATA_HOME"]).rglob("*"),
    ]
    assert len(files) >= 5
    open_to_others = [path for path in files if stat.S_IMODE(path.lstat().st_mode) & 0o077]
    assert not open_to_others
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700


def test_a_socket_of_a_dead_server_is_replaced(place: BackgroundPlace) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place.socket_path))
    assert place.socket_path.exists()
    assert not place.answers()
    find_or_start(place, idle_seconds=60)
    assert place.answers()


def test_an_unused_server_ends_and_removes_its_socket(place: BackgroundPlace) -> None:
    find_or_start(place, idle_seconds=0.5)
    (server,) = servers(place)
    until_gone(server, place)
    assert not place.socket_path.exists()
    assert place.log_path.read_text() == ""
    find_or_start(place, idle_seconds=60)
    assert place.answers()


def test_a_server_that_cannot_start_says_why(place: BackgroundPlace) -> None:
    config = Path("broken.toml")
    config.write_text("[engine]\nno_such_setting = 1\n")
    with pytest.raises(Exception, match="no_such_setting"):
        find_or_start(place, idle_seconds=60, config=str(config))
    assert not servers(place)


@pytest.mark.requirement("R4")
async def test_a_killed_window_is_opened_again_and_the_answer_is_whole(
    place: BackgroundPlace, tmp_path: Path
) -> None:
    environ = {"XDG_STATE_HOME": os.environ["XDG_STATE_HOME"], "XDG_DATA_HOME": os.environ["XDG_DATA_HOME"]}
    question = b"Tell a story\n"
    async with Program(
        "chat", "--plain", "-m", STORY, cwd=tmp_path, environ=environ, given=question
    ) as first:
        await first.until(r"sim/story\S*:\n(\S+\s+){20}")
        first.signal(signal.SIGKILL)
        await first.ended()
    async with Program("chat", "--plain", "--last", cwd=tmp_path, environ=environ, given=b"/quit\n") as again:
        ended = await again.ended(SECONDS)
    assert ended.code == 0, ended
    seen = first.output.split(":\n", 1)[1]
    answer = ended.output.split("story\nsim/", 1)[1].split(":\n", 1)[1].split("\n[Ready.")[0]
    assert answer.startswith(seen)
    assert len(answer.split()) == 400
    assert "Ready. 400 tokens" in ended.output


async def test_a_server_is_killed_in_an_answer_and_started_again(place: BackgroundPlace) -> None:
    async def find() -> None:
        await asyncio.to_thread(find_or_start, place, idle_seconds=60)

    await find()
    connection = ServerConnection(ServerAccess(socket_path=str(place.socket_path)), find)
    app = ChatApp(
        connection, Asking(STORY), WindowOptions(animated=False, update_interval=0.02, theme="textual-dark")
    )
    async with app.run_test(notifications=True) as pilot:
        shown = Window(app, pilot)
        await shown.ask("Tell a story")
        await shown.until(lambda: len(texts(shown)) == 2 and len(texts(shown)[1]) > 100, "text")
        (server,) = servers(place)
        server.kill()
        await shown.until(lambda: not app.conversation.connected, "lost connection")
        await shown.until(lambda: app.conversation.connected, "connection")
        await shown.until_ready()
        assert servers(place)[0].pid != server.pid
        await shown.until_shown("Streaming failed:")
        stored = await connection.client.read(app.conversation.turns[-1].turn_id)
        assert stored.text == texts(shown)[1]
        app.conversation.asking = Asking("sim/echo:pace=0")
        await shown.ask("Still there?")
        await shown.until_ready(2)
        assert texts(shown)[-1] == "Still there?"
    await connection.close()


async def test_in_process_the_window_needs_no_other_process(place: BackgroundPlace, tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": os.environ["XDG_STATE_HOME"], "XDG_DATA_HOME": os.environ["XDG_DATA_HOME"]}
    arguments = ("chat", "--plain", "--in-process", "-m", "sim/echo:pace=0")
    async with Program(*arguments, cwd=tmp_path, environ=environ, given=b"Hello\n") as program:
        ended = await program.ended(SECONDS)
    assert ended.code == 0, ended
    assert "sim/echo:pace=0:\nHello\n[Ready. 1 token, $0.00.]" in ended.output
    assert not servers(place)


@pytest.mark.requirement("O3")
async def test_the_window_ends_within_five_seconds_while_a_provider_hangs(place: BackgroundPlace) -> None:
    server = InProcessServer(load_settings(None), place.database_url)
    await asyncio.to_thread(server.__enter__)
    connection = ServerConnection(server.access)
    app = ChatApp(connection, Asking("sim/echo:fault=hang"), WindowOptions(animated=False))
    async with app.run_test() as pilot:
        shown = Window(app, pilot)
        await shown.ask("Hang")
        await shown.until(lambda: app.conversation.running is not None, "running answer")
        began = time.monotonic()
        app.exit()
    await connection.close()
    await asyncio.to_thread(server.__exit__, None, None, None)
    seconds = time.monotonic() - began
    sys.stdout.write(f"ended in {seconds:.2f} s\n")
    assert seconds < MOST_SECONDS
    thread = server._thread  # pyright: ignore[reportPrivateUsage]
    await asyncio.to_thread(thread.join, SECONDS)
    assert not thread.is_alive()
