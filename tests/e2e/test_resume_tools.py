"""The whole tool loop over real sockets. A turn thinks, calls two tools at once and answers with their
results. It is cut at any place and resumed, and every watcher ends with the stored blocks (C1 to C3, G1, G4).
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.e2e.cutting import (
    cut_at_every_boundary,
    cut_at_random_bytes,
    cut_in_catch_up,
    cut_off_a_small_ring,
)
from tests.e2e.processes import ServerProcess
from tests.e2e.tools import PLACE, STEPS, WEATHER
from tests.server.live import Client, Watcher

AGENT = "sim/agent"
"""A source of two rounds: thinking in pieces of three characters, a text and two calls; then, with the
results, thinking and a text."""
BLOCKS = ["thinking", "text", "tool_use", "tool_use", "tool_result", "tool_result", "thinking", "text"]

pytestmark = pytest.mark.requirement("C1", "C2", "C3", "G1", "G4")


async def check(client: Client, watchers: Sequence[Watcher]) -> None:
    """Check that every watcher has the stored blocks of the whole turn, and one end."""
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
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{AGENT}:pace=0.006,first=0.7")
    watchers, cuts = await cut_at_every_boundary(client, turn_id, 230)
    await check(client, watchers)
    names = [name for _, name in cuts]
    assert names.count("tool_progress") > STEPS
    assert {"step_start", "step_stop", "block_start", "block_delta", "block_stop", "usage"} < {*names}


async def test_cut_at_random_bytes_again_and_again(server: ServerProcess) -> None:
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{AGENT}:pace=0.003,first=0.2")
    watchers = await cut_at_random_bytes(client, turn_id, connections=14)
    await check(client, watchers)
    progress = [watcher.names.count("tool_progress") for watcher in watchers]
    assert max(progress) == 2 * STEPS, "it is shown live, and from the ring to who comes back in time"


@pytest.mark.requirement("A6")
async def test_cut_inside_catch_up_frames(server: ServerProcess) -> None:
    """An ended turn has one frame for each block, between its start and its end."""
    client = Client(server.port)
    turn_id = await client.start("hi", model=f"{AGENT}:pace=0")
    await check(client, await cut_in_catch_up(client, turn_id, frames=len(BLOCKS) + 2))


@pytest.mark.requirement("C4", "D5")
async def test_cut_off_a_small_ring_and_resumed_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The store serves the results of tools."""
    folder = tmp_path_factory.mktemp("restarted")
    watchers = await cut_off_a_small_ring(folder, f"{AGENT}:pace=0.003,first=0.1", check, cuts=5)
    assert any("block_catchup" in watcher.names for watcher in watchers[::2]), "nobody fell off the ring"
