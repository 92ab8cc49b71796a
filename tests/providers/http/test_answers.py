"""Answers that HttpProvider reads from a server that sends exactly the test's bytes."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from tests.providers.http.answers import (
    ANSWER,
    BEGIN,
    DEADLINE,
    END,
    HEAD,
    KEY,
    LAST_CHUNK,
    REQUEST,
    chunk,
    collect,
    delta,
    event,
    text_of,
)
from turnstream.config import Timeouts
from turnstream.core.origin import Origin
from turnstream.core.stream_events import (
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
)
from turnstream.core.usage import Usage
from turnstream.providers import http_call
from turnstream.providers.conversations import with_origin
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest


class TestAnswers:
    async def test_events_arrive_as_they_are_sent(self, raw_server, provide):
        taken = asyncio.Event()

        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN + delta("Hel")))
            await taken.wait()
            await exchange.send(chunk(delta("lo") + END), LAST_CHUNK)

        raw_server.answer = answer
        events: list[StreamEvent] = []
        async with asyncio.timeout(DEADLINE), provide().stream(REQUEST) as batches:
            async for batch in batches:
                events.extend(batch)
                if text_of(events) == "Hel":
                    taken.set()
        assert text_of(events) == "Hello"
        assert isinstance(events[-1], MessageStop)

    async def test_the_request_is_the_wires_own(self, raw_server, provide):
        raw_server.answer = lambda exchange: exchange.send(HEAD, chunk(ANSWER), LAST_CHUNK)
        await collect(provide(headers={"X-Team": "blue"}))
        (exchange,) = raw_server.exchanges
        encoded = WIRES["anthropic"].encode_request(REQUEST)
        head = exchange.head.lower()
        assert head.startswith("post /v1/messages http/1.1\r\n")
        assert exchange.body == encoded.body
        assert f"x-api-key: {KEY}" in head
        assert "x-team: blue" in head
        assert "accept-encoding: identity" in head

    @pytest.mark.requirement("E4")
    @pytest.mark.parametrize("size", [1, 2, 7, 100])
    async def test_any_cut_gives_the_same_events(self, raw_server, provide, size):
        body = BEGIN + delta("grüße 👋🏽 \\ud83d\\ude42") + END

        async def answer(exchange):
            pieces = [chunk(body[start : start + size]) for start in range(0, len(body), size)]
            await exchange.send(HEAD, *pieces, LAST_CHUNK)

        raw_server.answer = answer
        whole = WIRES["anthropic"].decoder()
        origin = Origin("anthropic", "test", "x")
        expected = with_origin(whole.feed(body) + whole.close(), origin)
        assert await collect(provide()) == expected

    async def test_a_compressed_body_is_read(self, raw_server, provide):
        head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
        packed = gzip.compress(ANSWER)

        async def answer(exchange):
            await exchange.send(
                head, *(chunk(packed[i : i + 9]) for i in range(0, len(packed), 9)), LAST_CHUNK
            )

        raw_server.answer = answer
        assert text_of(await collect(provide())) == "Hello"

    async def test_a_large_request_is_sent_whole(self, raw_server, provide):
        raw_server.answer = lambda exchange: exchange.send(HEAD, chunk(ANSWER), LAST_CHUNK)
        request = ModelRequest("x", (), system="x" * 3_000_000, params={"max_tokens": 8})
        assert text_of(await collect(provide(), request)) == "Hello"
        assert len(raw_server.exchanges[0].body) > 3_000_000

    @pytest.mark.requirement("E8")
    async def test_metadata_after_the_end_marker_is_collected(self, raw_server, provide):
        stopped = asyncio.Event()

        async def answer(exchange):
            await exchange.send(HEAD, chunk(ANSWER))
            await stopped.wait()
            late = event("message_delta", ',"delta":{},"usage":{"output_tokens":9}')
            await exchange.send(chunk(late), LAST_CHUNK)

        raw_server.answer = answer
        events: list[StreamEvent] = []
        async with asyncio.timeout(DEADLINE), provide().stream(REQUEST) as batches:
            async for batch in batches:
                events.extend(batch)
                if any(isinstance(one, MessageStop) for one in batch):
                    stopped.set()
        assert isinstance(events[-1], Metadata)
        assert events[-1].usage == Usage(output_tokens=9)

    async def test_a_body_without_end_is_not_waited_for_after_the_end_marker(
        self, raw_server, provide, monkeypatch
    ):
        monkeypatch.setattr(http_call, "DRAIN_SECONDS", 0.05)

        async def answer(exchange):
            await exchange.send(HEAD, chunk(ANSWER))
            await exchange.closed_by_client()

        raw_server.answer = answer
        assert text_of(await collect(provide(Timeouts(idle=60)))) == "Hello"
        async with asyncio.timeout(1):
            await raw_server.client_left.wait()

    async def test_a_connection_lost_after_the_end_marker_is_no_failure(self, raw_server, provide):
        async def answer(exchange):
            await exchange.send(HEAD, chunk(ANSWER))
            exchange.writer.close()

        raw_server.answer = answer
        assert text_of(await collect(provide())) == "Hello"

    async def test_a_whole_answer_without_done_is_no_failure_when_it_is_cut(self, raw_server, provide):
        body = (
            b'data: {"id":"c","model":"x","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}\n\n'
            b'data: {"id":"c","model":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        )

        async def answer(exchange):
            await exchange.send(HEAD, chunk(body))
            exchange.writer.close()

        raw_server.answer = answer
        events = await collect(provide(wire="openai-chat"))
        assert text_of(events) == "Hi"
        assert isinstance(events[-1], MessageStop)

    async def test_an_error_in_the_stream_is_the_last_event(self, raw_server, provide):
        error = event("error", f',"error":{{"type":"overloaded_error","message":"busy, key {KEY}"}}')

        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN + delta("Hel") + error + delta("lo")))
            await exchange.closed_by_client()

        raw_server.answer = answer
        events = await collect(provide())
        assert isinstance(events[-1], StreamError)
        assert events[-1].code == "overloaded_error"
        assert KEY not in events[-1].message
        assert text_of(events) == "Hel"
        async with asyncio.timeout(1):
            await raw_server.client_left.wait()
