"""A provider for tests: a socket server that answers with given bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    item: pytest.Function,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loops of the tests: uvloop, as in our server, and Python's own. A module with `BOTH_LOOPS`
    runs on both."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if getattr(item.module, "BOTH_LOOPS", False):
        loops["uvloop"] = uvloop.new_event_loop
    return loops


class Exchange:
    """One request, as the server received it."""

    def __init__(self, server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.head = ""
        self.body = b""

    async def read(self) -> None:
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [line for line in self.head.lower().splitlines() if line.startswith("content-length:")]
        self.body = await self.reader.readexactly(int(lengths[0].split(":")[1]))

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def closed_by_client(self) -> None:
        """Wait until the client closes its side."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        self.writer.close()

    def reset(self) -> None:
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class RawServer:
    """Plays `answer` for each request on a connection."""

    def __init__(self) -> None:
        self.connections = 0
        self.exchanges: list[Exchange] = []
        self.client_left = asyncio.Event()
        self.url = ""
        self.answer: Callable[[Exchange], Awaitable[None]]
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                exchange = Exchange(self, reader, writer)
                await exchange.read()
                self.exchanges.append(exchange)
                await self.answer(exchange)
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.client_left.set()
            writer.close()


@pytest.fixture
async def raw_server() -> AsyncIterator[RawServer]:
    server = RawServer()
    await server.start()
    yield server
    await server.stop()
