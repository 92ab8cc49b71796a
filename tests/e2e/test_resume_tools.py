"""The whole tool loop over real sockets: a turn that thinks, calls two tools at once and answers with their results is cut
anywhere and resumed, and every watcher ends with the stored blocks (C1 to C3, G1, G4)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from tests.e2e.processes import ServerPlan, ServerProcess
from tests.e2e.tools import PLACE, STEPS, WEATHER
from tests.server.live import Client, Watcher
from turnstream.config import EngineSettings

AGENT = "sim/agent"
"""Two rounds: thinking in pieces of three characters, a text, two calls; with their results, thinking and a text."""
BLOCKS = ["thinking", "text", "tool_use", "tool_use", "tool_result", "tool_result", "thinking", "text"]

pytestmark = pytest.mark.requirement("C1", "C2", "C3", "G1", "G4")


async def check(client: Client, watchers: Sequence[Watcher]) -> None:
    """All of them have exactly what is stored, which is the whole turn, and one end."""
    stored = await client.stored(watchers[0].turn_id)
    assert [block["block_type"] for block in stored] == BLOCKS
    calls = [block["content"] for block in stored[2:4]]
    assert [call["input"] for call in calls] == [{"window": "example 2"}, {"place": "example 3"}]
    said = [f"example 2: {WEATHER}", f"example 3: {PLACE}"]
    for call, result, content in zip(calls, stored[4:6], said, strict=True):
        assert result["content"] == {
            "tool_use_id": call["tool_use_id"],
            "tool_name": call["tool_name"],
            "content": content,
            "is_error": False,
        }
    assert stored[7]["text_content"] == "The tools say: " + "; ".join(said)
    assert stored[0]["text_content"] == stored[6]["text_content"]
    assert not any(block["partial"] for block in stored)
    for watcher in watchers:
        assert watcher.blocks == stored
        assert watcher.terminal_events() == ["turn_complete"]


async def test_cut_at_every_event_boundary(server: ServerProcess) -> None:
    """As many watchers as there are events: each is cut behind another one, live, and resumes live."""
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{AGENT}:pace=0.006,first=0.7")
    watchers = [Watcher(client, turn_id) for _ in range(230)]

    async def cut_behind(watcher: Watcher, count: int) -> tuple[str, str]:
        await watcher.watch(events=count)
        cut = watcher.ids[-1], watcher.names[-1]
        while not watcher.ended:
            await watcher.watch(query=count % 2 == 0)
        return cut

    cuts = await asyncio.gather(*(cut_behind(watcher, place + 1) for place, watcher in enumerate(watchers)))
    await check(client, watchers)
    last = int(watchers[0].ids[-1].partition("-")[2])
    assert 150 < last < len(watchers)
    assert len({*cuts}) > 0.9 * last, f"of {last} events only {len({*cuts})} were the last before a cut"
    names = [name for _, name in {*cuts}]
    assert names.count("tool_progress") > STEPS
    assert {"step_start", "step_stop", "block_start", "block_delta", "block_stop", "usage"} < {*names}


async def test_cut_at_random_bytes_again_and_again(server: ServerProcess) -> None:
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{AGENT}:pace=0.003,first=0.2")
    watchers = [Watcher(client, turn_id) for _ in range(100)]

    async def cut_often(watcher: Watcher, draw: random.Random) -> None:
        while not watcher.ended and watcher.connections < 14:
            await watcher.watch(limit=draw.randint(1, 4000), query=draw.random() < 0.5)
        while not watcher.ended:
            await watcher.watch()

    await asyncio.gather(*(cut_often(watcher, random.Random(seed)) for seed, watcher in enumerate(watchers)))
    await check(client, watchers)
    assert sum(watcher.connections for watcher in watchers) > 300
    progress = [watcher.names.count("tool_progress") for watcher in watchers]
    assert max(progress) == 2 * STEPS, "it is shown live, and from the ring to who comes back in time"


@pytest.mark.requirement("A6")
async def test_cut_inside_catch_up_frames(server: ServerProcess) -> None:
    """Of an ended turn each block is one frame, between the turn's start and its end."""
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{AGENT}:pace=0")
    await Watcher(client, turn_id).watch_to_the_end()
    body = (await client.call("GET", f"/turns/{turn_id}/stream")).body
    ends = [place + 2 for place in range(len(body)) if body.startswith(b"\n\n", place)]
    assert len(ends) == len(BLOCKS) + 2
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
    """With a ring of a few events most cursors are served from the store, results of tools among them; then, by
    another process."""
    folder = tmp_path_factory.mktemp("restarted")
    plan = ServerPlan(folder / "turns.sqlite", EngineSettings(ring_bytes=4096, heartbeat=0.2))
    with ServerProcess(plan) as first:
        client = Client(first.port)
        turn_id = await client.start("hi", model=f"{AGENT}:pace=0.003,first=0.1")
        watchers = [Watcher(client, turn_id) for _ in range(60)]

        async def cut_often(watcher: Watcher, draw: random.Random) -> None:
            for _ in range(5):
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
    assert any("block_catchup" in watcher.names for watcher in watchers[::2]), "nobody fell off the ring"
