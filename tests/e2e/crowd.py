"""Many watchers on real sockets. A watcher only notes the bytes and their times, which is cheap. The bytes
are decoded afterwards."""

from __future__ import annotations

import asyncio
import bisect
import json
import re
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import Any

from turnstream.core.native_fold import TERMINAL_NAMES, NativeFold
from turnstream.core.sse import SseDecoder

SECONDS = 40.0
_TIME = re.compile(rb"<(\d+\.\d{6})>")


class Recorder(asyncio.Protocol):
    """One connection: the received pieces, each with its time."""

    def __init__(self, request: bytes) -> None:
        self.pieces: list[bytes] = []
        self.times: list[float] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._size = 0
        self._awaited = 0
        self._enough: asyncio.Future[None] | None = None
        self._marker: bytes | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.times.append(time.monotonic())
        self.pieces.append(data)
        self._size += len(data)
        if self._enough is not None and self._size >= self._awaited and not self._enough.done():
            self._enough.set_result(None)
        self._look_for_marker()
        if data.endswith(b"\r\n0\r\n\r\n") or data == b"0\r\n\r\n":
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    async def received(self, count: int) -> None:
        """Wait until `count` bytes have been received."""
        self._awaited = count
        if self._size < count:
            self._enough = asyncio.get_running_loop().create_future()
            await self._enough

    async def shows(self, marker: bytes) -> None:
        """Wait until a piece, or two adjacent pieces, contain a marker."""
        self._marker = marker
        self._awaited = sys.maxsize
        self._enough = asyncio.get_running_loop().create_future()
        self._look_for_marker()
        await self._enough

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _look_for_marker(self) -> None:
        if self._marker is None or self._enough is None or self._enough.done():
            return
        if self._marker in b"".join(self.pieces[-2:]):
            self._enough.set_result(None)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def body(self) -> bytes:
        """Return the body so far, without its chunk framing. Its last chunk may be incomplete."""
        head, _, rest = b"".join(self.pieces).partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            return b""
        body: list[bytes] = []
        place = 0
        while (line_end := rest.find(b"\r\n", place)) >= 0:
            size = int(rest[place:line_end], 16)
            body.append(rest[line_end + 2 : line_end + 2 + size])
            place = line_end + 2 + size + 2
        return b"".join(body)

    def delays(self) -> list[float]:
        """Return, for each timed delta, the seconds from its creation to its arrival."""
        whole = b"".join(self.pieces)
        ends: list[int] = []
        for piece in self.pieces:
            ends.append((ends[-1] if ends else 0) + len(piece))
        return [
            self.times[bisect.bisect_left(ends, match.end())] - float(match[1])
            for match in _TIME.finditer(whole)
        ]


class Member:
    """A watcher of the crowd, over all of its connections."""

    def __init__(self, port: int, turn_id: str) -> None:
        self.fold = NativeFold()
        self.ids: list[str] = []
        self.names: list[str] = []
        self.connections: list[Recorder] = []
        self._port = port
        self.turn_id = turn_id

    @property
    def blocks(self) -> list[Any]:
        return self.fold.blocks

    async def connect(self) -> Recorder:
        lines = [f"GET /api/turns/{self.turn_id}/stream HTTP/1.1", "Host: 127.0.0.1", "X-User: alice"]
        if self.ids:
            lines.append(f"Last-Event-ID: {self.ids[-1]}")
        request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        loop = asyncio.get_running_loop()
        _, recorder = await loop.create_connection(lambda: Recorder(request), "127.0.0.1", self._port)
        self.connections.append(recorder)
        return recorder

    def leave(self) -> None:
        """Drop the connection, then fold the events that arrived whole."""
        self.connections[-1].drop()
        self.take_in()

    def take_in(self) -> None:
        """Fold the events of the last connection."""
        decoder = SseDecoder(event_limit=1 << 26)
        for name, data, identity in decoder.feed(self.connections[-1].body()):
            assert name is not None
            assert identity is not None
            assert self.fold.ending is None or name == b"turn_start", f"{name!r} after the end"
            self.names.append(name.decode())
            self.ids.append(identity.decode())
            self.fold.feed(name.decode(), json.loads(data))

    def terminal_events(self) -> list[str]:
        return [name for name in self.names if name in TERMINAL_NAMES]


async def all_ended(members: Iterable[Member]) -> None:
    """Wait for the end of each member's last connection, then fold its events."""
    async with asyncio.timeout(SECONDS):
        for member in members:
            await member.connections[-1].ended
    for member in members:
        member.connections[-1].drop()
        member.take_in()


@asynccontextmanager
async def stalled_watchers(port: int, turn_id: str, count: int) -> Any:
    """Watchers with the smallest possible receive window. They never read, so the window closes and stays
    closed."""
    sockets: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    request = f"GET /api/turns/{turn_id}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nX-User: alice\r\n\r\n"
    try:
        for _ in range(count):
            connection = socket.socket()
            sockets.append(connection)
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            await loop.sock_connect(connection, ("127.0.0.1", port))
            await loop.sock_sendall(connection, request.encode())
        yield sockets
    finally:
        for connection in sockets:
            connection.close()
