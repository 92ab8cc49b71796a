"""The main job over real sockets: a turn of a few hundred events, cut anywhere and resumed, gives the stored blocks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from tests.e2e.processes import ServerPlan, ServerProcess
from tests.server.live import Client, Watcher
from turnstream.config import EngineSettings

UNUSUAL = "sim/thinking"
"""Thinks and speaks in pieces of three characters: emoji, combining marks, CRLF cut in two, U+2028, U+0085."""

pytestmark = pytest.mark.requirement("C1", "C2", "C3", "B4")


async def check(client: Client, watchers: Sequence[Watcher]) -> None:
    """All of them have exactly what is stored, and one end."""
    stored = await client.stored(watchers[0].turn_id)
    assert [block["block_type"] for block in stored] == ["thinking", "text"]
    text = "".join(block["text_content"] for block in stored)
    assert all(mark in text for mark in ("👩‍👩‍👧‍👦", "\r\n", "\u2028", "\u0085"))
    for watcher in watchers:
        assert watcher.blocks == stored
        assert watcher.terminal_events() == ["turn_complete"]


async def test_cut_at_every_event_boundary(server: ServerProcess) -> None:
    """As many watchers as there are events: each is cut behind another one, live, and resumes live."""
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{UNUSUAL}:pace=0.006,first=1")
    watchers = [Watcher(client, turn_id) for _ in range(240)]

    async def cut_behind(watcher: Watcher, count: int) -> str:
        await watcher.watch(events=count)
        cut = watcher.ids[-1]
        while not watcher.ended:
            await watcher.watch(query=count % 2 == 0)
        return cut

    cuts = await asyncio.gather(*(cut_behind(watcher, place + 1) for place, watcher in enumerate(watchers)))
    await check(client, watchers)
    last = int(watchers[0].ids[-1].partition("-")[2])
    assert 150 < last < len(watchers)
    assert len({*cuts}) > 0.9 * last, f"of {last} events only {len({*cuts})} were the last before a cut"


async def test_cut_at_random_bytes_again_and_again(server: ServerProcess) -> None:
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{UNUSUAL}:pace=0.003,first=0.2")
    watchers = [Watcher(client, turn_id) for _ in range(100)]

    async def cut_often(watcher: Watcher, draw: random.Random) -> None:
        while not watcher.ended and watcher.connections < 12:
            await watcher.watch(limit=draw.randint(1, 4000), query=draw.random() < 0.5)
        while not watcher.ended:
            await watcher.watch()

    await asyncio.gather(*(cut_often(watcher, random.Random(seed)) for seed, watcher in enumerate(watchers)))
    await check(client, watchers)
    assert sum(watcher.connections for watcher in watchers) > 300


@pytest.mark.requirement("A6")
async def test_cut_inside_catch_up_frames(server: ServerProcess) -> None:
    """Of an ended turn there are four frames to be cut: at their boundaries, beside them, and anywhere inside."""
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{UNUSUAL}:pace=0")
    await Watcher(client, turn_id).watch_to_the_end()
    body = (await client.call("GET", f"/turns/{turn_id}/stream")).body
    ends = [place + 2 for place in range(len(body)) if body.startswith(b"\n\n", place)]
    assert len(ends) == 4
    offsets = {*range(1, len(body), 41), *(end + beside for end in ends for beside in (-2, -1, 0, 1))}

    async def cut_at(offset: int) -> Watcher:
        watcher = Watcher(client, turn_id)
        await watcher.watch(limit=offset)
        while not watcher.ended:
            await watcher.watch()
        return watcher

    watchers = await asyncio.gather(*(cut_at(offset) for offset in sorted(offsets) if offset < len(body)))
    await check(client, watchers)


@pytest.mark.requirement("C4", "D5")
async def test_cut_off_a_small_ring_and_resumed_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With a ring of a few events most cursors are served from the store; then, by another process."""
    folder = tmp_path_factory.mktemp("restarted")
    plan = ServerPlan(folder / "turns.sqlite", EngineSettings(ring_bytes=4096, heartbeat=0.2))
    with ServerProcess(plan) as first:
        client = Client(first.port)
        turn_id = await client.start("hi", model=f"{UNUSUAL}:pace=0.002,first=0.1")
        watchers = [Watcher(client, turn_id) for _ in range(60)]

        async def cut_often(watcher: Watcher, draw: random.Random) -> None:
            for _ in range(4):
                if not watcher.ended:
                    await watcher.watch(limit=draw.randint(1, 9000))

        await asyncio.gather(*(cut_often(w, random.Random(seed)) for seed, w in enumerate(watchers)))
        for watcher in watchers[::2]:
            while not watcher.ended:
                await watcher.watch()
        await check(client, watchers[::2])
        await Watcher(client, turn_id).watch_to_the_end()
    with ServerProcess(plan) as second:
        client = Client(second.port)
        for watcher in watchers:
            watcher.client = client
            while not watcher.ended:
                await watcher.watch()
        await check(client, watchers)


@pytest.mark.requirement("D5")
async def test_a_watcher_of_a_turn_that_a_stop_ended_resumes_at_the_next_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    plan = ServerPlan(tmp_path_factory.mktemp("ended") / "turns.sqlite")
    with ServerProcess(plan) as first:
        client = Client(first.port)
        turn_id = await client.start("hi", model="sim/story:events=5000,pace=0.01")
        watcher = Watcher(client, turn_id)
        await watcher.watch(events=8)
    with ServerProcess(plan) as second:
        watcher.client = Client(second.port)
        await watcher.watch()
        assert watcher.fold.ending is not None
        assert watcher.fold.ending.data["code"] == "server_shutdown"
        assert watcher.blocks == await watcher.client.stored(turn_id)
        assert watcher.blocks[0]["partial"]


@pytest.mark.requirement("D2")
async def test_generation_goes_on_when_every_watcher_has_left(server: ServerProcess) -> None:
    client = Client(server.port)
    turn_id = await client.start("hi", model="sim/story:events=60,pace=0.01")
    watcher = Watcher(client, turn_id)
    await watcher.watch(events=5)
    await watcher.watch_to_the_end()
    assert watcher.terminal_events() == ["turn_complete"]
    assert watcher.blocks == await client.stored(turn_id)
