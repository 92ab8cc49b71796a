"""HttpProvider against a server that does exactly what a test says, byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import time
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from turnstream.config import Timeouts
from turnstream.core.origin import Origin
from turnstream.core.stream_events import (
    ContentBlockStop,
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    TextDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    EventTooLarge,
    MalformedEvent,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
    StreamIncomplete,
)
from turnstream.providers import connection, http_call
from turnstream.providers.conversations import with_origin
from turnstream.providers.endpoints import Addresses, Endpoint, call_url, split_base_url
from turnstream.providers.http import HttpProvider
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest

KEY = "sk-test-0123456789abcdef"
PATIENT = Timeouts(connect=10, first_token=10, idle=10, total=20)
DEADLINE = 10.0

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(name: str, fields: str) -> bytes:
    return f'event: {name}\ndata: {{"type":"{name}"{fields}}}\n\n'.encode()


def delta(text: str) -> bytes:
    return event("content_block_delta", f',"index":0,"delta":{{"type":"text_delta","text":"{text}"}}')


MESSAGE_START = event(
    "message_start",
    ',"message":{"id":"m","type":"message","role":"assistant","model":"x","content":[],"usage":{"input_tokens":3}}',
)
BLOCK_START = event("content_block_start", ',"index":0,"content_block":{"type":"text","text":""}')
BEGIN = MESSAGE_START + BLOCK_START
END = (
    event("content_block_stop", ',"index":0')
    + event("message_delta", ',"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}')
    + event("message_stop", "")
)
PING = event("ping", "")
ANSWER = BEGIN + delta("Hel") + delta("lo") + END
REQUEST = ModelRequest("x", (), params={"max_tokens": 8})


@pytest.fixture
async def provide(raw_server) -> AsyncIterator[Callable[..., HttpProvider]]:
    """Builds providers for the raw server, and closes them."""
    made: list[HttpProvider] = []

    def make(timeouts: Timeouts = PATIENT, *, wire: str = "anthropic", **endpoint) -> HttpProvider:
        endpoint = {"base_url": raw_server.url, "api_key": KEY} | endpoint
        made.append(HttpProvider("test", WIRES[wire], Endpoint(**endpoint), timeouts))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()


async def collect(provider: HttpProvider, request: ModelRequest = REQUEST) -> list[StreamEvent]:
    async with asyncio.timeout(DEADLINE), provider.stream(request) as batches:
        return [one async for batch in batches for one in batch]


async def failure_of(provider: HttpProvider) -> tuple[list[StreamEvent], ProviderError]:
    """What came, and the error that ended it."""
    events: list[StreamEvent] = []
    try:
        async with asyncio.timeout(DEADLINE), provider.stream(REQUEST) as batches:
            async for batch in batches:
                assert batch
                events.extend(batch)
    except ProviderError as error:
        return events, error
    pytest.fail("the call did not fail")


def text_of(events: list[StreamEvent]) -> str:
    return "".join(one.text for one in events if isinstance(one, TextDelta))


async def _extend(events: list[StreamEvent], batches: AsyncIterator[Sequence[StreamEvent]]) -> None:
    async for batch in batches:
        events.extend(batch)


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


class TestPushed:
    """What arrives while a read waits goes to whoever takes it, and wakes nobody."""

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
            reading = asyncio.create_task(_extend(returned, batches))
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
        """Also where every other batch, or every batch, is refused. The end is seen when it comes."""
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
            await _extend(events, batches)
        assert text_of(events) == "Hello there"
        assert isinstance(events[-1], MessageStop)
        raw_server.answer = lambda exchange: exchange.send(HEAD, chunk(ANSWER), LAST_CHUNK)
        assert text_of(await collect(provider)) == "Hello"
        assert raw_server.connections == 1

    async def test_more_than_the_buffer_holds(self, raw_server, provide, monkeypatch):
        """The socket is not read while too much waits, and read again where it is taken."""
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
            reading = asyncio.create_task(_extend(returned, batches))
            await asyncio.sleep(0)
            waiting.set()
            await reading
        assert text_of(taken).startswith("b")
        assert sorted(text_of(returned) + text_of(taken)) == sorted("a" + "b" * 300 + "c" * 300)
        assert isinstance(returned[-1], MessageStop)

    @pytest.mark.requirement("A4")
    @pytest.mark.parametrize("outcome", [True, False, ValueError("oh")])
    async def test_whoever_takes_may_have_the_read_cancelled(self, raw_server, provide, outcome):
        """As where showing a piece makes a reader leave, and with it the stream."""
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


class TestFailures:
    @pytest.mark.requirement("J2")
    async def test_a_refused_connection_is_not_worth_a_retry(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        provider = HttpProvider("test", WIRES["anthropic"], Endpoint(f"http://127.0.0.1:{port}"), PATIENT)
        _, error = await failure_of(provider)
        await provider.close()
        assert isinstance(error, ConnectionFailed)
        assert error.retryable is False
        assert error.detail

    @pytest.mark.requirement("J2")
    @pytest.mark.parametrize(("reason", "retryable"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
    async def test_a_host_that_is_not_found(self, monkeypatch, reason, retryable):
        async def getaddrinfo(*_address, **_hints):
            raise socket.gaierror(reason, "no such host")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        provider = HttpProvider("test", WIRES["anthropic"], Endpoint("https://provider.invalid"), PATIENT)
        _, error = await failure_of(provider)
        assert isinstance(error, ConnectionFailed)
        assert error.retryable is retryable

    @pytest.mark.requirement("J2")
    async def test_a_reset_before_the_answer_may_be_retried(self, raw_server, provide):
        async def answer(exchange):
            exchange.reset()

        raw_server.answer = answer
        _, error = await failure_of(provide())
        assert isinstance(error, ConnectionFailed)
        assert error.retryable

    async def test_what_is_not_http(self, raw_server, provide):
        raw_server.answer = lambda exchange: exchange.send(b"220 mail ready\r\n\r\n")
        _, error = await failure_of(provide())
        assert isinstance(error, ProviderFailed)
        assert error.__cause__ is None
        assert error.__context__ is None

    @pytest.mark.requirement("D6")
    async def test_a_cut_keeps_all_that_arrived(self, raw_server, provide):
        """Even what had come, but was not taken, when the cut was noticed."""
        is_cut = asyncio.Event()
        left = [delta(letter) for letter in "abc"]

        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN))
            await first_taken.wait()
            await exchange.send(*map(chunk, left))
            exchange.writer.close()
            is_cut.set()

        first_taken = asyncio.Event()
        raw_server.answer = answer
        events: list[StreamEvent] = []
        async with asyncio.timeout(DEADLINE), provide(Timeouts()).stream(REQUEST) as call:
            events.extend(await anext(call))
            first_taken.set()
            await is_cut.wait()
            while call._connection.failure is None:  # noqa: ASYNC110  only the next read is told
                await asyncio.sleep(0)
            with pytest.raises(StreamIncomplete) as caught:
                await _extend(events, call)
        assert text_of(events) == "abc"
        assert caught.value.code == "stream_incomplete"
        assert caught.value.retryable

    @pytest.mark.requirement("D6")
    async def test_a_clean_end_without_the_end_marker(self, raw_server, provide):
        raw_server.answer = lambda exchange: exchange.send(HEAD, chunk(BEGIN + delta("Hel")), LAST_CHUNK)
        events, error = await failure_of(provide())
        assert error.code == "stream_incomplete"
        assert text_of(events) == "Hel"

    async def test_a_web_page_says_that_the_base_url_may_be_wrong(self, raw_server, provide):
        page = b"<html>hello</html>"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
        raw_server.answer = lambda exchange: exchange.send(head + page)
        _, error = await failure_of(provide())
        assert isinstance(error, StreamIncomplete)
        assert "text/html" in str(error)
        assert "base_url" in str(error)

    @pytest.mark.fault(21)
    @pytest.mark.parametrize("ending", ["clean", "reset"])
    async def test_a_stop_that_came_last_counts_before_the_error(self, raw_server, provide, ending):
        """A stop waits for what follows it; if nothing does, the block is whole all the same."""
        stop = event("content_block_stop", ',"index":0')

        async def answer(exchange):
            await exchange.send(
                HEAD, chunk(BEGIN + delta("Hel") + stop), LAST_CHUNK if ending == "clean" else b""
            )
            if ending == "reset":
                exchange.reset()

        raw_server.answer = answer
        events, error = await failure_of(provide())
        assert events[-1] == ContentBlockStop(0)
        assert isinstance(error, StreamIncomplete if ending == "clean" else ProviderError)
        assert text_of(events) == "Hel"

    @pytest.mark.requirement("E6")
    async def test_a_malformed_event_ends_the_call_after_what_came_before_it(self, raw_server, provide):
        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN + delta("Hel") + b'data: {"type": \n\n'))
            await exchange.closed_by_client()

        raw_server.answer = answer
        began = time.monotonic()
        events, error = await failure_of(provide(Timeouts()))
        assert isinstance(error, MalformedEvent)
        assert text_of(events) == "Hel"
        assert time.monotonic() - began < 5

    @pytest.mark.requirement("E6")
    async def test_a_malformed_event_may_be_skipped(self, raw_server, provide):
        body = BEGIN + delta("Hel") + b'data: {"type": \n\n' + delta("lo") + END
        raw_server.answer = lambda exchange: exchange.send(HEAD, chunk(body), LAST_CHUNK)
        assert text_of(await collect(provide(on_malformed="skip"))) == "Hello"

    @pytest.mark.requirement("E4")
    async def test_an_event_has_a_bounded_size(self, raw_server, provide):
        async def answer(exchange):
            await exchange.send(HEAD, chunk(BEGIN), *(chunk(b"data: " + b"x" * 4096),) * 8)
            await exchange.closed_by_client()

        raw_server.answer = answer
        _, error = await failure_of(provide(event_limit=8192))
        assert isinstance(error, EventTooLarge)

    async def test_a_redirect_to_another_origin_is_not_followed(self, raw_server, provide):
        """It would carry the key to another address."""
        head = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/other\r\nContent-Length: 0\r\n\r\n"
        raw_server.answer = lambda exchange: exchange.send(head)
        _, error = await failure_of(provide())
        assert error.provider_status == 307
        assert len(raw_server.exchanges) == 1

    @pytest.mark.requirement("D4")
    async def test_a_status_becomes_a_typed_error(self, raw_server, provide):
        body = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'
        head = b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n" % len(body)
        raw_server.answer = lambda exchange: exchange.send(head + body)
        _, error = await failure_of(provide())
        assert isinstance(error, RateLimited)
        assert error.retry_after == 7
        assert error.provider_status == 429
        assert "slow down" in (error.detail or "")

    @pytest.mark.parametrize("ends", [True, False])
    async def test_an_errors_body_is_read_with_bounds(self, raw_server, provide, monkeypatch, ends):
        monkeypatch.setattr(http_call, "ERROR_BODY_SECONDS", 0.1)
        head = b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n"

        async def answer(exchange):
            await exchange.send(head, *(chunk(b"x" * 65536) for _ in range(64 if ends else 0)))
            await exchange.closed_by_client()

        raw_server.answer = answer
        _, error = await failure_of(provide())
        assert isinstance(error, ProviderFailed)
        assert len(error.detail or "") <= http_call.ERROR_BODY_LIMIT
        async with asyncio.timeout(1):
            await raw_server.client_left.wait()


class TestKeys:
    @pytest.mark.requirement("K3")
    async def test_a_key_that_the_provider_repeats_is_masked(self, raw_server, provide, caplog):
        caplog.set_level(logging.DEBUG)
        words = (
            f'{{"type":"error","error":{{"type":"authentication_error","message":"bad key {KEY}"}}}}'.encode()
        )
        head = b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(words)
        raw_server.answer = lambda exchange: exchange.send(head + words)
        provider = provide(headers={"X-Second-Token": "tok-987654321"})
        _, error = await failure_of(provider)
        assert isinstance(error, AuthenticationFailed)
        shown = "".join(
            [*traceback.format_exception(error), repr(error), str(vars(error)), repr(provider), caplog.text]
        )
        assert "bad key" in shown
        assert KEY not in shown
        assert "tok-987654321" not in shown + repr(provider.endpoint)
        assert KEY not in repr(provider.endpoint)

    @pytest.mark.parametrize("key", ["sk-line\nbreak", "sk-\u20ac", "sk-nul\0"])
    def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(self, key):
        with pytest.raises(ConfigurationError) as caught:
            HttpProvider("test", WIRES["anthropic"], Endpoint("http://127.0.0.1", key))
        assert key not in str(caught.value)

    def test_credentials_in_the_url_are_refused_without_showing_them(self):
        with pytest.raises(ConfigurationError) as caught:
            HttpProvider("test", WIRES["anthropic"], Endpoint("https://user:secret@example.com"))
        assert "secret" not in str(caught.value)


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found"


def head_of(wire: str) -> bytes:
    kind = WIRES[wire].content_type.encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind


class TestUrls:
    @pytest.mark.parametrize(
        ("base", "path", "url"),
        [
            ("https://a.example", "/v1/messages", "https://a.example/v1/messages"),
            ("https://a.example/", "/v1/messages", "https://a.example/v1/messages"),
            ("https://a.example/v1", "/v1/messages", "https://a.example/v1/messages"),
            ("https://a.example/v1/", "/v1/messages", "https://a.example/v1/messages"),
            ("https://a.example/proxy/v1", "/v1/messages", "https://a.example/proxy/v1/messages"),
            ("https://a.example/v1/messages", "/v1/messages", "https://a.example/v1/messages"),
            ("https://o.example/v1", "/chat/completions", "https://o.example/v1/chat/completions"),
            ("https://o.example/v1/", "chat/completions", "https://o.example/v1/chat/completions"),
            (
                "https://o.example/v1/chat/completions",
                "/chat/completions",
                "https://o.example/v1/chat/completions",
            ),
            ("https://o.example/chat", "/chat/completions", "https://o.example/chat/chat/completions"),
            (
                "https://z.example/d?api-version=2",
                "/chat/completions",
                "https://z.example/d/chat/completions?api-version=2",
            ),
            ("http://[::1]:8000/v1", "/chat/completions", "http://[::1]:8000/v1/chat/completions"),
            (
                "https://g.example",
                "/v1beta/models/m:s?alt=sse",
                "https://g.example/v1beta/models/m:s?alt=sse",
            ),
            ("https://g.example/v1beta/", "/v1beta/models/m:g", "https://g.example/v1beta/models/m:g"),
            ("https://g.example/v1", "/v1beta/models/m:g", "https://g.example/v1/models/m:g"),
            (
                "https://g.example/x?key=k&alt=sse",
                "/v1beta/models/m:s?alt=sse",
                "https://g.example/x/v1beta/models/m:s?key=k&alt=sse",
            ),
            (
                "https://v.example/v1/projects/p/locations/l/publishers/google",
                "/v1beta/models/m:s?alt=sse",
                "https://v.example/v1/projects/p/locations/l/publishers/google/models/m:s?alt=sse",
            ),
            (
                "https://g.example/v1beta/models/m:s?alt=sse",
                "/v1beta/models/m:s?alt=sse",
                "https://g.example/v1beta/models/m:s?alt=sse",
            ),
        ],
    )
    def test_base_urls_as_people_write_them(self, base, path, url):
        assert call_url(split_base_url("x", base), path) == url

    @pytest.mark.fault(47)
    @pytest.mark.parametrize(
        ("base", "path", "other"),
        [
            ("https://o.example", "/chat/completions", "https://o.example/v1/chat/completions"),
            ("https://o.example/v1/", "/chat/completions", "https://o.example/chat/completions"),
            ("https://o.example/openai", "/responses", "https://o.example/openai/v1/responses"),
            ("https://o.example/d?x=1", "/responses", "https://o.example/d/v1/responses?x=1"),
            ("http://127.0.0.1:11434/v1", "/api/chat", "http://127.0.0.1:11434/api/chat"),
            ("http://127.0.0.1:11434", "/api/chat", None),
            ("https://a.example", "/v1/messages", None),
            ("https://o.example/v1/chat/completions", "/chat/completions", None),
            ("https://v.example/v1/projects/p", "/chat/completions", None),
        ],
    )
    def test_the_other_address_that_may_be_meant(self, base, path, other):
        found = Addresses(split_base_url("x", base)).other(path)
        assert (found and str(found[1])) == other

    @pytest.mark.fault(49)
    def test_the_addresses_that_are_kept_are_bounded(self):
        addresses = Addresses(split_base_url("x", "https://g.example"))
        for number in range(2000):
            addresses.of(f"/v1beta/models/m{number}:s?alt=sse")
        assert len(addresses._urls) <= 256

    @pytest.mark.fault(47)
    @pytest.mark.parametrize(
        ("wire", "given", "right"),
        [
            ("openai-chat", "", "/v1/chat/completions"),
            ("openai-chat", "/v1", "/v1/chat/completions"),
            ("openai-chat", "/v1", "/chat/completions"),
            ("openai-responses", "/proxy", "/proxy/v1/responses"),
            ("anthropic", "/v1", "/v1/messages"),
            ("ollama", "/v1", "/api/chat"),
        ],
    )
    async def test_a_base_url_works_with_and_without_its_version(
        self, raw_server, provide, wire, given, right
    ):
        """The address is settled by the first call: later ones are sent once."""
        decoder, encoder = WIRES["anthropic"].decoder(), WIRES[wire].encoder(model="x", message_id="m")
        body = encoder.feed([*decoder.feed(ANSWER), *decoder.close()]) + encoder.close()

        async def answer(exchange):
            path = exchange.head.split(" ")[1]
            await exchange.send(head_of(wire) + chunk(body) + LAST_CHUNK if path == right else NOT_FOUND)

        raw_server.answer = answer
        provider = provide(wire=wire, base_url=raw_server.url + given)
        first = text_of(await collect(provider))
        asked = len(raw_server.exchanges)
        assert first == text_of(await collect(provider)) == "Hello"
        assert asked <= 2
        assert len(raw_server.exchanges) == asked + 1

    @pytest.mark.fault(47)
    @pytest.mark.parametrize(("status", "given"), [(404, "/v1"), (405, ""), (404, "/wrong")])
    async def test_an_address_that_no_server_has_is_named(self, raw_server, provide, status, given):
        """The error is that of the address as it is written, and the other is not tried again."""
        raw_server.answer = lambda exchange: exchange.send(
            b"HTTP/1.1 %d No\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\noops" % status
        )
        provider = provide(wire="openai-chat", base_url=raw_server.url + given)
        for asked in (2, 3):
            _, error = await failure_of(provider)
            assert f"(asked at {given}/chat/completions)" in error.message
            assert len(raw_server.exchanges) == asked

    @pytest.mark.fault(47)
    async def test_a_model_that_is_not_found_is_told_as_the_first_address_tells_it(self, raw_server, provide):
        words = b'{"error":{"message":"The model x does not exist","code":"model_not_found"}}'

        async def answer(exchange):
            status = b"404" if b" /v1/" in exchange.head.encode() else b"403"
            text = words if status == b"404" else b"{}"
            await exchange.send(b"HTTP/1.1 %b No\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text), text))

        raw_server.answer = answer
        _, error = await failure_of(provide(wire="openai-chat", base_url=raw_server.url + "/v1"))
        assert "does not exist" in (error.detail or "")
        assert error.provider_status == 404

    @pytest.mark.fault(47)
    async def test_a_page_at_the_other_address_is_no_answer(self, raw_server, provide):
        async def answer(exchange):
            here = b" /v1/" in exchange.head.encode()
            page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\noops"
            await exchange.send(page if here else NOT_FOUND)

        raw_server.answer = answer
        _, error = await failure_of(provide(wire="openai-chat", base_url=raw_server.url))
        assert error.provider_status == 404
        assert "(asked at /chat/completions)" in error.message

    @pytest.mark.parametrize("base", ["", "a.example/v1", "ftp://a.example", "https://", "http://a:notaport"])
    def test_what_is_no_base_url(self, base):
        with pytest.raises(ConfigurationError):
            split_base_url("x", base)
