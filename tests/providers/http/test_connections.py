"""Connections of HttpProvider: kept, reused, cut."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.providers.http.answers import (
    ANSWER,
    BEGIN,
    DEADLINE,
    HEAD,
    LAST_CHUNK,
    REQUEST,
    chunk,
    collect,
    delta,
    failure_of,
)
from turnstream.config import Timeouts
from turnstream.errors import (
    ConnectionFailed,
)


class TestConnections:
    @pytest.mark.requirement("E7")
    async def test_connections_are_reused(self, raw_server, provide):
        raw_server.answer = lambda exchange: exchange.send(HEAD, chunk(ANSWER), LAST_CHUNK)
        provider = provide()
        for _ in range(3):
            await collect(provider)
        assert raw_server.connections == 1
        assert len(raw_server.exchanges) == 3

    async def test_a_refused_request_leaves_its_connection_for_the_next(self, raw_server, provide):
        refusal = b"HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n\r\n{}"
        raw_server.answer = lambda exchange: exchange.send(refusal)
        provider = provide()
        await failure_of(provider)
        await failure_of(provider)
        assert raw_server.connections == 1

    @pytest.mark.requirement("E7")
    async def test_leaving_the_context_closes_the_connection(self, raw_server, provide):
        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN))
            await exchange.closed_by_client()

        raw_server.answer = answer
        async with asyncio.timeout(DEADLINE), provide().stream(REQUEST) as batches:
            await anext(batches)
        async with asyncio.timeout(1):
            await raw_server.client_left.wait()

    @pytest.mark.requirement("E7")
    @pytest.mark.parametrize("sent", [(), (HEAD,), (HEAD, chunk(BEGIN + delta("x")))])
    async def test_cancelling_a_read_closes_the_connection(self, raw_server, provide, sent):
        waiting = asyncio.Event()

        async def answer(exchange):
            await exchange.send(*sent)
            waiting.set()
            await exchange.closed_by_client()

        raw_server.answer = answer
        read = asyncio.create_task(collect(provide(Timeouts())))
        async with asyncio.timeout(DEADLINE):
            await waiting.wait()
            await asyncio.wait({read}, timeout=0.05)
            read.cancel()
            began = time.monotonic()
            await raw_server.client_left.wait()
        assert time.monotonic() - began < 1
        with pytest.raises(asyncio.CancelledError):
            await read

    async def test_a_read_cancelled_inside_the_context_closes_it_at_once(self, raw_server, provide):
        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN))
            await exchange.closed_by_client()

        raw_server.answer = answer
        async with asyncio.timeout(DEADLINE), provide(Timeouts()).stream(REQUEST) as batches:
            await anext(batches)
            read = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0)
            read.cancel()
            await raw_server.client_left.wait()
            with pytest.raises(StopAsyncIteration):
                await anext(batches)

    async def test_closing_the_provider_ends_its_calls(self, raw_server, provide):
        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN))
            await exchange.closed_by_client()

        raw_server.answer = answer
        provider = provide(Timeouts())
        async with asyncio.timeout(DEADLINE), provider.stream(REQUEST) as batches:
            await anext(batches)
            read = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0)
            await provider.close()
            with pytest.raises(ConnectionFailed):
                await read
            await raw_server.client_left.wait()
        with pytest.raises(ConnectionFailed):
            await collect(provider)
