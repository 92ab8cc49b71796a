"""Hundreds of turns at once, their watchers coming and going: afterwards nothing of them is left (C1, C4,
D5, O2)."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.processes import server
from tests.faults.server_process import ServerPlan
from tests.faults.watching import Api, Watcher, stored_blocks
from turnstream.config import EngineSettings

logger = logging.getLogger(__name__)

TURNS = 200
MODEL = "sim/story:events=120,pace=0.01"
THREADS = 4 + min(32, (os.cpu_count() or 1) + 4)
"""Four that read the database, and those of the event loop's own pool, for large requests."""
GROWTH = 8 * 1024 * 1024
"""Bytes of resident memory by which a later wave may leave the process larger than the one before."""
SIZE = 48 * 1024 * 1024
"""Bytes that all waves together may leave behind: allocators keep pages, and caches fill."""


async def come_and_go(api: Api, turn_id: str, draw: random.Random) -> Watcher:
    """Watch a turn to its end over several connections, each dropped after some frames."""
    watcher = Watcher(turn_id)
    while not watcher.ended:
        leave_at = len(watcher.frames) + draw.randint(5, 60)
        await watcher.watch(api, until=lambda _, leave_at=leave_at: len(watcher.frames) >= leave_at)
    return watcher


async def wave(api: Api, draw: random.Random) -> None:
    async def one_turn() -> None:
        turn_id = await api.start(await api.create_chat(), "hello", MODEL)
        first, second = await asyncio.gather(*(come_and_go(api, turn_id, draw) for _ in range(2)))
        stored = stored_blocks(await api.turn(turn_id))
        assert first.fold.blocks == second.fold.blocks == stored
        assert first.terminal_events() == second.terminal_events() == ["turn_complete"]

    async with asyncio.TaskGroup() as group:
        for _ in range(TURNS):
            group.create_task(one_turn())


async def quiet(api: Api) -> dict[str, Any]:
    status, inspection = await api.call("GET", "/inspection?quiet=true")
    assert status == 200
    return inspection


@pytest.mark.requirement("C1", "C4", "D2", "D5", "O2")
async def test_nothing_is_left_of_many_turns(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    plan = ServerPlan(
        tmp_path / "chats.sqlite",
        tmp_path / "log",
        engine=EngineSettings(retention=0.5),
        log_level="warning",
    )
    draw = random.Random(5)
    async with server(plan) as process:
        api = Api(process.url, session)
        turn_id = await api.start(await api.create_chat(), "hello", "sim/echo:pace=0")
        await api.watched(turn_id)
        before = await quiet(api)
        sizes = [before["resident"]]
        for _ in range(3):
            await wave(api, draw)
            after = await quiet(api)
            assert (after["active"], after["ended"], after["streams"]) == (0, 0, 0)
            assert after["tasks"] == before["tasks"]
            assert after["threads"] <= before["threads"] + THREADS, "threads start when they are needed"
            assert after["descriptors"] <= before["descriptors"] + 12, "each reader has its connection"
            sizes.append(after["resident"])
        megabytes = [round(size / 2**20, 1) for size in sizes]
        assert sizes[-1] - sizes[-2] < GROWTH, megabytes
        assert sizes[-1] - sizes[0] < SIZE, megabytes
        logger.info("resident memory in MB, before and after each wave: %s", megabytes)
