"""A server's answers, byte by byte, and a provider that reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from turnstream.config import Timeouts
from turnstream.core.stream_events import (
    StreamEvent,
    TextDelta,
)
from turnstream.errors import (
    ProviderError,
)
from turnstream.providers.http import HttpProvider
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

ANSWER = BEGIN + delta("Hel") + delta("lo") + END
REQUEST = ModelRequest("x", (), params={"max_tokens": 8})


async def collect(provider: HttpProvider, request: ModelRequest = REQUEST) -> list[StreamEvent]:
    async with asyncio.timeout(DEADLINE), provider.stream(request) as batches:
        return [one async for batch in batches for one in batch]


async def failure_of(provider: HttpProvider) -> tuple[list[StreamEvent], ProviderError]:
    """Received events, and the error that ended them."""
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


async def extend(events: list[StreamEvent], batches: AsyncIterator[Sequence[StreamEvent]]) -> None:
    async for batch in batches:
        events.extend(batch)
