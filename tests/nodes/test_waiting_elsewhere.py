"""A turn of one node waits for approvals, which another node answers. Both show it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.asking_server import AskingPlan, run_asking_server
from tests.faults.processes import RunningProcess
from tests.nodes.cluster import Cluster
from turnstream.client import AsyncClient
from turnstream.client.turns import AsyncTurn
from turnstream.core.native_fold import TERMINAL_NAMES
from turnstream.core.turn_events import ApprovalRequest

SECONDS = 60.0


async def wait_for_requests(turn: AsyncTurn) -> list[ApprovalRequest]:
    requests: list[ApprovalRequest] = []
    async for event in turn:
        if isinstance(event, ApprovalRequest):
            requests.append(event)
            if len(requests) == 2:
                break
    return requests


@pytest.mark.requirement("G7", "Q2")
async def test_a_turn_continues_where_its_last_approval_was_answered(
    cluster: Cluster, tmp_path: Path
) -> None:
    plan = AskingPlan(cluster.url, tmp_path / "notes")
    async with (
        asyncio.timeout(SECONDS),
        RunningProcess(run_asking_server, plan) as one,
        RunningProcess(run_asking_server, plan) as two,
        AsyncClient(one.url) as first,
        AsyncClient(two.url) as second,
    ):
        turn = await first.send("go", model="sim/tools:pace=0.01")
        elsewhere = second.watch(turn.turn_id)
        requests = await wait_for_requests(elsewhere)
        assert [request.approval_id for request in requests] == [
            request.approval_id for request in await wait_for_requests(turn)
        ]
        watching = [asyncio.create_task(each.wait()) for each in (turn, elsewhere)]
        await first.approve(turn.turn_id, requests[0].approval_id, True)
        await second.approve(turn.turn_id, requests[1].approval_id, False, "keep it")
        await asyncio.gather(*watching)
        ended = await second.read(turn.turn_id)
        blocks = [stored.block for stored in ended.blocks]
        assert ended.status == turn.status == elsewhere.status == "complete"
        assert turn.blocks == elsewhere.blocks == blocks
        assert plan.notes.read_text() == "example 1\n"


@pytest.mark.requirement("Q2")
async def test_the_events_of_an_owner_tell_of_turns_of_all_nodes(cluster: Cluster, tmp_path: Path) -> None:
    plan = AskingPlan(cluster.url, tmp_path / "notes")
    async with (
        asyncio.timeout(SECONDS),
        RunningProcess(run_asking_server, plan) as one,
        RunningProcess(run_asking_server, plan) as two,
        AsyncClient(one.url) as first,
        AsyncClient(two.url) as second,
    ):
        turns: list[AsyncTurn] = []
        ended: set[str] = set()
        async for event in second.events():
            if not turns:
                turns = [
                    await client.send("hello", model="sim/story:events=30") for client in (first, second)
                ]
            if event.name in TERMINAL_NAMES:
                ended.add(event.data["turn_id"])
                if ended == {turn.turn_id for turn in turns}:
                    break
