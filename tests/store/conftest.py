from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.postgresql import PostgresServer, postgres, postgres_template  # noqa: F401 - fixtures
from turnstream.store.migrations import upgrade_database
from turnstream.store.sql import SqlStore


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the newest schema, to copy. Creating one takes longer than most tests."""
    path = tmp_path_factory.mktemp("database") / "empty.db"
    upgrade_database(f"sqlite:///{path}")
    return path


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> Path:
    return Path(shutil.copy(empty_database, tmp_path / "turns.db"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """A database with the newest schema, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('database')}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database(request.getfixturevalue("postgres_template"))


@pytest.fixture
def writers() -> int:
    """Writers of a store in PostgreSQL."""
    return 4


@pytest.fixture
async def store(url: str, writers: int) -> AsyncIterator[SqlStore]:
    """A store in each kind of database."""
    store = SqlStore(url)
    store.writers = writers
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def sqlite_store(database: Path) -> AsyncIterator[SqlStore]:
    """A store in the file `database`."""
    store = SqlStore(f"sqlite:///{database}")
    await store.open()
    yield store
    await store.close()
