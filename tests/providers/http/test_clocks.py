"""Deadlines of a call over HTTP."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tests.providers.http.answers import (
    BEGIN,
    DEADLINE,
    END,
    HEAD,
    LAST_CHUNK,
    MESSAGE_START,
    PATIENT,
    REQUEST,
    chunk,
    delta,
    event,
    failure_of,
    text_of,
)
from turnstream.config import Timeouts
from turnstream.core.stream_events import (
    StreamEvent,
)
from turnstream.errors import (
    ProviderTimeout,
)
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.wires import WIRES

PING = event("ping", "")


class TestClocks:
    @pytest.mark.requirement("J5")
    @pytest.mark.parametrize("sent", [(), (HEAD,), (HEAD, chunk(MESSAGE_START)), (HEAD, chunk(PING))])
    async def test_first_token(self, raw_server, provide, sent):
        async def answer(exchange):
            await exchange.send(*sent)
            await exchange.closed_by_client()

        raw_server.answer = answer
        events, error = await failure_of(provide(PATIENT.model_copy(update={"first_token": 0.2})))
        assert isinstance(error, ProviderTimeout)
        assert error.code == "first_token_timeout"
        assert error.retryable
        assert text_of(events) == ""
        async with asyncio.timeout(1):
            await raw_server.client_left.wait()

    @pytest.mark.requirement("J5")
    @pytest.mark.parametrize("beat", [None, PING, b": still here\n\n"])
    async def test_pings_do_not_feed_the_idle_clock(self, raw_server, provide, beat):
        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN + delta("Hel")))
            left = asyncio.create_task(exchange.closed_by_client())
            while beat and not left.done():
                await exchange.send(chunk(beat))
                await asyncio.wait({left}, timeout=0.02)
            await left

        raw_server.answer = answer
        began = time.monotonic()
        events, error = await failure_of(provide(PATIENT.model_copy(update={"idle": 0.2})))
        assert error.code == "idle_timeout"
        assert text_of(events) == "Hel"
        assert 0.15 < time.monotonic() - began < DEADLINE

    @pytest.mark.requirement("J5")
    async def test_total(self, raw_server, provide):
        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN))
            left = asyncio.create_task(exchange.closed_by_client())
            while not left.done():
                await exchange.send(chunk(delta("x")))
                await asyncio.wait({left}, timeout=0.02)

        raw_server.answer = answer
        events, error = await failure_of(provide(Timeouts(idle=10, total=0.4)))
        assert error.code == "total_timeout"
        assert len(text_of(events)) > 3

    @pytest.mark.requirement("J5")
    async def test_a_slow_consumer_is_not_taken_for_a_silent_provider(self, raw_server, provide):
        taken = asyncio.Queue[str]()

        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN + delta("a")))
            for text in ("b", "c", "d"):
                await taken.get()
                await exchange.send(chunk(delta(text)))
            await exchange.send(chunk(END), LAST_CHUNK)

        raw_server.answer = answer
        loop = asyncio.get_running_loop()
        timeouts = Timeouts(connect=10, first_token=10, idle=0.3, total=0.9)
        events: list[StreamEvent] = []
        async with asyncio.timeout(DEADLINE), provide(timeouts).stream(REQUEST) as batches:
            async for batch in batches:
                events.extend(batch)
                if text_of(events) == "ab":
                    stored = asyncio.Event()
                    loop.call_later(1.2, stored.set)
                    await stored.wait()
                taken.put_nowait("more")
        assert text_of(events) == "abcd"

    async def test_no_connection_in_time(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            address = listener.getsockname()
            with socket.create_connection(address), socket.socket() as second:
                second.setblocking(False)
                second.connect_ex(address)
                provider = HttpProvider(
                    "test",
                    WIRES["anthropic"],
                    Endpoint(f"http://127.0.0.1:{address[1]}"),
                    Timeouts(connect=0.2, first_token=60),
                )
                _, error = await failure_of(provider)
                await provider.close()
        assert isinstance(error, ProviderTimeout)
        assert error.code == "connect_timeout"
        assert error.retryable
