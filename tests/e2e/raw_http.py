"""HTTP by hand over a socket, so that a test can cut a response at any byte and see exactly what was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

SECONDS = 20.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawStream:
    """One response, read piece by piece; leaving it drops the connection without a word."""

    def __init__(
        self,
        port: int,
        target: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        version: str = "1.1",
    ) -> None:
        self._port = port
        lines = [f"{method} {target} HTTP/{version}", f"Host: 127.0.0.1:{port}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method in {"POST", "PATCH"}:
            lines.append(f"Content-Length: {len(body)}")
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(SECONDS):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writer.write(self._request)
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(head[0].split(" ")[1])
        for line in head[1:-2]:
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def read(self) -> bytes | None:
        """The next piece of the body, as it was flushed; None at its end. A body that breaks off raises
        IncompleteReadError."""
        async with asyncio.timeout(SECONDS):
            if self.headers.get("transfer-encoding") != "chunked":
                length = int(self.headers.get("content-length", "-1"))
                data = await (self._reader.readexactly(length) if length >= 0 else self._reader.read())
                self.headers["content-length"] = "0"
                return data or None
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
        return data[:-2] if size else None

    async def read_all(self) -> bytes:
        pieces: list[bytes] = []
        while (piece := await self.read()) is not None:
            pieces.append(piece)
        return b"".join(pieces)


async def call(
    port: int,
    method: str,
    target: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One whole request. A `body` of bytes is sent as it is, anything else as JSON."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} if body is not None else {}
    async with RawStream(
        port, target, method=method, headers={**sent, **(headers or {})}, body=data
    ) as stream:
        return Answer(stream.status, stream.headers, await stream.read_all())
