"""Addresses that HttpProvider asks."""

from __future__ import annotations

import pytest

from tests.providers.http.answers import ANSWER, LAST_CHUNK, chunk, collect, failure_of, text_of
from turnstream.errors import (
    ConfigurationError,
)
from turnstream.providers.endpoints import Addresses, call_url, split_base_url
from turnstream.wires import WIRES

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
