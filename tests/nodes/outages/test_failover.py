"""A PostgreSQL that fails over to its standby in the middle of a turn."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.nodes.messages import frontend_messages
from tests.nodes.outages.test_outage import blocks_of, opened, soon
from tests.nodes.proxy import TcpProxy
from tests.postgresql import PostgresServer, postgres_server, programs
from tests.store.samples import finish, running_turn, save
from turnstream.store.migrations import upgrade_database

BEFORE, AFTER = 20, 5
"""Blocks that are written before and after the failover."""


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """Yield a standby, which has all that the primary acknowledges to have committed."""
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    standby = PostgresServer(folder, primary.bin_folder)
    try:
        standby.copy_of(primary)
        standby.start()
        try:
            with psycopg.connect(primary.address("postgres"), autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
                while not connection.execute(
                    "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
                ).fetchone():
                    pass
            yield standby
        finally:
            standby.stop("immediate")
    finally:
        shutil.rmtree(folder)


@pytest.mark.requirement("Q7")
async def test_a_failover_to_the_standby_loses_no_acknowledged_write() -> None:
    with (
        postgres_server(programs()[0]) as primary,
        standby_of(primary) as standby,
        TcpProxy(primary.socket, frontend_messages) as proxy,
    ):
        url = primary.database()
        await asyncio.to_thread(upgrade_database, url)
        async with opened(primary.address_at(url, proxy.port), write_timeout=1.0) as store:
            turn = await running_turn(store)
            halfway = asyncio.Event()

            async def write_blocks() -> None:
                for sequence in range(BEFORE + AFTER):
                    await soon(store.write(save(turn, sequence)))
                    if sequence == BEFORE - 1:
                        halfway.set()

            writing = asyncio.create_task(write_blocks())
            await soon(halfway.wait())
            await asyncio.to_thread(primary.stop, "immediate")
            try:
                await asyncio.to_thread(standby.promote)
                proxy.server = standby.socket
                await soon(writing)
                await soon(store.write(finish(turn)))
                assert await blocks_of(store, turn) == list(range(BEFORE + AFTER))
            finally:
                await asyncio.to_thread(primary.start)
