"""The main job over real sockets: a turn of a few hundred events, cut anywhere and resumed, gives the stored blocks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from tests.e2e import turns
from tests.e2e.raw_http import RawStream
from tests.e2e.serving import ServerPlan, ServerProcess
from tests.turnlog.watching import Client

from turnstream.config import EngineSettings

UNUSUAL = "sim/thinking"
"""Thinks and speaks in pieces of three characters: emoji, combining marks, CRLF cut in two, U+2028, U+0085."""

pytestmark = pytest.mark.requirement("C1", "C2", "C3", "B4")


async def check(port: int, turn_id: str, clients: Sequence[Client]) -> None:
    stored = await turns.stored_blocks(port, turn_id)
    assert [block.block_type for block in stored] == ["thinking", "text"]
    for client in clients:
        assert client.now.blocks == stored
        assert client.now.fold.ending is not None
        assert client.now.fold.ending.name == "turn_complete"


async def test_cut_at_every_event_boundary(server: ServerProcess) -> None:
    """As many watchers as there are events: each is cut behind another one, live, and resumes live."""
    port = server.port
    turn_id = await turns.start(port, f"{UNUSUAL}:pace=0.005,first=0.5")
    most = 260

    async def cut_behind(count: int) -> Client:
        client = await turns.watch(
            port, turn_id, until=lambda _: len(client_of[count].frames) >= count, client=client_of[count]
        )
        return await turns.watch(port, turn_id, client, by_query=count % 2 == 0)

    client_of = {count: Client() for count in range(1, most + 1)}
    clients = await asyncio.gather(*(cut_behind(count) for count in range(1, most + 1)))
    await check(port, turn_id, clients)
    uncut = await turns.watch(port, turn_id)
    last = int((uncut.cursor or "").partition("-")[2])
    assert 200 < last <= most
    cuts = {client.past[count].cursor for count, client in client_of.items() if count < len(client.past)}
    print(f"{last} events, cut behind {len(cuts)} different ids")
    assert len(cuts) > 0.8 * last


async def test_cut_at_random_bytes_again_and_again(server: ServerProcess) -> None:
    port = server.port
    turn_id = await turns.start(port, f"{UNUSUAL}:pace=0.003,first=0.2")
    draw = random.Random(11)

    async def cut_often(seed: int) -> Client:
        client, own = Client(), random.Random(seed)
        for connection in range(6):
            await turns.watch(
                port, turn_id, client, by_query=connection % 2 == 0, bytes_at_most=own.randint(1, 9000)
            )
        return await turns.watch(port, turn_id, client)

    clients = await asyncio.gather(*(cut_often(draw.randint(0, 1 << 30)) for _ in range(100)))
    await check(port, turn_id, clients)


@pytest.mark.requirement("A6")
async def test_cut_inside_catch_up_frames(server: ServerProcess) -> None:
    """A watcher of an ended turn gets four frames; it is cut at their boundaries, beside them, and anywhere inside."""
    port = server.port
    turn_id = await turns.start(port, f"{UNUSUAL}:pace=0")
    await turns.watch(port, turn_id)
    async with RawStream(port, f"/api/turns/{turn_id}/stream") as stream:
        body = await stream.read_all()
    frames = turns.pieces_by_frame(body)
    assert len(frames) == 4
    offsets = {offset for offset in range(1, len(body), 37)}
    end = 0
    for frame in frames:
        end += len(frame)
        offsets |= {end - 2, end - 1, end, end + 1}

    async def cut_at(offset: int) -> Client:
        client = await turns.watch(port, turn_id, bytes_at_most=offset)
        return await turns.watch(port, turn_id, client)

    clients = await asyncio.gather(*(cut_at(offset) for offset in sorted(offsets) if offset < len(body)))
    await check(port, turn_id, clients)


@pytest.mark.requirement("C4", "D5")
async def test_cut_off_a_small_ring_and_after_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With a ring of a few events most cursors are served from the store; then, from another process."""
    folder = tmp_path_factory.mktemp("restarted")
    plan = ServerPlan(folder / "turns.sqlite", EngineSettings(ring_bytes=4096, heartbeat=0.2))
    half = []
    with ServerProcess(plan) as first:
        turn_id = await turns.start(first.port, f"{UNUSUAL}:pace=0.002,first=0.1")

        async def cut_often(seed: int) -> Client:
            client, own = Client(), random.Random(seed)
            for _ in range(4):
                await turns.watch(first.port, turn_id, client, bytes_at_most=own.randint(1, 9000))
            if seed % 2:
                half.append(client)
                return await turns.watch(first.port, turn_id)
            return await turns.watch(first.port, turn_id, client)

        clients = await asyncio.gather(*(cut_often(seed) for seed in range(60)))
        await check(first.port, turn_id, clients)
    with ServerProcess(plan) as second:
        resumed = await asyncio.gather(*(turns.watch(second.port, turn_id, client) for client in half))
        await check(second.port, turn_id, resumed)


@pytest.mark.requirement("D2", "D5", "C3")
async def test_a_watcher_of_a_turn_that_a_restart_ended_is_told(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    plan = ServerPlan(tmp_path_factory.mktemp("ended") / "turns.sqlite")
    with ServerProcess(plan) as first:
        turn_id = await turns.start(first.port, "sim/story:events=5000,pace=0.01")
        client = await turns.watch(first.port, turn_id, until=lambda frame: frame.name == "block_delta")
    with ServerProcess(plan) as second:
        await turns.watch(second.port, turn_id, client)
        assert client.now.fold.ending is not None
        assert client.now.fold.ending.data["code"] == "server_shutdown"
        assert client.now.blocks == await turns.stored_blocks(second.port, turn_id)
        assert client.now.blocks[0].partial


@pytest.mark.requirement("D2")
async def test_generation_goes_on_when_every_watcher_has_left(server: ServerProcess) -> None:
    turn_id = await turns.start(server.port, "sim/story:events=60,pace=0.01")
    client = await turns.watch(server.port, turn_id, until=lambda frame: frame.name == "block_delta")
    await turns.watch(server.port, turn_id, client)
    assert client.now.fold.ending is not None
    assert client.now.fold.ending.name == "turn_complete"
    assert client.now.blocks == await turns.stored_blocks(server.port, turn_id)
