"""The open database file: its write-ahead log stays small, and the store notices that the file is gone."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from tests.server.live import Client, serving
from turnstream.core.identifiers import new_id
from turnstream.engine import Engine
from turnstream.store.base import ChatRecord, Query
from turnstream.store.operations.chats import CreateChat
from turnstream.store.queries import GetChat, ListChats
from turnstream.store.sql import SqlStore
from turnstream.store.sqlite import checkpoint

LIMIT = 512 * 1024


class HeldRead(Query[int], frozen=True, kw_only=True):
    """A read that lasts until the test ends it."""

    began: threading.Semaphore
    go_on: threading.Semaphore

    def fetch(self, connection: Connection) -> int:
        count = len(ListChats(owner=None, limit=5).fetch(connection))
        self.began.release()
        assert self.go_on.acquire(timeout=20)
        return count


def chat(size: int) -> ChatRecord:
    return ChatRecord(new_id(), "ada", "x" * size, {}, 0, 0)


class WorkingRead(Query[int], frozen=True, kw_only=True):
    """A read that keeps SQLite busy for some milliseconds, on a state of the database."""

    def fetch(self, connection: Connection) -> int:
        ListChats(owner=None, limit=5).fetch(connection)
        counted = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT count(*) FROM n"
        return connection.execute(text(counted)).scalar() or 0


@pytest.mark.fault(41)
@pytest.mark.parametrize("is_kept_small", [True, False], ids=["begun anew", "as SQLite leaves it"])
async def test_the_log_stays_small_while_reads_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_kept_small: bool
) -> None:
    """Four readers read all the time. The second case shows that the log would grow."""
    monkeypatch.setattr(checkpoint, "WAL_LIMIT", LIMIT if is_kept_small else 1 << 40)
    monkeypatch.setattr(checkpoint, "WAIT_FOR_READS", 10.0)  # a loaded machine may take seconds for a read
    store = SqlStore(f"sqlite:///{tmp_path}/turns.sqlite")
    await store.open()
    ended = asyncio.Event()

    async def read_on() -> None:
        while not ended.is_set():
            assert await store.read(WorkingRead()) == 60_000

    try:
        readers = [asyncio.create_task(read_on()) for _ in range(8)]
        wal = tmp_path / "turns.sqlite-wal"
        largest = 0
        for _ in range(150):
            await store.write(CreateChat(chat=chat(100_000)))
            largest = max(largest, wal.stat().st_size)
        ended.set()
        await asyncio.gather(*readers)
        if is_kept_small:
            assert largest < 12 * LIMIT
        else:
            assert largest > 20 * LIMIT
    finally:
        ended.set()
        await store.close()


@pytest.mark.fault(41)
async def test_a_read_that_lasts_holds_up_writes_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoint, "WAL_LIMIT", LIMIT)
    monkeypatch.setattr(checkpoint, "WAIT_FOR_READS", 0.05)
    store = SqlStore(f"sqlite:///{tmp_path}/turns.sqlite")
    await store.open()
    try:
        began, go_on = threading.Semaphore(0), threading.Semaphore(0)
        reading = asyncio.create_task(store.read(HeldRead(began=began, go_on=go_on)))
        await asyncio.to_thread(began.acquire)
        for _ in range(30):
            last = chat(50_000)
            await store.write(CreateChat(chat=last))
        assert (
            await store.read(GetChat(owner="ada", chat_id=last.id))
        ).id == last.id  # others are let through again
        assert caplog.text.count("a long read prevents a restart") == 1
        go_on.release()
        await reading
    finally:
        await store.close()


@pytest.mark.fault(41)
@pytest.mark.parametrize("how", ["deleted", "replaced by a copy", "folder renamed"])
async def test_a_file_that_is_gone_makes_the_server_unhealthy(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    path = folder / "turns.sqlite"
    engine = Engine(f"sqlite:///{path}")
    async with serving(engine.application()) as port:
        client = Client(port, prefix="")
        healthy = await client.call("GET", "/healthz")
        assert (healthy.status, healthy.json["status"]) == (200, "ok")
        if how == "deleted":
            path.unlink()
        elif how == "folder renamed":
            folder.rename(tmp_path / "elsewhere")
        else:
            shutil.copy(path, folder / "copy")
            (folder / "copy").replace(path)
        with caplog.at_level(logging.CRITICAL):
            for _ in range(3):
                answer = await client.call("GET", "/healthz")
                assert answer.status == 503
                assert answer.json["status"] == "unhealthy"
                assert "deleted or replaced" in answer.json["reason"]
                assert str(tmp_path) not in answer.body.decode()
        assert caplog.text.count("was deleted or replaced while it was open") == 1


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.requirement("K1")
async def test_the_log_is_gone_after_the_end(tmp_path: Path):
    """The log may have texts that were withdrawn. All readers close their connections at the end."""
    database = tmp_path / "turns.db"
    for _ in range(40):
        store = SqlStore(f"sqlite:///{database}")
        await store.open()
        await asyncio.gather(*(store.read(ListChats(owner="someone", limit=1)) for _ in range(64)))
        await store.close()
        assert names_in(tmp_path) == ["turns.db", "turns.db.lock"]
