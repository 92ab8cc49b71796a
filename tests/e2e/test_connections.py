"""Connections that carry more than a stream: bytes before, during and after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.e2e.processes import ServerProcess
from tests.server.live import Client, Watcher, read_chunks, read_head

SECONDS = 15.0
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def stream_request(turn_id: str, *headers: str) -> bytes:
    lines = [f"GET /api/turns/{turn_id}/stream HTTP/1.1", "Host: 127.0.0.1", "X-User: alice", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, headers = await read_head(reader)
    return status, b"".join([chunk async for chunk in chunks_to_the_last(reader, headers)])


async def chunks_to_the_last(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    async for chunk in read_chunks(reader, headers):
        yield chunk
    if "transfer-encoding" in headers:
        assert await reader.readexactly(2) == b"\r\n"


@pytest.mark.requirement("A2", "D7")
@pytest.mark.parametrize("when", ["with it", "during it", "after it"])
async def test_a_request_on_the_same_connection_is_answered_behind_the_stream(
    server: ServerProcess, when: str
) -> None:
    turn_id = await Client(server.port).start("hi", model="sim/story:events=30,pace=0.01,first=0.1")
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEALTH)
        assert (await read_answer(reader))[0] == 200
        writer.write(stream_request(turn_id) + (HEALTH if when == "with it" else b""))
        status, headers = await read_head(reader)
        assert status == 200
        body = b""
        async for chunk in chunks_to_the_last(reader, headers):
            if when == "during it" and not body:
                writer.write(HEALTH)
            body += chunk
        assert body.count(b"event: turn_complete\n") == 1
        if when == "after it":
            writer.write(HEALTH)
        status, answer = await read_answer(reader)
        assert (status, b'"ok"' in answer) == (200, True)
        writer.write(stream_request(turn_id))
        assert (await read_answer(reader))[1].count(b"event: turn_complete\n") == 1
        writer.close()


@pytest.mark.requirement("D7")
async def test_a_connection_that_is_to_close_is_closed_after_the_terminal_event(
    server: ServerProcess,
) -> None:
    turn_id = await Client(server.port).start("hi", model="sim/story:events=30,pace=0.01")
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(stream_request(turn_id, "Connection: close"))
        assert (await read_answer(reader))[1].count(b"event: turn_complete\n") == 1
        assert await reader.read() == b""
        writer.close()


@pytest.mark.requirement("D2", "C4")
async def test_a_client_that_talks_through_its_stream_harms_only_itself(server: ServerProcess) -> None:
    """The client sends megabytes while its stream runs. The server does not read them, and the stream
    continues."""
    turn_id = await Client(server.port).start("hi", model="sim/story:events=60,pace=0.01")
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(stream_request(turn_id))
        status, headers = await read_head(reader)
        writer.write(b"x" * 5_000_000)
        body = b"".join([chunk async for chunk in read_chunks(reader, headers)])
        writer.transport.abort()
    assert status == 200
    assert body.count(b"event: turn_complete\n") == 1
    watcher = Watcher(Client(server.port), turn_id)
    await watcher.watch_to_the_end()
    assert watcher.blocks == await watcher.client.stored(turn_id)
