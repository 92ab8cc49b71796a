"""A response is written in few pieces: its head with its first bytes, and its last bytes with its end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Client, serving
from turnstream.engine import Engine
from turnstream.server.uvicorn_server import ConnectionProtocol


class CountedTransport:
    """A transport that records the writes."""

    def __init__(self, transport: asyncio.Transport, written: list[bytes]) -> None:
        self._transport = transport
        self._written = written

    def write(self, data: bytes) -> None:
        self._written.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All writes of a server's connections."""
    found: list[bytes] = []
    connected = ConnectionProtocol.connection_made

    def connection_made(self: ConnectionProtocol, transport: Any) -> None:
        connected(self, CountedTransport(transport, found))  # type: ignore[arg-type]

    monkeypatch.setattr(ConnectionProtocol, "connection_made", connection_made)
    return found


@pytest.mark.parametrize("model", ["sim/echo:pace=0", "sim/story:events=300,pace=0"])
async def test_a_stream_is_written_with_its_head_and_its_end(
    tmp_path: Path, written: list[bytes], model: str
) -> None:
    async with serving(Engine(f"sqlite:///{tmp_path}/a.sqlite").application()) as port:
        client = Client(port)
        chat = (await client.call("POST", "/chats")).json["id"]
        written.clear()
        body = {"model": model, "turn_blocks": "hello"}
        answer = await client.call("POST", f"/chats/{chat}/turns?stream=true", body)
        assert written[0].startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"event: turn_start\n" in written[0]
        assert written[-1].endswith(b"\r\n0\r\n\r\n")
        assert b"event: turn_complete\n" in written[-1]
        assert answer.body.count(b"event: turn_complete\n") == 1


async def test_a_json_answer_is_written_at_once(tmp_path: Path, written: list[bytes]) -> None:
    async with serving(Engine(f"sqlite:///{tmp_path}/a.sqlite").application()) as port:
        client = Client(port)
        assert (await client.call("POST", "/chats")).status == 201
        assert (await client.call("GET", "/chats/no-id")).status == 400
        assert len(written) == 2


async def test_a_head_does_not_wait_for_the_first_bytes(tmp_path: Path, written: list[bytes]) -> None:
    async with serving(Engine(f"sqlite:///{tmp_path}/a.sqlite").application()) as port:
        client = Client(port)
        reader, writer = await client.open("GET", "/events")
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        writer.transport.abort()
