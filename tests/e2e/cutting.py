"""Watchers that are cut at any place and resume. The checks are the same for every kind of turn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.e2e.processes import ServerPlan, ServerProcess
from tests.server.live import Client, Watcher
from turnstream.config import EngineSettings

Check = Callable[[Client, Sequence[Watcher]], Awaitable[None]]


async def cut_at_every_boundary(
    client: Client, turn_id: str, count: int
) -> tuple[list[Watcher], set[tuple[str, str]]]:
    """Run `count` watchers, more than there are events. Each is cut after another event, and resumes live.

    Returns the watchers, and the ids and names of the last events before the cuts.
    """
    watchers = [Watcher(client, turn_id) for _ in range(count)]

    async def cut_behind(watcher: Watcher, events: int) -> tuple[str, str]:
        await watcher.watch(events=events)
        cut = watcher.ids[-1], watcher.names[-1]
        while not watcher.ended:
            await watcher.watch(query=events % 2 == 0)
        return cut

    cuts = {*await asyncio.gather(*(cut_behind(w, place + 1) for place, w in enumerate(watchers)))}
    last = int(watchers[0].ids[-1].partition("-")[2])
    assert 150 < last < count
    assert len(cuts) > 0.9 * last, f"of {last} events only {len(cuts)} were the last before a cut"
    return watchers, cuts


async def cut_at_random_bytes(client: Client, turn_id: str, *, connections: int) -> list[Watcher]:
    """Run a hundred watchers. Each is cut until it has made `connections` connections."""
    watchers = [Watcher(client, turn_id) for _ in range(100)]

    async def cut_often(watcher: Watcher, draw: random.Random) -> None:
        while not watcher.ended and watcher.connections < connections:
            await watcher.watch(limit=draw.randint(1, 4000), query=draw.random() < 0.5)
        while not watcher.ended:
            await watcher.watch()

    await asyncio.gather(*(cut_often(watcher, random.Random(seed)) for seed, watcher in enumerate(watchers)))
    assert sum(watcher.connections for watcher in watchers) > 300
    return watchers


async def cut_in_catch_up(client: Client, turn_id: str, *, frames: int) -> list[Watcher]:
    """Cut the stream of an ended turn at the boundaries of its `frames`, beside them, and inside them."""
    await Watcher(client, turn_id).watch_to_the_end()
    body = (await client.call("GET", f"/turns/{turn_id}/stream")).body
    ends = [place + 2 for place in range(len(body)) if body.startswith(b"\n\n", place)]
    assert len(ends) == frames
    offsets = {*range(1, len(body), 41), *(end + beside for end in ends for beside in (-2, -1, 0, 1))}

    async def cut_at(offset: int) -> Watcher:
        watcher = Watcher(client, turn_id)
        await watcher.watch(limit=offset)
        while not watcher.ended:
            await watcher.watch()
        return watcher

    return await asyncio.gather(*(cut_at(offset) for offset in sorted(offsets) if offset < len(body)))


async def cut_off_a_small_ring(folder: Path, model: str, check: Check, *, cuts: int) -> list[Watcher]:
    """Resume with a ring of a few events, so that most cursors are served from the store; then from another
    process.

    Each watcher is cut several times. Half of the watchers wait for the second process.
    """
    plan = ServerPlan(folder / "turns.sqlite", EngineSettings(ring_bytes=4096, heartbeat=0.2))
    with ServerProcess(plan) as first:
        client = Client(first.port)
        turn_id = await client.start("hi", model=model)
        watchers = [Watcher(client, turn_id) for _ in range(60)]

        async def cut_often(watcher: Watcher, draw: random.Random) -> None:
            for _ in range(cuts):
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
    return watchers
