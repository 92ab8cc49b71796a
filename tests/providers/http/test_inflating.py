"""Compressed answers in every encoding that servers use, cut anywhere."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.conftest import Exchange, RawServer
from turnstream.config import Timeouts
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError, StreamIncomplete
from turnstream.providers.connection import Connection
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.providers.inflating import InflatedBody, inflated
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest

BODY = (
    b'data: {"id":"c","model":"x","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}\n\n'
    b'data: {"id":"c","model":"x","choices":[{"index":0,"delta":{"content":" there"}}]}\n\n'
    b'data: {"id":"c","model":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
RAW = zlib.compressobj(wbits=-zlib.MAX_WBITS)
CODED = [
    ("gzip", gzip.compress(BODY)),
    ("x-gzip", gzip.compress(BODY)),
    ("gzip", gzip.compress(BODY[:100]) + gzip.compress(BODY[100:])),
    ("deflate", zlib.compress(BODY)),
    ("deflate", RAW.compress(BODY) + RAW.flush()),
]


class Arrived:
    """A connection whose bytes arrive as the test orders."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = False
        self.failure: Exception | None = None

    def take(self) -> bytes:
        data = b"".join(self.pieces)
        self.pieces.clear()
        return data


def inflate(coding: str, pieces: list[bytes]) -> Iterator[bytes]:
    connection = Arrived()
    body = InflatedBody(cast("Connection", connection), coding)
    for piece in pieces:
        connection.pieces.append(piece)
        while body.pieces:
            assert not body.ended
            yield body.take()
    assert not body.ended
    connection.ended = True
    assert body.ended


@pytest.mark.parametrize(("coding", "data"), CODED)
@given(cuts=st.sets(st.integers(1, 400), max_size=6))
def test_any_cut_gives_the_same_events(coding: str, data: bytes, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert b"".join(inflate(coding, pieces)) == BODY


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_inflated_or_refused(data: bytes) -> None:
    for coding in ("gzip", "deflate"):
        try:
            b"".join(inflate(coding, [data]))
        except StreamIncomplete:
            continue
        inflated(data, coding, 10)


def test_what_is_not_asked_for_is_said() -> None:
    with pytest.raises(StreamIncomplete, match="'br'"):
        InflatedBody(cast("Connection", Arrived()), "br")


@pytest.mark.fault(39)
@pytest.mark.parametrize("pieces", [1, 7])
def test_a_few_bytes_that_become_very_many_are_inflated_in_bounded_pieces(pieces: int) -> None:
    bomb = gzip.compress(b"x" * 10_000_000)
    cuts = [len(bomb) * number // pieces for number in range(pieces + 1)]
    taken = [len(piece) for piece in inflate("gzip", [bomb[start:end] for start, end in pairwise(cuts)])]
    assert sum(taken) == 10_000_000
    assert max(taken) == 64 * 1024
    assert len(inflated(bomb, "gzip", 1000)) == 1000


BATCHES = 3000


def compressed(*parts: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
    return head + gzip.compress(b"".join(parts))


async def called(server: RawServer, body: bytes) -> AsyncIterator[Sequence[StreamEvent]]:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(body)
        exchange.writer.close()

    server.answer = answer
    endpoint = Endpoint(base_url=server.url, event_limit=100_000)
    provider = HttpProvider("test", WIRES["openai-chat"], endpoint, Timeouts())
    try:
        async with asyncio.timeout(30), provider.stream(ModelRequest(model="m", messages=[])) as batches:
            async for batch in batches:
                yield batch
    finally:
        await provider.close()


def delta(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}}
    return b"data: %b\n\n" % json.dumps({"id": "c", "model": "x", "choices": [choice]}).encode()


@pytest.mark.fault(39)
async def test_a_long_answer_in_one_compressed_read_comes_in_pieces_and_lets_others_run(
    raw_server: RawServer,
) -> None:
    many = delta("x" * 1000) * BATCHES
    end = BODY[BODY.rindex(b'data: {"id"') :]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(others())
    try:
        sizes = [len(batch) async for batch in called(raw_server, compressed(many, end))]
    finally:
        other.cancel()
    assert sum(sizes) >= BATCHES
    assert max(sizes) < 100
    assert turns >= len(sizes)


@pytest.mark.requirement("D6")
@pytest.mark.fault(39)
@pytest.mark.parametrize("places", [0.3, 0.5, 0.7])
async def test_a_cut_compressed_body_is_not_whole(raw_server: RawServer, places: float) -> None:
    body = compressed(BODY)
    head = body.index(b"\r\n\r\n") + 4
    with pytest.raises(StreamIncomplete):
        [batch async for batch in called(raw_server, body[: head + int((len(body) - head) * places)])]


@pytest.mark.requirement("E4")
async def test_a_bomb_of_one_event_is_refused(raw_server: RawServer) -> None:
    with pytest.raises(ProviderError, match="more than 100000 bytes"):
        [batch async for batch in called(raw_server, compressed(b"data: " + b"x" * 50_000_000))]


@pytest.mark.requirement("E6")
async def test_events_before_a_fault_are_given_first(raw_server: RawServer) -> None:
    given_first = []
    with pytest.raises(ProviderError, match="JSON"):  # noqa: PT012 - what came before the error counts
        async for batch in called(raw_server, compressed(BODY.replace(b"\n\n", b"\n\ndata: {oh\n\n", 1))):
            given_first += batch
    assert given_first
