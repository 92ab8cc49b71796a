"""Many turns at once, each with its watcher, over real sockets; and turns of ten times the length."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from tests.e2e.crowd import SECONDS, Member, all_ended
from tests.e2e.processes import ServerPlan, ServerProcess
from tests.server.live import Client
from turnstream.config import EngineSettings
from turnstream.core.blocks import Block

logger = logging.getLogger(__name__)

STREAMS = 1_500
AT_ONCE = 50
"""Connections that a test opens together. The listening socket has a short queue."""
SHORT, LONG = 10, 100
"""Blocks of a turn."""
DELTAS = 100
"""Deltas of a block."""
TURNS = 50
NOISE = 48 * 1024
"""Bytes per turn that the allocator may keep: 6 to 27 KiB were seen.

The blocks of a long turn have 63 KB more text than those of a short one, and its deltas 1.3 MB of frames.
"""


def caller(port: int) -> Client:
    """Return a client of the tests' own routes."""
    return Client(port, {"X-User": "alice"}, "")


async def started(port: int, path: str, count: int) -> list[Member]:
    """Start turns by a route of the server. Return a connected watcher of each."""
    room = asyncio.Semaphore(AT_ONCE)

    async def start() -> Member:
        async with room:
            turn_id: str = (await caller(port).call("POST", path)).json["id"]
            member = Member(port, turn_id)
            await member.connect()
            return member

    return await asyncio.gather(*(start() for _ in range(count)))


async def release(port: int, members: list[Member]) -> None:
    """Give every turn its signal."""
    room = asyncio.Semaphore(AT_ONCE)

    async def go(member: Member) -> None:
        async with room:
            await caller(port).call("POST", f"/go?turn_id={member.turn_id}")

    await asyncio.gather(*map(go, members))


async def check_ends(port: int, members: list[Member]) -> None:
    """Check that each watcher has the stored blocks, and one complete end."""
    await all_ended(members)
    for member in members:
        rows = await Client(port, {"X-User": "alice"}).stored(member.turn_id)
        assert member.blocks == [Block(**row) for row in rows]
        assert member.terminal_events() == ["turn_complete"]


@pytest.mark.requirement("O2", "C1")
async def test_fifteen_hundred_turns_stream_at_once(
    tmp_path_factory: pytest.TempPathFactory, record_property: Callable[[str, object], None]
) -> None:
    plan = ServerPlan(tmp_path_factory.mktemp("many") / "turns.sqlite", EngineSettings(heartbeat=15))
    with ServerProcess(plan) as server:
        members = await started(server.port, "/paced?events=20&pace=0.25&head=300", STREAMS)
        inspection = (await caller(server.port).call("GET", "/inspection")).json
        assert (inspection["active"], inspection["streams"]) == (STREAMS, STREAMS)
        await release(server.port, members)
        await check_ends(server.port, members)
    delays = [delay for member in members for delay in member.connections[0].delays()]
    assert len(delays) == 20 * STREAMS
    record_property("delay", f"median {sorted(delays)[len(delays) // 2] * 1000:.1f} ms")


@pytest.mark.requirement("O2")
async def test_memory_of_a_turn_does_not_grow_with_its_blocks(
    tmp_path_factory: pytest.TempPathFactory, record_property: Callable[[str, object], None]
) -> None:
    settings = EngineSettings(heartbeat=15, ring_bytes=16 * 1024)
    members: list[Member] = []
    sizes: list[float] = []
    with ServerProcess(ServerPlan(tmp_path_factory.mktemp("length") / "turns.sqlite", settings)) as server:

        async def resident() -> int:
            return (await caller(server.port).call("GET", "/inspection")).json["resident"]

        for blocks in (SHORT, SHORT, LONG):  # the first turns fill what all turns share, such as caches
            before = await resident()
            some = await started(server.port, f"/blocks?count={blocks}&deltas={DELTAS}", TURNS)
            async with asyncio.timeout(SECONDS):
                for member in some:
                    await member.connections[0].shows(b"<end>")
            sizes.append((await resident() - before) / TURNS)
            members += some
        await release(server.port, members)
        await check_ends(server.port, members)
    short, long = sizes[1:]
    told = f"{short / 1024:.0f} KiB with {SHORT * DELTAS} deltas, {long / 1024:.0f} with {LONG * DELTAS}"
    record_property("memory per turn", told)
    logger.info("memory per turn: %s", told)
    assert long < short + NOISE, told
