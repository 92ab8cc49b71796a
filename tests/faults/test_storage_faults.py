"""A database that is locked, or full: the turn ends with database_error, stays readable, and disturbs no
other (D3)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.faults.processes import server
from tests.faults.server_process import ServerPlan
from tests.faults.watching import Api, Watcher, shown_text, stored_blocks
from turnstream.config import EngineSettings
from turnstream.simulator import texts

STORE_TIMEOUT = 0.8
"""Seconds that the store gives one write here; 5 in real life."""
GIVES_UP_WITHIN = 2 * STORE_TIMEOUT + 0.1 + 2.0
"""Two writes, the pause between them, and time for a busy machine; for a block, and then for the turn's
end."""
MODEL = "sim/thinking:pace=0.002"


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program holds the write lock."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=5.0)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def plan_in(folder: Path, **options: object) -> ServerPlan:
    return ServerPlan(
        folder / "chats.sqlite",
        folder / "log",
        store_timeout=STORE_TIMEOUT,
        engine=EngineSettings(journal_interval=0.05),
        **options,  # type: ignore[arg-type]
    )


async def start_watched(
    api: Api, model: str = MODEL, chat_id: str | None = None
) -> tuple[Watcher, asyncio.Task[None]]:
    """A turn, and its watcher at work; text has been seen."""
    turn_id = await api.start(chat_id or await api.create_chat(), "hello", model)
    watcher = Watcher(turn_id)
    begun = asyncio.Event()

    def see(_: object) -> bool:
        if watcher.fold.blocks:
            begun.set()
        return False

    watching = asyncio.create_task(watcher.watch(api, until=see))
    async with asyncio.timeout(10.0):
        await begun.wait()
    return watcher, watching


async def expect_database_error(api: Api, watcher: Watcher, watching: asyncio.Task[None]) -> None:
    """The turn ends with database_error within its time; what was seen of it can be read, now and by a
    newcomer."""
    began = time.monotonic()
    await watching
    assert time.monotonic() - began < 2 * GIVES_UP_WITHIN
    assert watcher.terminal_events() == ["turn_error"]
    assert watcher.frames[-1].data["code"] == "database_error"
    row = await api.turn(watcher.turn_id)
    assert (row["status"], row["error"]["code"]) == ("error", "database_error")
    assert [shown_text(block) for block in stored_blocks(row)] == [
        shown_text(block) for block in watcher.fold.blocks
    ]
    fresh = await api.watched(watcher.turn_id)
    assert fresh.terminal_events() == ["turn_error"]
    assert [shown_text(block) for block in fresh.fold.blocks] == [
        shown_text(block) for block in watcher.fold.blocks
    ]


async def saved_end(api: Api, database: Path, turn_id: str) -> None:
    """Return once the end of a turn, refused at first, is in the file."""
    async with asyncio.timeout(10.0):
        while _status_in_file(database, turn_id) != "error":
            await api.turn(turn_id)


def _status_in_file(database: Path, turn_id: str) -> str:
    connection = sqlite3.connect(database, timeout=5.0)
    try:
        return connection.execute("SELECT status FROM turnstream_turns WHERE id = ?", (turn_id,)).fetchone()[
            0
        ]
    finally:
        connection.close()


@pytest.mark.requirement("D3", "D7", "J4", "P5")
async def test_a_database_locked_by_another_program(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    plan = plan_in(tmp_path)
    async with server(plan) as process:
        api = Api(process.url, session)
        chat_id = await api.create_chat()
        watcher, watching = await start_watched(api, chat_id=chat_id)
        survivor, surviving = await start_watched(api, "sim/story:events=4000,pace=0.001")
        with locked(plan.database):
            await expect_database_error(api, watcher, watching)
            status, refused = await api.post_turn(chat_id, "x", MODEL)
            assert (status, refused["error"]["code"]) == (500, "database_error")
        await saved_end(api, plan.database, watcher.turn_id)
        turn_id = await api.start(chat_id, "go on", "sim/echo:pace=0", prev=watcher.turn_id)
        assert (await api.watched(turn_id)).terminal_events() == ["turn_complete"]
        await surviving
        assert survivor.terminal_events() == ["turn_complete"], "its block closed after the lock was gone"
        before = await api.turn(watcher.turn_id)
    async with server(plan) as process:
        api = Api(process.url, session)
        assert await api.turn(watcher.turn_id) == before
        await survivor.watch(api)
        assert survivor.status == 204
        fresh = await api.watched(watcher.turn_id)
        assert fresh.terminal_events() == ["turn_error"]
        assert fresh.fold.blocks == stored_blocks(before)


@pytest.mark.requirement("D3", "D5", "P5")
async def test_a_server_that_dies_with_an_end_it_could_not_store(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    plan = plan_in(tmp_path)
    async with server(plan) as process:
        api = Api(process.url, session)
        watcher, watching = await start_watched(api)
        with locked(plan.database):
            await expect_database_error(api, watcher, watching)
            await process.kill()
    async with server(plan) as process:
        api = Api(process.url, session)
        row = await api.turn(watcher.turn_id)
        assert row["status"] == "error"
        stored = stored_blocks(row)
        assert all(texts.THOUGHT.startswith(shown_text(block)) for block in stored)
        fresh = await api.watched(watcher.turn_id)
        assert (fresh.terminal_events(), fresh.fold.blocks) == (["turn_error"], stored)
        resumed = Watcher(watcher.turn_id, frames=watcher.frames[-1:])
        await resumed.watch(api)
        assert resumed.frames[1].data["code"] == "truncated", "it saw an end that nobody else will see"
        assert resumed.frames[-1].name == "turn_error"


@pytest.mark.requirement("D3", "P5")
async def test_a_short_lock_is_waited_for(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    plan = plan_in(tmp_path)
    async with server(plan) as process:
        api = Api(process.url, session)
        watcher, watching = await start_watched(api, "sim/thinking:pace=0")
        with locked(plan.database):
            pass
        await watching
        assert watcher.terminal_events() == ["turn_complete"]


@pytest.mark.requirement("A1", "D3", "D5")
async def test_a_start_that_was_refused_leaves_no_turn_pending(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """A write that took too long is refused, but may be applied after all: its turn must have ended then."""
    plan = plan_in(tmp_path)
    async with server(plan) as process:
        api = Api(process.url, session)
        chat_id = await api.create_chat()
        with locked(plan.database):
            answers = await asyncio.gather(
                *(api.post_turn(chat_id, "hello", "sim/echo:pace=0", key=f"key {n}") for n in range(6))
            )
        assert {status for status, _ in answers} == {500}
        for number in range(6):
            status, started = await api.post_turn(chat_id, "hello", "sim/echo:pace=0", key=f"key {number}")
            assert status == 201
            watcher = await api.watched(started["assistant_turn"]["id"])
            assert watcher.ended
            status, again = await api.post_turn(chat_id, "hello", "sim/echo:pace=0", key=f"key {number}")
            assert again["assistant_turn"]["id"] == watcher.turn_id
        async with asyncio.timeout(10.0):
            while {turn["status"] for turn in await api.turns(chat_id)} - {"complete", "error"}:
                pass  # an end that storage refused is stored by the next sweep
        turn_id = await api.start(chat_id, "hello", "sim/echo:pace=0", prev=watcher.turn_id)
        assert (await api.watched(turn_id)).terminal_events() == ["turn_complete"]


class FullDisk:
    """A folder for the database, and a way to let its disk be full."""

    folder: Path
    options: dict[str, object]

    def fill(self) -> None:
        raise NotImplementedError

    def empty(self) -> None:
        raise NotImplementedError


class SmallFileSystem(FullDisk):
    """A file system in memory. A file next to the database fills it."""

    options: dict[str, object] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    continue

    def empty(self) -> None:
        self._filler.unlink()


class PageLimit(FullDisk):
    """SQLite's own limit on the pages of a file: what a full disk is to it, without needing to be root."""

    UNLIMITED = "1000000000"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._limit = folder / "pages"
        self._limit.write_text(self.UNLIMITED)
        self.options = {"page_limit": self._limit}

    def fill(self) -> None:
        self._limit.write_text("1")  # below what it has: SQLite takes the pages that there are

    def empty(self) -> None:
        self._limit.write_text(self.UNLIMITED)


@pytest.fixture(params=["small file system", "page limit"])
def full_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FullDisk]:
    if request.param == "page limit" or os.geteuid() != 0:
        yield PageLimit(tmp_path)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        yield PageLimit(tmp_path)  # a container without the right to mount
        return
    try:
        yield SmallFileSystem(tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.requirement("D3", "D7", "P5")
async def test_a_full_disk_at_the_end_of_a_block(full_disk: FullDisk, session: aiohttp.ClientSession) -> None:
    plan = plan_in(full_disk.folder, **full_disk.options)
    async with server(plan) as process:
        api = Api(process.url, session)
        chat_id = await api.create_chat()
        done = await api.start(chat_id, "hello", "sim/echo:pace=0")
        assert (await api.watched(done)).terminal_events() == ["turn_complete"]
        story = "sim/story:events=2000,pace=0.0005,batch=10"
        watcher, watching = await start_watched(api, story, chat_id)
        full_disk.fill()
        await expect_database_error(api, watcher, watching)
        fresh = await api.watched(done)
        assert fresh.terminal_events() == ["turn_complete"], "what is stored can still be read"
        full_disk.empty()
        await saved_end(api, plan.database, watcher.turn_id)
        turn_id = await api.start(chat_id, "go on", "sim/echo:pace=0", prev=watcher.turn_id)
        assert (await api.watched(turn_id)).terminal_events() == ["turn_complete"]
        row = await api.turn(watcher.turn_id)
        assert row["error"]["code"] == "database_error"
        await watcher.watch(api)
        assert watcher.status == 204
    async with server(plan) as process:
        api = Api(process.url, session)
        fresh = await api.watched(watcher.turn_id)
        assert fresh.fold.blocks == stored_blocks(row)
        assert fresh.terminal_events() == ["turn_error"]
