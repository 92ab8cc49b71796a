"""One request that begins a chat reaches two nodes at once: one chat, one turn and one model call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import aiohttp
import pytest

from tests.nodes.cluster import Cluster
from turnstream.config import NodeSettings

Make: TypeAlias = Callable[[int], tuple[str, dict[str, Any]]]

SECONDS = 60.0
CHATS = 12
MODEL = "sim/story:events=20,pace=0.001"


def ai_sdk_request(number: int) -> tuple[str, dict[str, Any]]:
    """A message of a new chat."""
    message = {"id": f"m{number}", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
    asked = {"id": f"chat {number}", "messages": [message], "trigger": "submit-message", "model": MODEL}
    return "/api/chat", asked


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
@pytest.mark.parametrize(
    ("make", "end"),
    [(ag_ui_request, b"RUN_FINISHED"), (ai_sdk_request, b'"type":"finish"')],
    ids=["ag-ui", "ai-sdk"],
)
async def test_one_new_chat_on_two_nodes(
    cluster: Cluster, session: aiohttp.ClientSession, make: Make, end: bytes
) -> None:
    options: dict[str, Any] = {
        "protocols": ("native", "ag_ui", "ai_sdk"),
        # The requests come all at once. A node without its lease would refuse some of them.
        "nodes": NodeSettings(lease=30.0),
    }
    async with (
        asyncio.timeout(SECONDS),
        cluster.node(**options) as one,
        cluster.node(**options) as two,
    ):

        async def post(url: str, path: str, body: dict[str, Any]) -> bytes:
            async with session.post(url + path, json=body) as response:
                answer = await response.read()
                assert response.status == 200, answer
                return answer

        async def begin(number: int) -> None:
            path, body = make(number)
            answers = await asyncio.gather(*(post(url, path, body) for url in (one.url, two.url) * 2))
            answers.append(await post(two.url, path, body))
            assert all(end in answer for answer in answers), answers

        await asyncio.gather(*map(begin, range(CHATS)))
        counts = await cluster.rows(
            "SELECT (SELECT count(*) FROM turnstream_chats),"
            " (SELECT count(*) FROM turnstream_turns WHERE role = 'assistant'),"
            " (SELECT count(*) FROM turnstream_turns WHERE role = 'user'),"
            " (SELECT count(*) FROM turnstream_attempts)"
        )
        assert counts == [(CHATS, CHATS, CHATS, CHATS)]
