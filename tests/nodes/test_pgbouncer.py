"""PgBouncer in transaction mode: each transaction may have another session of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.nodes.pgbouncer import SESSIONS, pgbouncer, pooled
from tests.postgresql import PostgresServer
from tests.store.samples import OWNER, finish, running_turn, save, stored_chat
from turnstream.errors import StoreError
from turnstream.store.migrations import NEWEST, database_revision, upgrade_database
from turnstream.store.queries import AllBlocks, GetChat, GetTurn
from turnstream.store.sql import SqlStore

DEADLINE = 30.0


@pytest.fixture(scope="module")
def pool(postgres: PostgresServer) -> Iterator[Path]:
    with pgbouncer(postgres) as folder:
        yield folder


@pytest.fixture
def direct_url(postgres: PostgresServer) -> str:
    return postgres.database()


@pytest.fixture
def url(direct_url: str, pool: Path) -> str:
    return pooled(direct_url, pool)


def sessions(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.requirement("Q1")
async def test_stores_share_the_sessions_of_a_pool(url: str, direct_url: str):
    """More clients than sessions, and each statement often enough to be prepared."""
    await asyncio.to_thread(upgrade_database, url)
    assert await asyncio.to_thread(database_revision, url) == NEWEST
    stores = [SqlStore(url) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))

    async def work(store: SqlStore) -> None:
        chat = await stored_chat(store)
        for _ in range(4):
            turn = await running_turn(store, chat)
            await asyncio.gather(*(store.write(save(turn, sequence)) for sequence in range(20)))
            assert len(await store.read(AllBlocks(turn_id=turn.id))) == 20
            assert await store.write(finish(turn))
            assert (await store.read(GetTurn(owner=None, turn_id=turn.id))).status == "complete"
        assert (await store.read(GetChat(owner=OWNER, chat_id=chat.id))).id == chat.id

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*map(work, stores))
    assert await asyncio.to_thread(sessions, direct_url) <= SESSIONS
    for store in stores:
        await store.close()


async def test_settings_stay_in_their_transaction(url: str, direct_url: str):
    """A client that shares the sessions has its own settings: it may write, and has no deadline."""
    store = SqlStore(url)
    await store.open()
    turn = await running_turn(store)
    await store.read(GetTurn(owner=None, turn_id=turn.id))
    with psycopg.connect(url, prepare_threshold=None) as other:
        for name in ("lock_timeout", "statement_timeout", "transaction_read_only"):
            found = other.execute(f"SELECT current_setting('{name}')").fetchone()
            assert found in [("0",), ("off",)], name
    await store.close()


async def test_a_lock_of_a_row_is_refused_in_time(url: str, direct_url: str):
    store = SqlStore(url, write_timeout=1.0)
    await store.open()
    turn = await running_turn(store)
    with psycopg.connect(direct_url) as outsider:
        outsider.execute("LOCK TABLE turnstream_blocks IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreError, match="lock timeout"):
            await store.write(save(turn, 0))
    await store.write(save(turn, 0))
    await store.close()
