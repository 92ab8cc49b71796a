"""Failures of a call over HTTP, and their errors."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import traceback

import pytest

from tests.providers.http.answers import (
    BEGIN,
    DEADLINE,
    END,
    HEAD,
    KEY,
    LAST_CHUNK,
    PATIENT,
    REQUEST,
    chunk,
    collect,
    delta,
    event,
    extend,
    failure_of,
    text_of,
)
from turnstream.config import Timeouts
from turnstream.core.stream_events import (
    ContentBlockStop,
    StreamEvent,
)
from turnstream.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    EventTooLarge,
    MalformedEvent,
    ProviderError,
    ProviderFailed,
    RateLimited,
    StreamIncomplete,
)
from turnstream.providers import http_call
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.wires import WIRES


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
        """The received but unread bytes are delivered as well when the cut is noticed."""
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
            while call._connection.failure is None:  # noqa: ASYNC110  only the next read raises it
                await asyncio.sleep(0)
            with pytest.raises(StreamIncomplete) as caught:
                await extend(events, call)
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
        """A stop waits for the bytes after it. If none come, the block is still whole."""
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
