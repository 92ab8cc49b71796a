"""Clients of other protocols watch a turn of another node: the AI SDK, and OpenAI's Responses."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.nodes.cluster import Cluster
from turnstream.core.sse import SseDecoder

SECONDS = 60.0
MODEL = "sim/story:events=150,pace=0.02"


@asynccontextmanager
async def serving(cluster: Cluster) -> AsyncIterator[str]:
    """`turnstream serve` as one of the nodes, with all protocols."""
    arguments = ("--port", "0", "--database-url", cluster.url, "--drain-seconds", "0")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "turnstream.cli.main", "serve", *arguments, stdout=PIPE, stderr=PIPE
    )
    try:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            if found := re.search(rb"listens on .*?(http://[^\s\x1b]+)", line):
                yield found[1].decode()
                return
        raise AssertionError((await process.communicate())[1].decode())
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream, as they come."""
    assert response.status == 200, await response.text()
    decoder = SseDecoder(event_limit=1 << 24)
    async for data in response.content.iter_any():
        for _, payload, _ in decoder.feed(data):
            if payload != b"[DONE]":
                yield json.loads(payload)


async def read_all(response: Any) -> list[dict[str, Any]]:
    async with response as opened:
        return [event async for event in events(opened)]


def text_of(found: list[dict[str, Any]], kind: str) -> str:
    return "".join(event["delta"] for event in found if event["type"] == kind)


@pytest.mark.requirement("Q2")
async def test_the_ai_sdk_joins_the_answer_of_another_node(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), serving(cluster) as one, serving(cluster) as two:
        message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
        body = {"id": "chat-1", "messages": [message], "trigger": "submit-message", "model": MODEL}
        joined: asyncio.Task[list[dict[str, Any]]] | None = None
        answered: list[dict[str, Any]] = []
        async with session.post(f"{one}/api/chat", json=body) as response:
            async for event in events(response):
                answered.append(event)
                if joined is None and event["type"] == "text-delta":
                    joined = asyncio.create_task(read_all(session.get(f"{two}/api/chat/chat-1/stream")))
        assert joined is not None
        elsewhere = await joined
        assert text_of(elsewhere, "text-delta") == text_of(answered, "text-delta") != ""
        assert [event["type"] for event in (elsewhere[-1], answered[-1])] == ["finish", "finish"]
        assert sum(event["type"] == "text-delta" for event in elsewhere) > 1, "it was shown live"


@pytest.mark.requirement("Q2")
async def test_a_response_is_resumed_on_another_node(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(SECONDS), serving(cluster) as one, serving(cluster) as two:
        body = {"model": MODEL, "input": "hello", "stream": True, "background": True}
        resumed: list[asyncio.Task[list[dict[str, Any]]]] = []
        answered: list[dict[str, Any]] = []
        async with session.post(f"{one}/v1/responses", json=body) as response:
            async for event in events(response):
                answered.append(event)
                if len(answered) % 40 == 10:
                    response_id = answered[0]["response"]["id"]
                    after = {"stream": "true", "starting_after": str(event["sequence_number"])}
                    url = f"{two}/v1/responses/{response_id}"
                    resumed.append(asyncio.create_task(read_all(session.get(url, params=after))))
        assert answered[-1]["type"] == "response.completed"
        for number, task in enumerate(resumed):
            first = 10 + 40 * number
            later = await task
            assert later[-1]["type"] == "response.completed"
            assert later[-1]["response"]["output"] == answered[-1]["response"]["output"]
            kind = "response.output_text.delta"
            assert text_of(later, kind) == text_of(answered[first:], kind)
            numbers = [event["sequence_number"] for event in later]
            assert numbers == sorted(set(numbers))
            assert numbers[0] > answered[first - 1]["sequence_number"]
        assert len(resumed) > 3
