"""One request that begins a chat reaches two nodes at once: one chat, one turn and one model call."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.nodes.cluster import Cluster

SECONDS = 60.0
CHATS = 12
MODEL = "sim/story:events=20,pace=0.001"


def ag_ui_request(number: int) -> tuple[str, dict[str, Any]]:
    """A run of a new thread."""
    message = {"id": f"m{number}", "role": "user", "content": "hello"}
    facts = {"threadId": f"thread {number}", "runId": f"run {number}", "state": {}, "context": []}
    return "/api/ag-ui", {
        **facts,
        "messages": [message],
        "tools": [],
        "forwardedProps": {"model": MODEL},
    }


@pytest.mark.requirement("Q5")
async def test_one_run_of_a_new_thread_on_two_nodes(cluster: Cluster, session: aiohttp.ClientSession) -> None:
    protocols = ("native", "ag_ui")
    async with (
        asyncio.timeout(SECONDS),
        cluster.node(protocols=protocols) as one,
        cluster.node(protocols=protocols) as two,
    ):

        async def post(url: str, path: str, body: dict[str, Any]) -> bytes:
            async with session.post(url + path, json=body) as response:
                answer = await response.read()
                assert response.status == 200, answer
                return answer

        async def begin(number: int) -> None:
            path, body = ag_ui_request(number)
            answers = await asyncio.gather(*(post(url, path, body) for url in (one.url, two.url) * 2))
            assert all(b"RUN_FINISHED" in answer for answer in answers), answers

        await asyncio.gather(*map(begin, range(CHATS)))
        counts = await cluster.rows(
            "SELECT (SELECT count(*) FROM turnstream_chats),"
            " (SELECT count(*) FROM turnstream_turns WHERE role = 'assistant'),"
            " (SELECT count(*) FROM turnstream_turns WHERE role = 'user'),"
            " (SELECT count(*) FROM turnstream_attempts)"
        )
        assert counts == [(CHATS, CHATS, CHATS, CHATS)]
