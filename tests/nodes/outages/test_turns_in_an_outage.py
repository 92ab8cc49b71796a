"""Turns of a whole server while its PostgreSQL is away: none fails that need not, and `/readyz` says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.processes import server
from tests.faults.server_process import ServerPlan
from tests.faults.watching import Api, Watcher, shown_text, stored_blocks
from tests.nodes.proxy import TcpProxy
from tests.nodes.triggers import AtMessage
from tests.postgresql import PostgresServer

DEADLINE = 40.0
MODEL = "sim/tools:pace=0.002"
"""A turn of two steps, with several blocks."""


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session
    await asyncio.sleep(0)  # the transports' own callbacks


@asynccontextmanager
async def running(
    postgres: PostgresServer, template: str, proxy: TcpProxy, session: aiohttp.ClientSession, folder: Path
) -> AsyncIterator[Api]:
    url = postgres.address_at(postgres.database(template), proxy.port)
    async with server(ServerPlan(url, folder / "log")) as process:
        yield Api(process.url, session)


async def ready(api: Api) -> tuple[int, Any]:
    return await api.call("GET", "/readyz")


@pytest.mark.requirement("Q7", "D7")
@pytest.mark.parametrize("moment", ["before", "within", "after"])
async def test_turns_outlive_cuts_at_their_commits(
    postgres: PostgresServer,
    postgres_template: str,
    postgres_proxy: TcpProxy,
    session: aiohttp.ClientSession,
    tmp_path: Path,
    moment: Any,
):
    """Each of several commits of running turns is cut; each turn ends once, with what its watcher saw."""
    async with running(postgres, postgres_template, postgres_proxy, session, tmp_path) as api:
        chats = [await api.create_chat() for _ in range(3)]
        turn_ids = [await api.start(chat, "hello", MODEL) for chat in chats]
        watchers = [Watcher(turn_id) for turn_id in turn_ids]
        watching = [asyncio.create_task(watcher.watch(api)) for watcher in watchers]
        for _ in range(3):
            fault = postgres_proxy.arm(AtMessage(b"COMMIT", moment))
            await asyncio.to_thread(fault.wait)
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*watching)
        for watcher in watchers:
            assert watcher.terminal_events() == ["turn_complete"], watcher.frames[-1]
            stored = stored_blocks(await api.turn(watcher.turn_id))
            assert [shown_text(block) for block in watcher.fold.blocks] == [
                shown_text(block) for block in stored
            ]


@pytest.mark.requirement("Q7")
async def test_a_server_without_its_database_is_not_ready_and_its_turns_wait(
    postgres: PostgresServer,
    postgres_template: str,
    postgres_proxy: TcpProxy,
    session: aiohttp.ClientSession,
    tmp_path: Path,
):
    async with running(postgres, postgres_template, postgres_proxy, session, tmp_path) as api:
        assert (await ready(api))[0] == 200
        chat = await api.create_chat()
        watcher = Watcher(await api.start(chat, "hello", "sim/thinking:pace=0.002"))
        begun = asyncio.Event()

        def see(_: object) -> bool:
            begun.set()
            return False

        watching = asyncio.create_task(watcher.watch(api, until=see))
        async with asyncio.timeout(DEADLINE):
            await begun.wait()
            postgres_proxy.refuse()
            postgres_proxy.cut()
            status, body = await ready(api)
            assert (status, list(body["reasons"])) == (503, ["database"])
            done, _ = await asyncio.wait([watching], timeout=3.0)
            assert not done, "the turn waits for the database at the end of its block"
            postgres_proxy.accept()
            await watching
        assert watcher.terminal_events() == ["turn_complete"]
        async with asyncio.timeout(DEADLINE):
            while (await ready(api))[0] != 200:
                pass
