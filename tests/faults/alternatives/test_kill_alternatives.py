"""kill -9 of the server while it starts several answers: all of them are stored, or none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.killing import KillPoint, Moment
from tests.faults.processes import server
from tests.faults.server_process import ServerPlan

SECONDS = 60.0
ASKED = {
    "turn_blocks": "one two",
    "alternatives": [{"model": "sim/echo:pace=1000"}, {"model": "sim/echo:pace=1000"}, {"model": "sim/echo"}],
}


@pytest.mark.requirement("A7", "P3")
@pytest.mark.parametrize(("moment", "stored"), [("before", 0), ("within", 0), ("after", 4)])
async def test_all_alternatives_are_stored_or_none(
    tmp_path: Path, session: aiohttp.ClientSession, moment: Moment, stored: int
) -> None:
    database, log = tmp_path / "turns.sqlite", tmp_path / "server.log"
    plan = ServerPlan(database, log, kill=KillPoint("StartTurns", moment))
    async with asyncio.timeout(SECONDS):
        async with server(plan) as process:
            async with session.post(f"{process.url}/api/chats") as answer:
                chat = (await answer.json())["id"]
            with pytest.raises(aiohttp.ClientError):
                await post(session, f"{process.url}/api/chats/{chat}/turns")
            await process.ended()
        async with server(ServerPlan(database, log)) as process:
            async with session.get(f"{process.url}/api/chats/{chat}/turns") as answer:
                turns = (await answer.json())["turns"]
            assert len(turns) == stored
            assert [turn["status"] for turn in turns[1:]] == ["error"] * max(0, stored - 1)
            again = await post(session, f"{process.url}/api/chats/{chat}/turns")
            found = [again["assistant_turn"], *(each["assistant_turn"] for each in again["alternatives"])]
            if stored:
                assert [turn["id"] for turn in found] == [turn["id"] for turn in turns[1:]]
            else:
                assert len({turn["id"] for turn in found}) == 3


async def post(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.post(url, json=ASKED, headers={"Idempotency-Key": "one"}) as answer:
        assert answer.status == 201
        return await answer.json()
