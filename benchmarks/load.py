"""The load: HTTP clients on bare sockets. They only count, so they cost less than the measured systems."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.upstream import MARK, STAMP_LENGTH, age

_END = b"0\r\n\r\n"


def request(method: str, path: str, port: int, body: bytes = b"") -> bytes:
    """Return the bytes of one request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Tally:
    """Counts of all streams of one measurement.

    `ages`: microseconds from the write of the oldest event of a read to that read. `reached`: time of the
    last read, by stamp.
    """

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.ages: list[int] = []
        self.reached: dict[bytes, int] = {}

    def reset(self) -> None:
        self.__init__()


class Stream(asyncio.Protocol):
    """One connection, and one event stream at a time on it."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.events = 0
        self.bytes = 0
        self.status = 0
        self.first_at = 0
        self.body: list[bytes] | None = None
        """Set it to a list to keep what comes."""
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._wanted = 0
        self._enough: asyncio.Future[None] | None = None
        self._head = bytearray()
        self._in_head = True

    @classmethod
    async def connect(cls, port: int, tally: Tally) -> Stream:
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: cls(tally), "127.0.0.1", port)
        return stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def ask(self, data: bytes) -> None:
        """Send a request; the counts of the stream before are forgotten."""
        loop = asyncio.get_running_loop()
        self.events = self.bytes = self.first_at = 0
        if self.begun.done():
            self.begun = loop.create_future()
        if self.ended.done():
            self.ended = loop.create_future()
        self._in_head = True
        self.transport.write(data)

    async def received(self, events: int) -> None:
        """Wait until so many events have come on this stream."""
        if self.events < events:
            self._wanted = events
            self._enough = asyncio.get_running_loop().create_future()
            await self._enough

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += data
            head, separator, data = bytes(self._head).partition(b"\r\n\r\n")
            if not separator:
                return
            self.status = int(head[9:12])
            self._head.clear()
            self._in_head = False
        tally = self.tally
        tally.bytes += len(data)
        self.bytes += len(data)
        count = data.count(MARK)
        if self.body is not None:
            self.body.append(data)
        if count:
            now = time.monotonic_ns() // 1000
            if not self.first_at:
                self.first_at = now
                if not self.begun.done():
                    self.begun.set_result(None)
            self.events += count
            tally.events += count
            at = data.find(MARK) + 1
            text = data[at : at + STAMP_LENGTH]
            if len(text) == STAMP_LENGTH and text.isdigit():  # else the read ends, or a chunk, within it
                tally.ages.append(age(text, now))
                tally.reached[text] = now
            if self._wanted and self.events >= self._wanted and self._enough is not None:
                self._wanted = 0
                self._enough.set_result(None)
        if data.endswith(_END) and not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        for waiting in (self.begun, self.ended, self._enough):
            if waiting is not None and not waiting.done():
                waiting.cancel()

    def close(self) -> None:
        self.transport.abort()
