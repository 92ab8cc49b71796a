"""Plain answers over a socket, requested or not (requirement J3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from turnstream.config import Timeouts
from turnstream.core.answers import Answer, fold_answer
from turnstream.core.blocks import Block
from turnstream.core.stream_events import MessageStop, StreamEvent
from turnstream.errors import EventTooLarge, MalformedEvent, ProviderError, ProviderTimeout, StreamIncomplete
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest

TIMEOUTS = Timeouts(connect=5, first_token=5, idle=0.3, total=10)
WIRE_NAMES = ["anthropic", "openai-chat", "ollama"]
SAID = "<think>Hm.</think>\n\nHello, Wörld"
DEADLINE = 10.0


def plain(wire: str) -> bytes:
    answer = Answer("m", "x", (Block(0, "text", SAID),), MessageStop("end_turn"))
    return WIRES[wire].encode_answer(answer)


def head(body: bytes, content_type: str = "application/json") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode()


@pytest.fixture
async def provide(raw_server) -> AsyncIterator[Callable[..., HttpProvider]]:
    made: list[HttpProvider] = []

    def make(wire: str, **endpoint) -> HttpProvider:
        made.append(HttpProvider("test", WIRES[wire], Endpoint(raw_server.url, **endpoint), TIMEOUTS))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()


async def collect(provider: HttpProvider, *, stream: bool) -> list[StreamEvent]:
    request = ModelRequest("x", (), params={"max_tokens": 8}, stream=stream)
    events: list[StreamEvent] = []
    async with asyncio.timeout(DEADLINE), provider.stream(request) as batches:
        async for batch in batches:
            events.extend(batch)
    return events


@pytest.mark.requirement("J3")
@pytest.mark.parametrize("wire", WIRE_NAMES)
@pytest.mark.parametrize("stream", [True, False])
async def test_one_object_is_the_events_of_a_stream(raw_server, provide, wire: str, stream: bool) -> None:
    body = plain(wire)

    async def answer(exchange) -> None:
        await exchange.send(head(body) + body[:20])
        for start in range(20, len(body), 31):
            await exchange.send(body[start : start + 31])

    raw_server.answer = answer
    provider = provide(wire)
    for _ in range(2):
        told = fold_answer(await collect(provider, stream=stream))
        assert told.complete
        assert [block.text_content for block in told.blocks] == [SAID]
    assert raw_server.connections == 1, "a body that was read to its end leaves a connection for the next"
    asked = raw_server.exchanges[0]
    assert msgspec.json.decode(asked.body).get("stream", False) is stream
    accepts = "application/json" if not stream else WIRES[wire].content_type
    assert f"accept: {accepts}" in asked.head.lower()


@pytest.mark.requirement("J3", "L4")
async def test_thinking_between_tags_is_found_in_plain_answers_too(raw_server, provide) -> None:
    body = plain("openai-chat")
    raw_server.answer = lambda exchange: exchange.send(head(body), body)
    told = fold_answer(await collect(provide("openai-chat", think_tags=("x",)), stream=False))
    assert [(block.block_type, block.text_content) for block in told.blocks] == [
        ("thinking", "Hm."),
        ("text", "Hello, Wörld"),
    ]


@pytest.mark.requirement("J3", "D6")
@pytest.mark.parametrize(
    ("sent", "closes", "error"),
    [
        (b"", True, StreamIncomplete),
        (plain("anthropic")[:40], True, StreamIncomplete),
        (plain("anthropic")[:40], False, ProviderTimeout),
        (b'{"what": 1}', None, MalformedEvent),
        (b"{", None, StreamIncomplete),
        (b" " * 5000, None, EventTooLarge),
    ],
)
async def test_half_an_object_is_no_answer(
    raw_server, provide, sent: bytes, closes: bool | None, error: type[ProviderError]
) -> None:
    async def answer(exchange) -> None:
        length = len(sent) if closes is None else len(sent) + 10
        await exchange.send(head(b" " * length), sent)
        if closes:
            exchange.writer.close()
        elif closes is False:
            await exchange.closed_by_client()

    raw_server.answer = answer
    provider = HttpProvider(
        "test",
        WIRES["anthropic"],
        Endpoint(raw_server.url, event_limit=4096),
        TIMEOUTS.model_copy(update={"first_token": 0.3}),
    )
    with pytest.raises(ProviderError) as raised:
        await collect(provider, stream=False)
    await provider.close()
    assert type(raised.value) is error
