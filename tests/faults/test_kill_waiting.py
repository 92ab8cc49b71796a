"""kill -9 of the server while a turn waits for approvals."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.asking_server import AskingPlan, run_asking_server
from tests.faults.processes import RunningProcess
from turnstream.client import AsyncClient, Retry
from turnstream.core.turn_events import ApprovalRequest
from turnstream.errors import Conflict

SECONDS = 60.0
NO_RETRY = Retry(budget=0)


@pytest.mark.requirement("D1", "G7", "P3", "P4")
async def test_a_turn_that_waits_outlives_its_killed_server(tmp_path: Path) -> None:
    plan = AskingPlan(tmp_path / "turns.sqlite", tmp_path / "notes")
    async with asyncio.timeout(SECONDS):
        async with RunningProcess(run_asking_server, plan) as server, AsyncClient(server.url) as client:
            turn = await client.send("go", model="sim/tools:pace=0")
            requests: list[ApprovalRequest] = []
            async for event in turn:
                if isinstance(event, ApprovalRequest):
                    requests.append(event)
                    if len(requests) == 2:
                        break
            assert turn.status == "waiting"
            assert turn.approvals == requests
            await client.approve(turn.turn_id, requests[0].approval_id, True)
            server.kill_now()
            await server.ended()
        async with RunningProcess(run_asking_server, plan) as server, AsyncClient(server.url) as client:
            stored = await client.read(turn.turn_id)
            assert (stored.status, [approval.approval_id for approval in stored.approvals]) == (
                "waiting",
                [requests[1].approval_id],
            )
            assert not plan.notes.exists()
            again = client.watch(turn.turn_id, after=turn.last_id)
            watching = asyncio.create_task(again.wait())
            late = asyncio.create_task(client.watch(turn.turn_id).wait())
            approval = await client.approve(turn.turn_id, requests[1].approval_id, False, "keep it")
            assert approval.approved is False
            with pytest.raises(Conflict):
                await client.approve(turn.turn_id, requests[1].approval_id, True)
            await watching
            ended = await client.read(turn.turn_id)
            assert (ended.status, again.status, (await late).status) == ("complete",) * 3
            blocks = [stored.block for stored in ended.blocks]
            assert (await late).blocks == blocks
            assert plan.notes.read_text() == "example 1\n"
            assert [block.content["is_error"] for block in blocks if block.block_type == "tool_result"] == [
                False,
                True,
            ]
