"""A turn with approvals whose node is lost: before it waits, while it waits, and after the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.asking_server import AskingPlan, run_asking_server
from tests.faults.processes import RunningProcess
from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import Held, Pair, check, codes_of, engines, read_until, resume, taken_over
from tests.turnlog.watching import Client
from turnstream.client import AsyncClient
from turnstream.core.turn_events import ApprovalRequest
from turnstream.store.operations.approvals import StartWaiting
from turnstream.tools import tool
from turnstream.tools.asking import ApprovalAnswer
from turnstream.tools.ledger import OUTCOME_UNKNOWN

SECONDS = 60.0
MODEL = "sim/tools:pace=0.01"
YES = ApprovalAnswer(approved=True)
NO = ApprovalAnswer(approved=False, reason="keep it")


class Asking:
    """The tool of both engines. It asks first. Its calls wait for `gate`."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.begun, self.gate = asyncio.Event(), asyncio.Event()

    @property
    def functions(self) -> list[Any]:
        @tool(ask="always")
        async def delete(path: str) -> str:
            """Delete a file."""
            self.runs.append(path)
            self.begun.set()
            await self.gate.wait()
            return f"{path} is gone"

        return [delete]


@pytest.fixture
def asking() -> Asking:
    return Asking()


@pytest.fixture
async def pair(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, asking: Asking) -> AsyncIterator[Pair]:
    async with engines(cluster, monkeypatch, options={"tools": asking.functions}) as pair:
        yield pair


def asked(client: Client) -> list[str]:
    """Return the ids of the approvals that the client has seen."""
    return [frame.data["approval_id"] for frame in client.frames if frame.name == "approval_request"]


@pytest.mark.requirement("G7", "Q3")
async def test_a_turn_goes_on_waiting_after_its_node_was_killed(cluster: Cluster, tmp_path: Path) -> None:
    plan = AskingPlan(cluster.url, tmp_path / "notes")
    async with (
        asyncio.timeout(SECONDS),
        RunningProcess(run_asking_server, plan) as two,
        AsyncClient(two.url) as second,
    ):
        async with RunningProcess(run_asking_server, plan) as one, AsyncClient(one.url) as first:
            turn = await first.send("go", model=MODEL)
            requests: list[ApprovalRequest] = []
            async for event in turn:
                if isinstance(event, ApprovalRequest):
                    requests.append(event)
                    if len(requests) == 2:
                        break
            await one.kill()
        watched = second.watch(turn.turn_id)
        watching = asyncio.create_task(watched.wait())
        await second.approve(turn.turn_id, requests[0].approval_id, True)
        await second.approve(turn.turn_id, requests[1].approval_id, False, "keep it")
        await watching
        ended = await second.read(turn.turn_id)
        assert (ended.status, watched.status) == ("complete", "complete")
        assert watched.blocks == [stored.block for stored in ended.blocks]
        assert plan.notes.read_text() == "example 1\n"


@pytest.mark.requirement("G7", "Q3")
async def test_a_turn_whose_node_is_lost_before_it_waits_asks_on_another_node(
    pair: Pair, asking: Asking
) -> None:
    held = pair.stores[0].before = Held(StartWaiting)
    turn = await pair.one.send("go", model=MODEL)
    await held.began.wait()
    async with taken_over(pair, turn.id):
        pass
    held.go.set()
    client = Client()
    await read_until(pair.two, turn.id, client, lambda client: len(asked(client)) == 2)
    assert codes_of(client) == ["recovered"]
    asking.gate.set()
    for approval in asked(client):
        await pair.two.commands.approvals.answer("local", turn.id, approval, YES)
    await resume(pair, turn.id, client)
    await check(pair, turn.id, client)
    assert len(asking.runs) == 2


@pytest.mark.requirement("G7", "Q3", "Q4")
async def test_answers_hold_on_the_node_that_takes_the_turn_over(pair: Pair, asking: Asking) -> None:
    """The node is lost during the approved call. No call asks again, and the other call stays denied."""
    turn = await pair.one.send("go", model=MODEL)
    client = Client()
    await read_until(pair.one, turn.id, client, lambda client: len(asked(client)) == 2)
    approved, denied = asked(client)
    await pair.one.commands.approvals.answer("local", turn.id, denied, NO)
    await pair.one.commands.approvals.answer("local", turn.id, approved, YES)
    await asking.begun.wait()
    async with taken_over(pair, turn.id):
        pass
    await resume(pair, turn.id, client)
    blocks = await check(pair, turn.id, client)
    assert asked(client) == [approved, denied]
    assert len(asking.runs) == 1
    results = [(block.content or {}).get("content") for block in blocks if block.block_type == "tool_result"]
    assert results[0] == OUTCOME_UNKNOWN.text
    assert "keep it" in str(results[1])
