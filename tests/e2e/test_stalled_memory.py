"""Watchers whose sockets take nothing. Each holds little memory, for a turn of any size, and the other
watchers get the whole turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.crowd import Member, all_ended, stalled_watchers
from tests.e2e.processes import ServerPlan, ServerProcess
from tests.server.live import Client
from turnstream.config import EngineSettings
from turnstream.core.blocks import Block

STALLED = 60
PER_WATCHER = 192 * 1024
"""Bytes for each watcher: 64 KiB on the way, the piece that waits, and the connection."""
FIXED = 150 * 1024 * 1024
"""Cost of one large turn, for any number of watchers: its text, the writing of its rows, and cached
pieces."""


async def call(port: int, method: str, path: str) -> Any:
    return (await Client(port, {"X-User": "alice"}, "").call(method, path)).json


async def stored_blocks(port: int, turn_id: str) -> list[Block]:
    return [Block(**row) for row in await Client(port, {"X-User": "alice"}).stored(turn_id)]


async def grown_by(port: int, turn_id: str, count: int) -> int:
    """Return the bytes by which the server has grown once `count` watchers have stalled."""
    before = (await call(port, "GET", "/inspection"))["resident"]
    async with asyncio.timeout(60), stalled_watchers(port, turn_id, count):
        while (now := await call(port, "GET", "/inspection"))["stalled"] < 0.95 * count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the other process has nothing to wait on
        for _ in range(3):  # those that came last may not have all that they may have
            await asyncio.sleep(0.1)
            now = await call(port, "GET", "/inspection")
        return now["resident"] - before


CASES = [
    pytest.param("text", 1_300_000, 16, id="closed blocks of 1.3 MB each"),
    pytest.param("text", 20_000_000, 2, id="a closed block of 20 MB, and an open one"),
    pytest.param("text", 8_000_000, 1, id="one delta of 8 MB"),
    pytest.param("tool_use", 3_000_000, 3, id="arguments of 3 MB"),
    pytest.param("signature", 4_000_000, 3, id="signatures of 4 MB"),
    pytest.param("citations", 2_000_000, 3, id="citations of 2 MB"),
    pytest.param("image", 5_000_000, 3, id="images of 5 MB, which watchers share"),
]


@pytest.mark.fault(8)
@pytest.mark.requirement("C4", "O2")
@pytest.mark.parametrize(("kind", "size", "count"), CASES)
async def test_a_stalled_watcher_holds_no_more_than_its_bound(
    tmp_path_factory: pytest.TempPathFactory, kind: str, size: int, count: int
) -> None:
    settings = EngineSettings(heartbeat=15, stall_timeout=120)
    plan = ServerPlan(tmp_path_factory.mktemp("stalled") / "turns.sqlite", settings)
    with ServerProcess(plan) as server:
        port = server.port
        turn_id = (await call(port, "POST", f"/large?kind={kind}&size={size}&count={count}"))["id"]
        live = Member(port, turn_id)
        await live.connect()
        await grown_by(port, turn_id, 3)  # what the turn itself costs is there now
        while_open = await grown_by(port, turn_id, STALLED)
        await call(port, "POST", f"/go?turn_id={turn_id}")
        await all_ended([live])
        when_closed = await grown_by(port, turn_id, STALLED)
        late = Member(port, turn_id)
        await late.connect()
        await all_ended([late])
        stored = await stored_blocks(port, turn_id)
        assert len(stored) == count
        assert live.blocks == late.blocks == stored
        assert while_open < FIXED + STALLED * PER_WATCHER
        assert when_closed < FIXED + STALLED * PER_WATCHER
