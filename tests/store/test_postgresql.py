"""The store in PostgreSQL alone: text with U+0000, several writers, connections that end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from tests.postgresql import PostgresServer, waits_for_a_lock
from tests.store.samples import DEADLINE, OWNER, make_chat, running_turn, save, stored_chat
from tests.store.writing import held, queue
from turnstream.core.identifiers import new_id
from turnstream.errors import StoreError
from turnstream.store import readers
from turnstream.store.base import SET_BY_STORE, ChatRecord, Operation, Query
from turnstream.store.database import driver_of
from turnstream.store.migrations import NEWEST, upgrade_database
from turnstream.store.nodes import ListNodes
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.nodes import BeginDrain, Heartbeat, ReadOwnTurns
from turnstream.store.postgresql.text import escape, unescape
from turnstream.store.queries import AllBlocks, GetChat, GetTurn
from turnstream.store.schema import secrets
from turnstream.store.sql import SqlStore

MARKED = st.text(st.sampled_from("\x00\x1a01a"))


@pytest.fixture
def url(postgres: PostgresServer, postgres_template: str) -> str:
    return postgres.database(postgres_template)


@given(st.text() | MARKED, st.text() | MARKED)
def test_escaped_text_has_no_nul_and_is_unique(one: str, other: str):
    assert "\x00" not in escape(one)
    assert unescape(escape(one)) == one
    assert (escape(one) == escape(other)) == (one == other)


@pytest.mark.parametrize("text", ["a\x00b", "\x00", "\x1a0", "\x1a\x00\x1a1", "\x1a", r"\u0000", r"\u001a"])
async def test_any_text_is_stored_as_it_is(store: SqlStore, text: str):
    turn = await running_turn(store)
    await store.write(save(turn, 0, text))
    (row,) = await store.read(AllBlocks(turn_id=turn.id))
    assert row.block.text_content == text


async def test_two_stores_write_one_database(store: SqlStore, url: str):
    other = SqlStore(url)
    await other.open()
    turn = await running_turn(store)
    await asyncio.gather(store.write(save(turn, 0)), other.write(save(turn, 1)))
    assert await asyncio.to_thread(upgrade_database, url) == NEWEST
    assert len(await store.read(AllBlocks(turn_id=turn.id))) == 2
    await other.close()


async def test_stores_that_open_a_new_database_at_once_upgrade_it_once(postgres: PostgresServer):
    url = postgres.database()
    stores = [SqlStore(url) for _ in range(3)]
    await asyncio.gather(*(store.open() for store in stores))
    turn = await running_turn(stores[0])
    for store in stores:
        assert (await store.read(GetTurn(owner=None, turn_id=turn.id))).id == turn.id
        await store.close()


def end_connections(url: str, *kinds: str) -> int:
    """End all other connections to the database. Return their number."""
    with psycopg.connect(url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    return len(ended)


async def test_a_connection_that_ended_is_made_again(store: SqlStore, url: str):
    chat = await stored_chat(store)
    assert (await store.read(GetChat(owner=OWNER, chat_id=chat.id))) == chat
    assert await asyncio.to_thread(end_connections, url) >= 2
    assert (await store.read(GetChat(owner=OWNER, chat_id=chat.id))) == chat
    assert await stored_chat(store)


@pytest.mark.requirement("Q3")
async def test_heartbeats_do_not_wait_for_other_writes(store: SqlStore, url: str):
    """A write of a turn waits for a lock. Heartbeats, and the reads that fence a node, are answered."""
    turn = await running_turn(store)
    async with await psycopg.AsyncConnection.connect(url) as outsider:
        await outsider.execute("SELECT 1 FROM turnstream_turns WHERE id = %s FOR UPDATE", (turn.id,))
        writing = asyncio.create_task(store.write(save(turn, 0)))
        await waits_for_a_lock(url)
        node = new_id()
        async with asyncio.timeout(DEADLINE):
            times = [await store.write(Heartbeat(id=node, address="here", lease=1)) for _ in range(3)]
            await store.write(BeginDrain(node=node))
            assert await store.write(ReadOwnTurns(node=node)) == {}
        assert not writing.done()
        await outsider.rollback()
    await writing
    assert times == sorted(times)
    (seen,) = await store.read(ListNodes())
    assert (seen.record.id, seen.record.state) == (node, "draining")


def untimed_chat(owner: str) -> ChatRecord:
    """Return a chat whose times are set when it is stored."""
    return msgspec.structs.replace(make_chat(owner), created_at=SET_BY_STORE, updated_at=SET_BY_STORE)


class HeldChat(CreateChat, frozen=True, kw_only=True):
    """Stores a chat, and commits it once it is let go. The time of the chat is taken before that."""

    stored: threading.Event
    let_go: threading.Event

    def apply(self, connection: Connection) -> ChatRecord:
        chat = super().apply(connection)
        self.stored.set()
        assert self.let_go.wait(DEADLINE)
        return chat


@pytest.fixture
async def other(url: str) -> AsyncIterator[SqlStore]:
    """The store of another node."""
    other = SqlStore(url)
    await other.open()
    yield other
    await other.close()


@pytest.mark.requirement("N8")
@pytest.mark.parametrize("others", [0, 200], ids=["of-one-owner", "of-many-owners"])
async def test_changes_of_an_owner_on_two_nodes_are_committed_in_the_order_of_their_times(
    store: SqlStore, other: SqlStore, url: str, others: int
):
    """A watcher that has read the later change asks only for changes after it."""
    first = HeldChat(chat=untimed_chat(OWNER), stored=threading.Event(), let_go=threading.Event())
    writing = asyncio.create_task(store.write(first))
    assert await asyncio.to_thread(first.stored.wait, DEADLINE)
    owners = (OWNER, *(f"owner {number}" for number in range(others)))
    async with held(other):  # one group of each writer has the chats
        later = await queue(other, [CreateChat(chat=untimed_chat(owner)) for owner in owners])
    await waits_for_a_lock(url)
    assert not later[0].done(), "its time would be later, and its commit earlier"
    first.let_go.set()
    assert (await writing).updated_at < (await later[0]).updated_at
    await asyncio.gather(*later)


@pytest.mark.requirement("N8", "Q7")
async def test_a_node_that_sleeps_in_a_change_holds_up_no_other_node(store: SqlStore, other: SqlStore):
    first = HeldChat(chat=untimed_chat(OWNER), stored=threading.Event(), let_go=threading.Event())
    writing = asyncio.create_task(store.write(first))
    assert await asyncio.to_thread(first.stored.wait, DEADLINE)
    later = await other.write(CreateChat(chat=untimed_chat(OWNER)))
    first.let_go.set()
    assert (await writing).updated_at > later.updated_at, "the change was made again"


class Incomplete(Operation[None], frozen=True, kw_only=True):
    """Inserts a row that PostgreSQL refuses, and would quote."""

    def apply(self, connection: Connection) -> None:
        driver_of(connection).insert(connection, secrets, [("what-the-user-wrote", None)])


async def test_an_error_of_the_driver_quotes_no_row(store: SqlStore):
    with pytest.raises(StoreError, match="not-null") as refused:
        await store.write(Incomplete())
    assert "what-the-user-wrote" not in f"{refused.value} {refused.value.__cause__}"


async def test_a_server_that_is_not_there_is_named(tmp_path: Any):
    with pytest.raises(StoreError, match=r"cannot be reached .*: start PostgreSQL there"):
        await SqlStore(f"postgresql://postgres@/turns?host={tmp_path}").open()


@pytest.mark.parametrize(
    ("changed", "into", "remedy"),
    [
        ("/test", "/nowhere", "createdb"),
        ("postgres@", "somebody@", "createuser"),
        ("?", "?no-such-parameter=1&", "parameters of the URL"),
    ],
)
async def test_a_connection_that_fails_is_refused_with_its_remedy(
    url: str, changed: str, into: str, remedy: str
):
    assert changed in url
    with pytest.raises(StoreError, match=rf"cannot be reached .*: .*{remedy}"):
        await SqlStore(url.replace(changed, into, 1)).open()


async def test_a_user_without_rights_is_refused_with_the_remedy(postgres: PostgresServer):
    url = postgres.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
        )
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(StoreError, match=r"permission denied .*: make its user the owner of the database"):
        await SqlStore(url.replace("postgres@", "reader@", 1)).open()


def test_without_the_driver_the_url_is_refused_with_the_remedy():
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from turnstream.store.urls import database_of\n"
        "from turnstream.errors import ConfigurationError\n"
        "try: database_of('postgresql://localhost/turns')\n"
        "except ConfigurationError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert "pip install 'turnstream[postgresql]'" in done.stdout, done.stderr


class Sleeping(Query[int], frozen=True, kw_only=True):
    """Reads for a minute, unless it is interrupted."""

    begun: threading.Event

    def fetch(self, connection: Connection) -> int:
        self.begun.set()
        return connection.execute(text("SELECT 1 FROM pg_sleep(60)")).scalar_one()


async def test_a_server_that_hangs_does_not_hold_up_the_end(
    store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(readers, "_CLOSE_SECONDS", 0.5)
    query = Sleeping(begun=threading.Event())
    reading = asyncio.create_task(store.read(query))
    assert await asyncio.to_thread(query.begun.wait, DEADLINE)
    with psycopg.connect(url, autocommit=True) as connection:
        pids = [
            pid
            for (pid,) in connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep%' "
                "AND pid <> pg_backend_pid()"
            )
        ]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.wait_for(store.close(), DEADLINE)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
