"""A turn that runs on one node is watched and resumed through another node."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path

import aiohttp
import pytest

from tests.faults.watching import Api, Frame, Watcher, stored_blocks
from tests.nodes.cluster import Cluster

SECONDS = 60.0
STORY = "sim/story:events=200,pace=0.01"


@pytest.mark.requirement("Q2")
async def test_a_watcher_of_another_node_sees_the_turn_live_to_its_end(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), cluster.node() as one, cluster.node() as two:
        first, second = Api(one.url, session), Api(two.url, session)
        turn = await first.start(await first.create_chat(), "hello", STORY)
        here, there = Watcher(turn), Watcher(turn)
        await asyncio.gather(here.watch(first), there.watch(second))
        row = await second.turn(turn)
        for watcher in (here, there):
            assert watcher.fold.blocks == stored_blocks(row)
            assert watcher.terminal_events() == ["turn_complete"]
        assert len(there.frames) > 10, "it was shown live"
        assert here.frames[-1].id == there.frames[-1].id


@pytest.mark.requirement("C3", "Q2")
async def test_a_watcher_resumes_on_another_node_at_every_event_of_a_turn_with_tools(
    cluster: Cluster, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Each state of a watcher of the first node continues on the second one, most of them while the turn
    runs."""
    notes = tmp_path / "notes"
    notes.touch()
    async with (
        asyncio.timeout(SECONDS),
        cluster.node(tool_notes=notes) as one,
        cluster.node(tool_notes=notes) as two,
    ):
        first, second = Api(one.url, session), Api(two.url, session)
        turn = await first.start(await first.create_chat(), "hello", "sim/tools:pace=0.02")
        resumed: list[Watcher] = []
        begun_live = 0

        async with asyncio.TaskGroup() as tasks:

            def resume(_: Frame) -> bool:
                nonlocal begun_live
                begun_live += not here.ended
                resumed.append(copy.deepcopy(here))
                tasks.create_task(resumed[-1].watch(second))
                return False

            here = Watcher(turn)
            await here.watch(first, until=resume)
        expected = stored_blocks(await second.turn(turn))
        assert {block.block_type for block in expected} >= {"tool_use", "tool_result", "text"}
        assert here.fold.blocks == expected
        for watcher in resumed:
            assert watcher.fold.blocks == expected, watcher
            assert watcher.terminal_events() == ["turn_complete"]
            assert all(frame.id for frame in watcher.frames)
        assert begun_live > 20
        print(f"{len(resumed)} resumes, {begun_live} of them of the running turn")
