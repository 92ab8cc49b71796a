"""One writer process per database."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.samples import DEADLINE, running_turn, save
from turnstream.errors import ConfigurationError, NotStarted, StoreError, StoreLocked
from turnstream.store.migrations import upgrade_database
from turnstream.store.sql import SqlStore
from turnstream.store.sqlite.database import WriterLock
from turnstream.store.urls import database_of

ROOT = Path(__file__).parents[2]

OPEN_AND_TELL = """
import asyncio, sys
from turnstream.errors import StoreError
from turnstream.store.sql import SqlStore

async def main():
    store = SqlStore(sys.argv[1])
    try:
        await store.open()
    except StoreError as error:
        print(f"{type(error).__name__} {error.code}: {error}", flush=True)
        return
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await store.close()

asyncio.run(main())
"""


def start(database: Path) -> subprocess.Popen[str]:
    """A process that opens the database, prints the outcome, and holds it until its standard input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_TELL, f"sqlite:///{database}"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_a_second_process_is_refused_and_told_what_to_do(sqlite_store: SqlStore, database: Path):
    with start(database) as second:
        answer = told(second)
    assert answer.startswith("StoreLocked database_locked:")
    assert str(database) in answer
    assert f"(pid {os.getpid()})" in answer
    assert "sqlite:///OTHER/PATH" in answer
    turn = await running_turn(sqlite_store)
    await sqlite_store.write(save(turn, 0))


async def test_a_second_store_and_a_hand_made_upgrade_are_refused_too(sqlite_store: SqlStore, database: Path):
    with pytest.raises(StoreLocked):
        await SqlStore(f"sqlite:///{database}").open()
    with pytest.raises(StoreLocked):
        upgrade_database(f"sqlite:///{database}")
    with pytest.raises(StoreError, match="open already"):
        await sqlite_store.open()
    await running_turn(sqlite_store)


@pytest.mark.parametrize("end", ["close", "kill"])
async def test_the_lock_ends_with_its_holder(database: Path, end: str):
    with start(database) as first:
        assert told(first) == "open"
        store = SqlStore(f"sqlite:///{database}")
        with pytest.raises(StoreLocked, match=rf"\(pid {first.pid}\)"):
            await store.open()
        if end == "kill":
            first.send_signal(signal.SIGKILL)
        assert first.stdin is not None
        first.stdin.close()
        assert first.wait(DEADLINE) == (-signal.SIGKILL if end == "kill" else 0)
    await store.open()
    await running_turn(store)
    await store.close()


async def test_a_refused_store_can_be_opened_later(sqlite_store: SqlStore, database: Path):
    second = SqlStore(f"sqlite:///{database}")
    with pytest.raises(StoreLocked):
        await second.open()
    with pytest.raises(NotStarted):
        await second.write(save(await running_turn(sqlite_store), 0))
    await second.close()
    await sqlite_store.close()
    await second.open()
    await running_turn(second)
    await second.close()


async def test_a_start_that_fails_keeps_no_lock(tmp_path: Path):
    file = tmp_path / "letter.txt"
    file.write_text("Dear reader, " * 1000)
    store = SqlStore(f"sqlite:///{file}")
    for _ in range(2):
        with pytest.raises(StoreError, match="not a database"):
            await store.open()
    lock = WriterLock(file)
    lock.acquire()
    lock.release()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the folder .*file.* cannot be made"):
        await SqlStore(f"sqlite:///{tmp_path}/file/turns.db").open()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "give the path of a file"),
        ("sqlite:///", "give the path of a file"),
        ("sqlite:///:memory:", "give the path of a file"),
        ("sqlite+aiosqlite:///:memory:", "give the path of a file"),
        ("sqlite:///file:turns", "give the path of a file"),
        ("sqlite:///file:turns?mode=memory&uri=true", "an SQLite URL contains only a path"),
        ("sqlite://turns.db", "sqlite:///relative/path"),
        ("sqlite:///turns.db?timeout=5", "an SQLite URL contains only a path"),
        ("mysql://localhost/turns", "mysql is not supported as a database"),
        ("postgresql://localhost", "does not name a database"),
        ("turns.db", "give sqlite:///PATH"),
        ("", "give sqlite:///PATH"),
    ],
)
def test_a_url_that_names_no_file_is_refused_with_the_remedy(url: str, reason: str):
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        SqlStore(url)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///turns.db", "turns.db"),
        ("sqlite:////var/lib/turns.db", "/var/lib/turns.db"),
        ("sqlite+aiosqlite:///a/turns.db", "a/turns.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str):
    assert database_of(url).name == str(Path(path).absolute())
