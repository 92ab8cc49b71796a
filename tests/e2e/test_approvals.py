"""Approvals over HTTP: the status of each answer, the events of the turn, and the server's drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.requests import Request

from tests.server.live import SECONDS, Client, serving
from turnstream.core.identifiers import new_id
from turnstream.engine import Engine
from turnstream.server.auth import Principal
from turnstream.tools import tool

TEXT = {"turn_blocks": "go", "model": "sim/tools:pace=0"}


def by_header(request: Request) -> Principal:
    return Principal(request.headers.get("x-user", "alice"))


@tool(ask="always")
def delete(path: str) -> str:
    """Delete a file."""
    return f"{path} is gone"


class Waiting(NamedTuple):
    """A server, a client, and a turn that waits for two approvals."""

    engine: Engine
    client: Client
    turn: dict[str, Any]

    def path(self, number: int) -> str:
        return f"/turns/{self.turn['id']}/approvals/{self.turn['approvals'][number]['approval_id']}"


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[Waiting]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", authenticate=by_header, tools=[delete])
    async with serving(engine.application()) as port:
        client = Client(port)
        chat = (await client.call("POST", "/chats")).json["id"]
        started = (await client.call("POST", f"/chats/{chat}/turns", TEXT)).json["assistant_turn"]
        async with asyncio.timeout(SECONDS):
            await engine.commands.ended(started["id"])
        turn = (await client.call("GET", f"/turns/{started['id']}")).json
        yield Waiting(engine, client, turn)


@pytest.mark.requirement("G7")
async def test_a_waiting_turn_shows_its_approvals(waiting: Waiting) -> None:
    turn = waiting.turn
    assert turn["status"] == "waiting"
    calls = [block for block in turn["blocks"] if block["block_type"] == "tool_use"]
    assert [approval["tool_use_id"] for approval in turn["approvals"]] == [
        call["content"]["tool_use_id"] for call in calls
    ]
    listed = (await waiting.client.call("GET", f"/chats/{turn['chat_id']}/turns")).json["turns"]
    assert [listed[-1]["status"], listed[-1]["approvals"]] == ["waiting", []]
    blocks = (await waiting.client.call("GET", f"/turns/{turn['id']}/blocks")).json
    assert blocks["status"] == "waiting"


@pytest.mark.requirement("G7")
async def test_the_statuses_of_an_answer(waiting: Waiting) -> None:
    client = waiting.client
    no = {"approved": False, "reason": "not today"}
    for body in ({}, {"approved": "yes"}, {"approved": True, "other": 1}, {**no, "reason": "x" * 2001}):
        assert (await client.call("POST", waiting.path(0), body)).status == 400
    foreign = await client.call("POST", waiting.path(0), no, headers={"X-User": "eve"})
    unknown = await client.call("POST", f"/turns/{waiting.turn['id']}/approvals/{new_id()}", no)
    assert (foreign.status, unknown.status) == (404, 404)
    first = await client.call("POST", waiting.path(0), no)
    again = await client.call("POST", waiting.path(0), no)
    other = await client.call("POST", waiting.path(0), {"approved": True})
    assert (first.status, again.status, other.status) == (200, 200, 409)
    assert first.json == again.json == {**waiting.turn["approvals"][0], **no}
    assert other.json["error"]["code"] == "approval_decided"
    assert (await client.call("POST", waiting.path(1), {"approved": True})).status == 200
    async with asyncio.timeout(SECONDS):
        await waiting.engine.commands.ended(waiting.turn["id"])
    turn = (await client.call("GET", f"/turns/{waiting.turn['id']}")).json
    assert (turn["status"], turn["approvals"]) == ("complete", [])


async def test_draining_leaves_a_waiting_turn_and_lets_its_watchers_go(waiting: Waiting) -> None:
    turn_id = waiting.turn["id"]
    reader, writer = await waiting.client.open("GET", f"/turns/{turn_id}/stream")
    async with asyncio.timeout(SECONDS):
        while b"approval_request" not in await reader.readline():
            pass
        await waiting.engine.drain(1.0)
        rest = await reader.read()
    writer.close()
    assert b"event: turn_" not in rest
    late, writer = await waiting.client.open("GET", f"/turns/{turn_id}/stream")
    async with asyncio.timeout(SECONDS):
        assert b"approval_request" in await late.read()
    writer.close()
    assert (await waiting.client.call("GET", f"/turns/{turn_id}")).json["status"] == "waiting"
    assert (await waiting.client.call("POST", waiting.path(0), {"approved": True})).status == 200


async def test_an_interrupt_answers_with_the_end_of_a_waiting_turn(waiting: Waiting) -> None:
    answer = await waiting.client.call("POST", f"/turns/{waiting.turn['id']}/interrupt")
    assert (answer.status, answer.json["status"]) == (200, "cancelled")
    late = await waiting.client.call("POST", waiting.path(0), {"approved": True})
    assert (late.status, late.json["error"]["code"]) == (409, "turn_ended")
