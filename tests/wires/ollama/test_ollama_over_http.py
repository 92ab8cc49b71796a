"""Ollama behind a socket, at the address of the settings."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from turnstream.config import ProviderSettings
from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import ContentBlockStart, StreamEvent, TextDelta, ThinkingDelta
from turnstream.errors import ModelNotFound, StreamIncomplete
from turnstream.providers.catalog import Catalog
from turnstream.wires.base import ModelRequest

ANSWER = (
    b'{"model":"m","message":{"role":"assistant","content":"<thi"},"done":false}\n',
    b'{"model":"m","message":{"role":"assistant","content":"nk>hm</think>\\n\\nyes"},"done":false}\n',
    b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","eval_count":3}\n',
)


class Server:
    """A server that answers like Ollama, and records the requests."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.url = ""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append((dict(request.headers), body))
        if body["model"] == "missing":
            return web.json_response({"error": "model 'missing' not found"}, status=404)
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        for line in ANSWER[: 2 if body["model"] == "cut" else 3]:
            for start in range(0, len(line), 17):
                await response.write(line[start : start + 17])
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    application = web.Application()
    application.router.add_post("/api/chat", served.chat)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


async def answer(server: Server, model: str, base: str = "") -> list[StreamEvent]:
    settings = ProviderSettings.model_validate({"base_url": server.url + base, "think_tags": ["r1*", "cut"]})
    catalog = Catalog({"ollama": settings}, environ={})
    events: list[StreamEvent] = []
    try:
        target = catalog.resolve(f"ollama/{model}")
        request = ModelRequest(target.model, (Message("user", (Block(0, "text", "hi"),)),))
        async with target.provider.stream(request) as stream:
            async for batch in stream:
                events.extend(batch)
    finally:
        await catalog.close()
    return events


def said(events: list[StreamEvent], kind: type[TextDelta] | type[ThinkingDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


@pytest.mark.requirement("E1", "L4")
@pytest.mark.parametrize("base", ["", "/", "/api", "/api/chat"])
async def test_a_marked_model_thinks_apart(server: Server, base: str) -> None:
    events = await answer(server, "r1:8b", base)
    starts = [event.block_type for event in events if isinstance(event, ContentBlockStart)]
    assert starts == ["thinking", "text"]
    assert (said(events, ThinkingDelta), said(events, TextDelta)) == ("hm", "yes")
    headers, body = server.asked[0]
    assert "Authorization" not in headers
    assert headers["Accept"] == "application/x-ndjson"
    assert json.dumps(body["messages"]) == '[{"role": "user", "content": "hi"}]'


@pytest.mark.requirement("L4")
async def test_an_unmarked_model_keeps_its_tags(server: Server) -> None:
    assert said(await answer(server, "plain"), TextDelta) == "<think>hm</think>\n\nyes"


@pytest.mark.requirement("D4")
async def test_an_error_by_status_is_typed(server: Server) -> None:
    with pytest.raises(ModelNotFound):
        await answer(server, "missing")


@pytest.mark.requirement("D6", "P5")
async def test_an_answer_that_breaks_off_is_incomplete(server: Server) -> None:
    with pytest.raises(StreamIncomplete):
        await answer(server, "cut")


def test_ollama_needs_no_settings() -> None:
    catalog = Catalog(environ={})
    assert catalog.is_ready("ollama")
    assert catalog.resolve("ollama/llama3:8b").model == "llama3:8b"
    assert not catalog.default_model.startswith("ollama/")
