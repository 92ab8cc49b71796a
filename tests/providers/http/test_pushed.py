"""Events that HttpProvider delivers where they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.providers.http.answers import (
    ANSWER,
    BEGIN,
    DEADLINE,
    END,
    HEAD,
    LAST_CHUNK,
    REQUEST,
    chunk,
    collect,
    delta,
    extend,
    text_of,
)
from turnstream.config import Timeouts
from turnstream.core.stream_events import (
    MessageStop,
    StreamEvent,
)
from turnstream.errors import (
    ConnectionFailed,
    MalformedEvent,
    ProviderError,
    ProviderTimeout,
    StreamIncomplete,
)
from turnstream.providers import connection, http_call


class TestPushed:
    """Data that arrives during a read is pushed to the callback, and wakes no task."""

    async def test_what_is_taken_wakes_no_read(self, raw_server, provide, monkeypatch):
        monkeypatch.setattr(http_call, "DRAIN_SECONDS", 2 * DEADLINE)
        said: asyncio.Queue[bytes] = asyncio.Queue()

        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN + delta("Hel")))
            while data := await said.get():
                await exchange.send(chunk(data))
            await exchange.send(chunk(END) + LAST_CHUNK)

        raw_server.answer = answer
        pushed: asyncio.Queue[Sequence[StreamEvent]] = asyncio.Queue()
        returned: list[StreamEvent] = []
        async with asyncio.timeout(DEADLINE), provide().stream(REQUEST) as batches:
            returned.extend(await anext(batches))
            batches.push_to(lambda events: pushed.put_nowait(events) is None)
            reading = asyncio.create_task(extend(returned, batches))
            said.put_nowait(delta("l"))
            assert text_of([*await pushed.get()]) == "l"
            said.put_nowait(delta("o") + delta("!"))
            assert text_of([*await pushed.get()]) == "o!"
            assert not reading.done()
            assert text_of(returned) == "Hel"
            said.put_nowait(b"")
            await reading
        assert isinstance(returned[-1], MessageStop)
        assert pushed.empty()

    @pytest.mark.requirement("E4")
    @pytest.mark.parametrize("size", [1, 7, 1000])
    @pytest.mark.parametrize("takes", [0, 1, 2])
    async def test_any_cut_of_what_is_pushed_gives_the_same_events(
        self, raw_server, provide, monkeypatch, size, takes
    ):
        """Some or all batches are refused. The end is noticed when it arrives."""
        monkeypatch.setattr(http_call, "DRAIN_SECONDS", 2 * DEADLINE)
        body = chunk(BEGIN) + b"".join(chunk(delta(text)) for text in "Hello there") + chunk(END) + LAST_CHUNK

        async def answer(exchange):
            await exchange.send(HEAD)
            for start in range(0, len(body), size):
                await exchange.send(body[start : start + size])
                await asyncio.sleep(0)

        raw_server.answer = answer
        events: list[StreamEvent] = []
        offered = 0

        def take(some: Sequence[StreamEvent]) -> bool:
            nonlocal offered
            offered += 1
            if takes and offered % takes == 0:
                events.extend(some)
                return True
            return False

        provider = provide()
        async with asyncio.timeout(DEADLINE), provider.stream(REQUEST) as batches:
            batches.push_to(take)
            await extend(events, batches)
        assert text_of(events) == "Hello there"
        assert isinstance(events[-1], MessageStop)
        raw_server.answer = lambda exchange: exchange.send(HEAD, chunk(ANSWER), LAST_CHUNK)
        assert text_of(await collect(provider)) == "Hello"
        assert raw_server.connections == 1

    async def test_more_than_the_buffer_holds(self, raw_server, provide, monkeypatch):
        """The socket is not read while too much waits, and read again once it is taken."""
        monkeypatch.setattr(connection, "READ_BUFFER", 64)
        waiting, pushed = asyncio.Event(), asyncio.Event()

        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN + delta("a")))
            await waiting.wait()
            await exchange.send(b"".join(chunk(delta("b")) for _ in range(300)))
            await pushed.wait()
            await exchange.send(b"".join(chunk(delta("c")) for _ in range(300)))
            await exchange.send(chunk(END) + LAST_CHUNK)

        raw_server.answer = answer
        taken: list[StreamEvent] = []
        returned: list[StreamEvent] = []

        def take(events: Sequence[StreamEvent]) -> bool:
            pushed.set()
            taken.extend(events)
            return True

        async with asyncio.timeout(DEADLINE), provide().stream(REQUEST) as batches:
            returned.extend(await anext(batches))
            batches.push_to(take)
            reading = asyncio.create_task(extend(returned, batches))
            await asyncio.sleep(0)
            waiting.set()
            await reading
        assert text_of(taken).startswith("b")
        assert sorted(text_of(returned) + text_of(taken)) == sorted("a" + "b" * 300 + "c" * 300)
        assert isinstance(returned[-1], MessageStop)

    @pytest.mark.requirement("A4")
    @pytest.mark.parametrize("outcome", [True, False, ValueError("oh")])
    async def test_whoever_takes_may_have_the_read_cancelled(self, raw_server, provide, outcome):
        """The callback closes the stream, like a shown piece that makes a reader leave."""
        raw_server.answer, begun = self._answer_in_two()
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        async with asyncio.timeout(DEADLINE), provide().stream(REQUEST) as batches:
            await anext(batches)
            reading = asyncio.ensure_future(anext(batches))

            def take(_events: Sequence[StreamEvent]) -> bool:
                reading.cancel()
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome

            batches.push_to(take)
            begun.set()
            with pytest.raises(asyncio.CancelledError):
                await reading
        assert not complaints

    @staticmethod
    def _answer_in_two() -> tuple[Callable[[Any], Any], asyncio.Event]:
        begun = asyncio.Event()

        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN + delta("a")))
            await begun.wait()
            await exchange.send(chunk(delta("b")) + chunk(delta("c")) + LAST_CHUNK)
            await exchange.closed_by_client()

        return answer, begun

    @pytest.mark.parametrize(
        "ends", ["malformed", "bad chunk", "reset", "close", "no end", "silence", "closed provider"]
    )
    async def test_what_goes_wrong_is_raised_where_the_read_waits(self, raw_server, provide, ends):
        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN + delta("a")))
            await pushing.wait()
            await exchange.send(chunk(delta("b")) + last.get(ends, b""))
            await pushed.wait()
            if ends == "malformed":
                await exchange.send(chunk(b"event: content_block_delta\ndata: {oh\n\n"))
            elif ends == "bad chunk":
                await exchange.send(b"no length\r\n")
            elif ends == "reset":
                exchange.reset()
            elif ends == "close":
                exchange.writer.close()
            elif ends == "closed provider":
                await provider.close()
            await exchange.closed_by_client()

        raw_server.answer = answer
        last = {"no end": LAST_CHUNK}  # in one read with the data before it
        pushing, pushed = asyncio.Event(), asyncio.Event()
        provider = provide(Timeouts(connect=10, first_token=10, idle=0.1, total=20))
        taken: list[StreamEvent] = []

        def take(events: Sequence[StreamEvent]) -> bool:
            taken.extend(events)
            pushed.set()
            return True

        async with asyncio.timeout(DEADLINE), provider.stream(REQUEST) as batches:
            await anext(batches)
            batches.push_to(take)
            pushing.set()
            with pytest.raises(ProviderError) as failure:
                await anext(batches)
        assert text_of(taken) == "b"
        wanted = {
            "malformed": MalformedEvent,
            "silence": ProviderTimeout,
            "closed provider": ConnectionFailed,
        }
        assert type(failure.value) is wanted.get(ends, StreamIncomplete)
