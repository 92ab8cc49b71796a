from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.faults.processes import RunningProcess, simulator
from tests.postgresql import PostgresServer, postgres, postgres_template  # noqa: F401 - fixtures


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The clients' HTTP session. It keeps no connection, since the servers are short-lived."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session
    await asyncio.sleep(0)  # the transports' own callbacks


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[RunningProcess]:
    """The simulated provider in a process of its own."""
    async with simulator(tmp_path / "provider.log") as process:
        yield process
