"""The main job over real sockets: a turn of a few hundred events, cut at any place and resumed, gives the
stored blocks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.e2e.cutting import (
    cut_at_every_boundary,
    cut_at_random_bytes,
    cut_in_catch_up,
    cut_off_a_small_ring,
)
from tests.e2e.processes import ServerPlan, ServerProcess
from tests.server.live import Client, Watcher

UNUSUAL = "sim/thinking"
"""A source of thinking and text in pieces of three characters: emoji, combining marks, a divided CRLF,
U+2028, U+0085."""

pytestmark = pytest.mark.requirement("C1", "C2", "C3", "B4")


async def check(client: Client, watchers: Sequence[Watcher]) -> None:
    """Check that every watcher has the stored blocks, and one end."""
    stored = await client.stored(watchers[0].turn_id)
    assert [block["block_type"] for block in stored] == ["thinking", "text"]
    text = "".join(block["text_content"] for block in stored)
    assert all(mark in text for mark in ("👩‍👩‍👧‍👦", "\r\n", "\u2028", "\u0085"))
    for watcher in watchers:
        assert watcher.blocks == stored
        assert watcher.terminal_events() == ["turn_complete"]


async def test_cut_at_every_event_boundary(server: ServerProcess) -> None:
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{UNUSUAL}:pace=0.006,first=1")
    watchers, _ = await cut_at_every_boundary(client, turn_id, 240)
    await check(client, watchers)


async def test_cut_at_random_bytes_again_and_again(server: ServerProcess) -> None:
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{UNUSUAL}:pace=0.003,first=0.2")
    await check(client, await cut_at_random_bytes(client, turn_id, connections=12))


@pytest.mark.requirement("A6")
async def test_cut_inside_catch_up_frames(server: ServerProcess) -> None:
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{UNUSUAL}:pace=0")
    await check(client, await cut_in_catch_up(client, turn_id, frames=4))


@pytest.mark.requirement("C4", "D5")
async def test_cut_off_a_small_ring_and_resumed_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("restarted")
    await cut_off_a_small_ring(folder, f"{UNUSUAL}:pace=0.002,first=0.1", check, cuts=4)


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
