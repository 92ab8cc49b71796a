"""A crowd on one turn, over real sockets and from another process. All watchers get the same events, also
beside stalled watchers."""

from __future__ import annotations

import asyncio
import logging
import random
import statistics
from collections.abc import Callable

import pytest

from tests.e2e.crowd import SECONDS, Member, all_ended, stalled_watchers
from tests.e2e.processes import ServerPlan, ServerProcess
from tests.server.live import Client
from turnstream.config import EngineSettings
from turnstream.core.blocks import Block

logger = logging.getLogger(__name__)

CROWD = 500
STALLED = 50
DELTAS = 20
HEAD = 100_000
"""Characters of the first event: more than the sockets hold for a watcher that does not read."""
NOISE = 0.025
"""Seconds by which the p99 of two equal passes may differ on a machine with other work."""
MEMORY_BOUND = 64 * 1024 * 1024
"""Bytes by which the server may grow for 500 watchers and 50 stalled watchers of a turn with 100 KB of text.
"""


async def paced(port: int, **query: float) -> str:
    """Start a turn whose deltas contain the time of their creation. Return its id."""
    root = Client(port, {"X-User": "alice"}, "")
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return (await root.call("POST", f"/paced?{asked}")).json["id"]


async def go(port: int, turn_id: str) -> None:
    await Client(port, {"X-User": "alice"}, "").call("POST", f"/go?turn_id={turn_id}")


async def inspect(port: int) -> dict[str, int]:
    return (await Client(port, {"X-User": "alice"}, "").call("GET", "/inspection")).json


async def stored_blocks(port: int, turn_id: str) -> list[Block]:
    rows = await Client(port, {"X-User": "alice"}).stored(turn_id)
    return [Block(**row) for row in rows]


@pytest.mark.requirement("C1", "C2", "C3", "D7")
async def test_five_hundred_watchers_come_drop_and_resume_at_random_moments(server: ServerProcess) -> None:
    port = server.port
    turn_id = await paced(port, events=150, pace=0.02, head=1000)
    await go(port, turn_id)
    draw = random.Random(3)
    members = [Member(port, turn_id) for _ in range(CROWD)]

    async def come_and_go(member: Member, *, drops: int) -> None:
        """Join at random times within the turn, which lasts three seconds, and drop several times."""
        await asyncio.sleep(draw.uniform(0.0, 2.4))
        await member.connect()
        for _ in range(drops):
            await asyncio.sleep(draw.uniform(0.05, 0.5))
            member.leave()
            if member.fold.ending is not None:
                return
            await member.connect()

    drops = [draw.randint(1, 2) if place % 3 == 0 else 0 for place in range(CROWD)]
    await asyncio.gather(
        *(come_and_go(member, drops=count) for member, count in zip(members, drops, strict=True))
    )
    await all_ended([member for member in members if member.fold.ending is None])
    stored = await stored_blocks(port, turn_id)
    for member in members:
        assert member.blocks == stored
        assert member.terminal_events() == ["turn_complete"]
    resumed = sum(len(member.connections) > 1 for member in members)
    live = sum("block_delta" in member.names for member in members)
    assert resumed > 0.25 * CROWD
    assert live > 0.5 * CROWD


class Pass:
    """One turn, watched by the crowd, with the delays of its deltas."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.delays: list[float] = []
        self.stalled = 0

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.delays, n=100)[98]

    async def run(self, stalled: int) -> None:
        turn_id = await paced(self.port, events=DELTAS, pace=0.05, head=HEAD)
        async with stalled_watchers(self.port, turn_id, stalled):
            members = [Member(self.port, turn_id) for _ in range(CROWD)]
            for member in members:
                await member.connect()
            async with asyncio.timeout(SECONDS):
                for member in members:
                    await member.connections[0].received(HEAD)
            self.stalled = (await inspect(self.port))["stalled"]
            await go(self.port, turn_id)
            await all_ended(members)
        stored = await stored_blocks(self.port, turn_id)
        for member in members:
            assert member.blocks == stored
            assert member.terminal_events() == ["turn_complete"]
            self.delays += member.connections[0].delays()
        assert len(self.delays) > 0.9 * CROWD * DELTAS


@pytest.mark.requirement("C4", "O1")
async def test_stalled_watchers_delay_nobody_and_cost_little(
    tmp_path_factory: pytest.TempPathFactory, record_property: Callable[[str, object], None]
) -> None:
    plan = ServerPlan(tmp_path_factory.mktemp("stalled") / "turns.sqlite", EngineSettings(heartbeat=15))
    p99: dict[int, list[float]] = {0: [], STALLED: []}
    with ServerProcess(plan) as server:
        warm_up = Pass(server.port)
        await warm_up.run(0)
        before = (await inspect(server.port))["resident"]
        for _ in range(3):
            for stalled, values in p99.items():
                measured = Pass(server.port)
                await measured.run(stalled)
                values.append(measured.p99)
                assert measured.stalled >= stalled * 0.9
        grown = (await inspect(server.port))["resident"] - before
    median = {stalled: statistics.median(values) * 1000 for stalled, values in p99.items()}
    told = f"p99 {median[0]:.1f} ms, beside {STALLED} stalled {median[STALLED]:.1f} ms (medians of 3 passes)"
    record_property("delivery", told)
    record_property("grown", f"{grown / 1024:.0f} KiB")
    logger.info("%s; grown by %d KiB; passes: %s", told, grown // 1024, p99)
    best, best_beside = min(p99[0]), min(p99[STALLED])  # what the machine's other work disturbed least
    assert best_beside < 1.1 * best or best_beside - best < NOISE, (told, p99)
    assert grown < MEMORY_BOUND


@pytest.mark.requirement("C4")
async def test_a_stalled_watcher_is_cut_and_can_come_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = EngineSettings(heartbeat=0.5, stall_timeout=0.5)
    plan = ServerPlan(tmp_path_factory.mktemp("cut") / "turns.sqlite", settings)
    with ServerProcess(plan) as server:
        turn_id = await paced(server.port, events=40, pace=0.05, head=5_000_000)
        await go(server.port, turn_id)
        async with stalled_watchers(server.port, turn_id, 5) as sockets:
            member = Member(server.port, turn_id)
            await member.connect()
            await all_ended([member])
            assert (await inspect(server.port))["streams"] == 0
            loop = asyncio.get_running_loop()
            received = b""
            async with asyncio.timeout(10):
                try:
                    while data := await loop.sock_recv(sockets[0], 65536):
                        received += data
                except ConnectionResetError:
                    pass
        assert 0 < len(received) < 5_000_000
        assert b"turn_complete" not in received
        assert member.blocks == await stored_blocks(server.port, turn_id)
        assert "dropping a watcher" in server.log()
