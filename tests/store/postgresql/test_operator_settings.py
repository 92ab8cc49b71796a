"""Settings that operators give to a database or a role: timeouts, isolation, encoding."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from sqlalchemy import Connection, func, make_url, select

from tests.postgresql import PostgresServer, waits_for_a_lock
from tests.store.samples import running_turn, save, stored_chat
from turnstream.errors import StoreError
from turnstream.store.base import Operation
from turnstream.store.migrations import NEWEST, upgrade_database
from turnstream.store.nodes import ListNodes
from turnstream.store.queries import AllBlocks
from turnstream.store.schema import chats
from turnstream.store.sql import SqlStore

DEADLINE = 30.0


def set_for(url: str, *settings: str) -> None:
    """Give a database settings, which new connections get."""
    name = make_url(url).database
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in settings:
            connection.execute(f"ALTER DATABASE {name} SET {setting}".encode())


@pytest.fixture
def url(postgres: PostgresServer, postgres_template: str) -> str:
    return postgres.database(postgres_template)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlStore]:
    store = SqlStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def ended_connections(url: str) -> None:
    """Return once the server has ended all other connections to the database."""
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with (
        asyncio.timeout(DEADLINE),
        await psycopg.AsyncConnection.connect(url, autocommit=True) as connection,
    ):
        await connection.execute("SET idle_session_timeout = 0")
        while await (await connection.execute(query)).fetchone() is not None:
            pass


@pytest.mark.requirement("Q7")
async def test_connections_that_end_because_they_are_idle_are_made_again(url: str):
    await asyncio.to_thread(set_for, url, "idle_session_timeout = '200ms'")
    async with opened(url) as store:
        turn = await running_turn(store)
        assert await store.read(ListNodes()) == []
        await ended_connections(url)
        await store.write(save(turn, 0))
        await ended_connections(url)
        assert len(await store.read(AllBlocks(turn_id=turn.id))) == 1


class CountTwice(Operation[tuple[int, int]], frozen=True, kw_only=True):
    """Counts the chats, lets the test go on, and counts them again."""

    counted: threading.Event
    let_go: threading.Event

    def apply(self, connection: Connection) -> tuple[int, int]:
        before = connection.execute(select(func.count()).select_from(chats)).scalar_one()
        self.counted.set()
        assert self.let_go.wait(DEADLINE)
        return before, connection.execute(select(func.count()).select_from(chats)).scalar_one()


@pytest.mark.requirement("Q1")
@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_write_sees_what_other_nodes_have_committed(url: str, isolation: str):
    """A later statement of a write compares rows as they are, whatever the isolation of the database."""
    await asyncio.to_thread(set_for, url, f"default_transaction_isolation = '{isolation}'")
    async with opened(url) as store, opened(url) as other:
        count = CountTwice(counted=threading.Event(), let_go=threading.Event())
        counting = asyncio.create_task(store.write(count))
        assert await asyncio.to_thread(count.counted.wait, DEADLINE)
        await stored_chat(other)
        count.let_go.set()
        assert await counting == (0, 1)


@pytest.mark.requirement("Q1")
async def test_an_upgrade_takes_longer_than_statements_may(postgres: PostgresServer):
    """An upgrade of large tables takes minutes. Another node waits for it longer than a statement may."""
    url = postgres.database()
    await asyncio.to_thread(
        set_for,
        url,
        "statement_timeout = '300ms'",
        "lock_timeout = '300ms'",
        "idle_in_transaction_session_timeout = '300ms'",
    )
    lock = "SELECT pg_advisory_lock(hashtext('turnstream schema'), hashtext('public'))"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as holder:
        await holder.execute(lock)
        upgrading = asyncio.create_task(asyncio.to_thread(upgrade_database, url))
        await waits_for_a_lock(url)
        await holder.execute("SET statement_timeout = 0")
        await holder.execute("SELECT pg_sleep(0.6)")
        await holder.execute("SELECT pg_advisory_unlock_all()")
        assert await upgrading == NEWEST


OLDER = """
ALTER TABLE turnstream_turns DROP COLUMN history_limit;
UPDATE turnstream_alembic_version SET version_num = '0020'
"""


@pytest.mark.requirement("Q1", "Q6")
async def test_an_upgrade_behind_a_backup_holds_up_no_other_node(url: str):
    """A backup reads the tables for longer than the writes of the running nodes may wait."""
    async with (
        await psycopg.AsyncConnection.connect(url) as backup,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as old_node,
    ):
        await old_node.execute(OLDER)
        await backup.execute("LOCK TABLE turnstream_turns IN ACCESS SHARE MODE")
        upgrading = asyncio.create_task(asyncio.to_thread(upgrade_database, url))
        await waits_for_a_lock(url)
        await old_node.execute("SET lock_timeout = '4s'")
        await old_node.execute("UPDATE turnstream_turns SET status = status")
        assert not upgrading.done()
        await backup.rollback()
        async with asyncio.timeout(DEADLINE):
            assert await upgrading == NEWEST


@pytest.mark.parametrize(("encoding", "is_used"), [("SQL_ASCII", True), ("LATIN1", False)])
async def test_a_database_stores_any_text_or_is_refused(
    postgres: PostgresServer, encoding: str, is_used: bool
):
    """`initdb` makes databases without an encoding for the locale C."""
    name = f"{make_url(postgres.database()).database}_{encoding.lower()}"
    with psycopg.connect(postgres.address("postgres"), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 "
            "LC_COLLATE 'C' LC_CTYPE 'C'".encode()
        )
    url, text = postgres.address(name), "\U0001f600 \u00e9"
    if not is_used:
        with pytest.raises(StoreError, match="ENCODING 'UTF8'"):
            await SqlStore(url).open()
        return
    async with opened(url) as store:
        turn = await running_turn(store)
        await store.write(save(turn, 0, text))
        (row,) = await store.read(AllBlocks(turn_id=turn.id))
        assert row.block.text_content == text
