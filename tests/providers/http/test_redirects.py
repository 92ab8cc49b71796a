"""Redirects: followed within an origin with method and body, else named; keys never leave their origin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from yarl import URL

from tests.providers.conftest import RawServer
from turnstream.config import Timeouts
from turnstream.core.stream_events import MessageStop, StreamEvent
from turnstream.errors import ProviderError, ProviderFailed
from turnstream.providers.decisions import kind_of
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.providers.request_sender import MOST_REDIRECTS, redirect_target
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest

KEY = "sk-test-0123456789abcdef"
DEADLINE = 10.0
REQUEST = ModelRequest("x", (), params={"max_tokens": 8})
WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
BODIES = [
    b"",
    b"Content-Length: 9\r\n\r\n<a>go</a>",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nmoved\r\n0\r\n\r\n",
]


def moved(status: int, location: str | None, body: bytes = b"") -> bytes:
    where = b"" if location is None else f"Location: {location}\r\n".encode()
    return f"HTTP/1.1 {status} Moved\r\n".encode() + where + (body or b"Content-Length: 0\r\n\r\n")


@pytest.fixture
async def provide(raw_server) -> AsyncIterator[Callable[..., HttpProvider]]:
    made: list[HttpProvider] = []

    def make(base_url: str | None = None) -> HttpProvider:
        endpoint = Endpoint(base_url or f"{raw_server.url}/v1", KEY)
        made.append(HttpProvider("test", WIRES["openai-chat"], endpoint, Timeouts(first_token=5, idle=5)))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()


async def collect(provider: HttpProvider) -> list[StreamEvent]:
    async with asyncio.timeout(DEADLINE), provider.stream(REQUEST) as batches:
        return [one async for batch in batches for one in batch]


def line_of(exchange) -> str:
    return exchange.head.split("\r\n", 1)[0]


@pytest.mark.fault(35)
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("body", BODIES, ids=["empty", "length", "chunked"])
@pytest.mark.parametrize("absolute", [False, True])
async def test_a_redirect_within_the_origin_is_followed_with_method_and_body(
    raw_server, provide, status, body, absolute
) -> None:
    async def answer(exchange):
        if line_of(exchange).startswith("POST /v2/"):
            await exchange.send(WHOLE)
            exchange.writer.close()
        else:
            target = "/v2/chat/completions?a=b"
            await exchange.send(moved(status, (raw_server.url if absolute else "") + target, body))

    raw_server.answer = answer
    events = await collect(provide())
    assert isinstance(events[-1], MessageStop)
    first, second = raw_server.exchanges
    assert line_of(second) == "POST /v2/chat/completions?a=b HTTP/1.1"
    assert first.body == second.body
    assert second.body
    assert KEY in second.head


@pytest.mark.fault(35)
async def test_no_key_goes_to_another_origin(raw_server, provide) -> None:
    other = RawServer()
    await other.start()
    try:
        raw_server.answer = lambda exchange: exchange.send(moved(308, f"{other.url}/v1/x?key={KEY}"))
        with pytest.raises(ProviderFailed) as raised:
            await collect(provide())
        assert other.connections == 0
    finally:
        await other.stop()
    error = raised.value
    assert f"{other.url}/v1/x" in error.message
    assert "base_url" in error.message
    assert KEY not in error.message
    assert (error.retryable, error.provider_status, kind_of(error)) == (False, 308, "unwilling")


@pytest.mark.fault(35)
@pytest.mark.parametrize("status", [300, 301, 302, 303, 305])
async def test_a_redirect_that_would_change_the_method_is_named(raw_server, provide, status) -> None:
    raw_server.answer = lambda exchange: exchange.send(moved(status, "/elsewhere"))
    with pytest.raises(ProviderFailed) as raised:
        await collect(provide())
    assert f"{raw_server.url}/elsewhere" in raised.value.message
    assert raised.value.retryable is False
    assert len(raw_server.exchanges) == 1


@pytest.mark.fault(35)
async def test_redirects_without_an_end_are_given_up(raw_server, provide) -> None:
    raw_server.answer = lambda exchange: exchange.send(moved(307, "again"))
    with pytest.raises(ProviderError, match="again and again"):
        await collect(provide())
    assert len(raw_server.exchanges) == MOST_REDIRECTS


BASE = URL("https://api.example/v1/chat")


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/chat", "https://api.example/v2/chat"),
        ("https://API.example:443/v2", "https://api.example/v2"),
        ("other", "https://api.example/v1/other"),
        ("/a b\tc#part", "https://api.example/a%20bc"),
    ],
)
def test_targets_within_the_origin(location: str, target: str) -> None:
    assert str(redirect_target("p", BASE, 307, location)) == target


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    "location",
    [
        "http://api.example/v1", "https://api.example:8443/v1", "https://api.example.evil/", "//evil.example/v1",
        "https://api.example@evil.example/", "https://user:word@api.example/", "https://[broken", "mailto:me", "", None,
    ],
)  # fmt: skip
def test_targets_elsewhere(location: str | None) -> None:
    with pytest.raises(ProviderFailed) as raised:
        redirect_target("p", BASE, 307, location)
    assert "word" not in raised.value.message
