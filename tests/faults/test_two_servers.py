"""One writer process per database file: a second one is refused before it touches a turn (the command
itself)."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.faults.watching import Api, Watcher, stored_blocks

START_SECONDS = 30.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "turnstream.cli.main", *arguments]


def serve(database: Path) -> list[str]:
    return command("serve", "--port", "0", "--database-url", f"sqlite:///{database}", "--drain-seconds", "0")


@asynccontextmanager
async def served(database: Path) -> AsyncIterator[tuple[Process, str]]:
    """`turnstream serve` in a process of its own, and its URL; killed at the end."""
    process = await asyncio.create_subprocess_exec(*serve(database), stdout=PIPE, stderr=PIPE)
    try:
        yield process, await _announced(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _announced(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(START_SECONDS):
        while line := await process.stdout.readline():
            if found := re.search(rb"listens on .*?(http://[^\s\x1b]+)", line):
                return found[1].decode()
    assert process.stderr is not None
    raise AssertionError((await process.stderr.read()).decode())


async def refused(arguments: list[str]) -> str:
    """Return the output of a command that must fail quickly."""
    process = await asyncio.create_subprocess_exec(*arguments, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(START_SECONDS):
        _, said = await process.communicate()
    assert process.returncode == 1, said
    assert b"Traceback" not in said
    return said.decode()


@pytest.mark.requirement("D5", "P3")
async def test_a_second_server_is_refused_before_it_ends_a_turn(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    database = tmp_path / "chats.sqlite"
    alias = tmp_path / "alias.sqlite"
    alias.symlink_to(database)
    async with served(database) as (first, url):
        api = Api(url, session)
        turn_id = await api.start(await api.create_chat(), "hello", "sim/story:events=40000,pace=0.005")
        watcher = Watcher(turn_id)
        await watcher.watch(api, until=lambda _: len(watcher.frames) > 5)
        said, said_of_alias, said_of_upgrade = await asyncio.gather(
            refused(serve(database)),
            refused(serve(alias)),
            refused(command("db", "upgrade", "--database-url", f"sqlite:///{database}")),
        )
        for text in (said, said_of_alias, said_of_upgrade):
            assert f"pid {first.pid}" in text
            assert "sqlite:///OTHER/PATH" in text, "the remedy is named"
        assert (await api.turn(turn_id))["status"] == "streaming", "nobody else has ended it"
        before = len(watcher.frames)
        await watcher.watch(api, until=lambda _: len(watcher.frames) > before + 5)
        assert not watcher.ended
        status, stopped = await api.call("POST", f"/api/turns/{turn_id}/interrupt")
        assert (status, stopped["status"]) == (200, "cancelled")


@pytest.mark.requirement("D5", "P3")
async def test_the_lock_of_a_killed_server_does_not_hold(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    database = tmp_path / "chats.sqlite"
    async with served(database) as (process, url):
        api = Api(url, session)
        turn_id = await api.start(await api.create_chat(), "hello", "sim/story:events=40000,pace=0.005")
        watcher = Watcher(turn_id)
        killed = asyncio.create_task(watcher.watch(api))
        await Watcher(turn_id).watch(api, until=lambda _: len(watcher.frames) > 5)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        await killed
    assert database.with_name("chats.sqlite.lock").exists(), "the lock file of the dead is still there"
    async with served(database) as (process, url):
        api = Api(url, session)
        row = await api.turn(turn_id)
        assert (row["status"], row["error"]["code"]) == ("error", "orphaned")
        await watcher.watch(api)
        assert watcher.fold.blocks == stored_blocks(row)
        assert watcher.terminal_events() == ["turn_error"]
        process.terminate()
        async with asyncio.timeout(START_SECONDS):
            assert await process.wait() == 0
