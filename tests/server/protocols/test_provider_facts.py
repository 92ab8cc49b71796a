"""Facts that a provider reports with an answer reach the client: its rate limits, and the stop sequence."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.server.live import Answer, Client, serving
from turnstream.config import ProviderSettings, RetrySettings
from turnstream.core.stream_events import ContentBlockStart, MessageStart, MessageStop, TextDelta
from turnstream.engine import Engine
from turnstream.wires.anthropic.encoder import AnthropicEncoder

STOPS = ["STOP", "END"]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"max_tokens": 64, "stop_sequences": STOPS},
    "/v1/chat/completions": {"stop": STOPS},
    "/api/chat": {},
}
"""Addresses of the dialects, and fields of their requests."""


def limits(remaining: int) -> dict[str, str]:
    return {"x-ratelimit-remaining-requests": str(remaining), "anthropic-ratelimit-tokens-limit": "9"}


class Provider:
    """A provider on Anthropic's protocol. It refuses the first calls, and names its rate limits."""

    def __init__(self, refusals: int = 0) -> None:
        self.calls = 0
        self._refusals = refusals

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.calls += 1
        headers = {**limits(10 - self.calls), "server": "not passed on"}
        if self.calls <= self._refusals:
            return web.json_response({"type": "error", "error": {"type": "overloaded_error"}}, status=529)
        encoder = AnthropicEncoder(model="m", message_id="msg_1")
        events = [
            MessageStart(),
            ContentBlockStart(0, "text"),
            TextDelta(0, "until the "),
            MessageStop("stop_sequence", stop_sequence="END"),
        ]
        body = encoder.feed(events) + encoder.close()
        return web.Response(body=body, headers=headers, content_type="text/event-stream")


@asynccontextmanager
async def running(tmp_path: Path, provider: Provider) -> AsyncIterator[Client]:
    """Serve turnstream with the model `far/m` of the provider."""
    application = web.Application()
    application.router.add_post("/v1/messages", provider.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        engine = Engine(
            f"sqlite:///{tmp_path / 'chats.sqlite'}",
            providers={"far": ProviderSettings(wire="anthropic", base_url=url)},
            retry=RetrySettings(delay=0.01),
        )
        async with serving(engine.application()) as port:
            yield Client(port, prefix="")
    finally:
        await runner.cleanup()


async def ask(client: Client, path: str, **fields: Any) -> Answer:
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "far/m", "messages": messages, **BODIES[path], **fields}
    answer = await client.call("POST", path, body)
    assert answer.status == 200, answer
    return answer


@pytest.mark.requirement("N9")
@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("path", BODIES)
async def test_an_answer_has_the_rate_limits_of_its_last_call(
    tmp_path: Path, path: str, streams: bool
) -> None:
    provider = Provider(refusals=1)
    async with running(tmp_path, provider) as client:
        answer = await ask(client, path, stream=streams)
    assert provider.calls == 2
    assert limits(8).items() <= answer.headers.items()
    assert answer.headers.get("server") != "not passed on"


@pytest.mark.requirement("N9")
async def test_a_plain_response_has_them_too(tmp_path: Path) -> None:
    async with running(tmp_path, Provider()) as client:
        plain = await client.call("POST", "/v1/responses", {"model": "far/m", "input": "hi"})
        streamed = await client.call(
            "POST", "/v1/responses", {"model": "far/m", "input": "hi", "stream": True}
        )
        unstored = await client.call(
            "POST", "/v1/responses", {"model": "far/m", "input": "hi", "store": False}
        )
    assert limits(9).items() <= plain.headers.items()
    assert limits(7).items() <= unstored.headers.items()
    assert not limits(8).keys() & streamed.headers.keys()


@pytest.mark.requirement("N6")
@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("streams", [True, False])
async def test_the_stop_sequence_is_named_among_several(tmp_path: Path, streams: bool, store: bool) -> None:
    async with running(tmp_path, Provider()) as client:
        answer = await ask(client, "/v1/messages", stream=streams, store=store)
        turn_id = answer.headers["request-id"]
        replayed = await client.call("GET", f"/api/turns/{turn_id}/stream")
    if streams:
        frames = [json.loads(line[6:]) for line in answer.body.decode().split("\n") if line[:6] == "data: "]
        end = next(frame["delta"] for frame in frames if frame["type"] == "message_delta")
    else:
        end = answer.json
    assert (end["stop_reason"], end["stop_sequence"]) == ("stop_sequence", "END")
    last = next(line for line in replayed.body.decode().split("\n") if '"turn_complete"' in line)
    assert json.loads(last.removeprefix("data: "))["stop_sequence"] == "END"
