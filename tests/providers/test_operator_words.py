"""Logs of a provider's failure without debug: its status, its words and its id of the request."""

from __future__ import annotations

import asyncio

import pytest

from turnstream.config import Timeouts
from turnstream.core.stream_events import StreamError
from turnstream.errors import InvalidRequest, Overloaded, ProviderError, RateLimited
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.failures import operator_words, stream_error
from turnstream.providers.http import HttpProvider
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest

pytestmark = pytest.mark.fault(38)
KEY = "sk-test-0123456789abcdef"
DEADLINE = 10.0
REQUEST = ModelRequest("x", (), params={"max_tokens": 8})


async def failure_of(url: str, wire: str) -> ProviderError:
    provider = HttpProvider("test", WIRES[wire], Endpoint(url, KEY), Timeouts(first_token=5, idle=5))
    try:
        async with asyncio.timeout(DEADLINE), provider.stream(REQUEST) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, StreamError):
                        return stream_error(event)
    except ProviderError as error:
        return error
    finally:
        await provider.close()
    pytest.fail("the call did not fail")


@pytest.mark.parametrize(
    ("wire", "header"),
    [
        ("anthropic", "request-id"),
        ("openai-chat", "X-Request-Id"),
        ("bedrock", "x-amzn-RequestId"),
        ("openai-responses", "apim-request-id"),
    ],
)
async def test_a_refusal_is_told_with_its_request(raw_server, wire: str, header: str) -> None:
    body = b'{"error":{"type":"rate_limit_error","message":"slow\\ndown, ' + KEY.encode() + b'"}}'
    head = f"HTTP/1.1 429 Slow\r\n{header}: req_123\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    raw_server.answer = lambda exchange: exchange.send(head + body)
    error = await failure_of(raw_server.url, wire)
    assert error.request_id == "req_123"
    words = operator_words(error, "test/x")
    assert words.startswith("test/x: rate_limit_error, HTTP 429, request req_123: ")
    assert "slow" in words
    assert "\n" not in words
    assert KEY not in words


@pytest.mark.parametrize("ends", ["reports an error", "breaks off"])
async def test_a_stream_that_fails_is_told_with_its_request(raw_server, ends: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nrequest-id: req_7\r\n\r\n"
    reported = (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"too busy"}}\n\n'
    )

    async def answer(exchange):
        await exchange.send(head + (reported if ends == "reports an error" else b": hello\n\n"))
        exchange.writer.close()

    raw_server.answer = answer
    error = await failure_of(raw_server.url, "anthropic")
    words = operator_words(error, "test/x")
    assert words.startswith(f"test/x: {error.code}, request req_7: ")
    if ends == "reports an error":
        assert isinstance(error, Overloaded)
        assert words.endswith("too busy")


@pytest.mark.parametrize("forged", ["a\nERROR b", "a\r\nb", "a\x1b[2Jb", "a\u2028b", "a\x85b", "a\x00b"])
def test_no_words_can_begin_a_line(forged: str) -> None:
    error = RateLimited("limited", detail=forged, provider_status=429)
    error.request_id = forged
    for text in (
        operator_words(error, "m"),
        operator_words(InvalidRequest(forged)),
        operator_words(ValueError(forged)),
    ):
        assert text.isprintable()


def test_long_words_are_cut() -> None:
    words = operator_words(RateLimited("limited", detail="word " * 100_000))
    assert len(words) < 2100
    assert words.endswith("…")
