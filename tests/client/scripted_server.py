"""A server that follows a script: raw sockets, one request per connection, with cuts at given bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

SECONDS = 20.0

End = Literal["close", "cut", "silent", "lost", "mute"]


@dataclass(frozen=True)
class Reply:
    """One answer. `end`: see cases.yaml; `lost`: the connection is reset before any of the answer is sent;
    `mute`: it is
    left open without an answer. `pieces`: bytes per write, 0 for all at once; `pace`: seconds between
    them."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    end: End = "close"
    pieces: int = 0
    pace: float = 0.0


def json_reply(value: Any, status: int = 200, **fields: Any) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"}, **fields)


@dataclass(frozen=True)
class Asked:
    """One request; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """Gives its replies in turn, at `url`; a function makes a reply from what was asked. A request that no
    reply is
    left for fails the test when the context ends."""

    def __init__(self, replies: Sequence[Reply | Callable[[Asked], Awaitable[Reply]]] = ()) -> None:
        self.replies = list(replies)
        self.asked: list[Asked] = []
        self.gone = 0
        """Connections that the client has left."""
        self.url = ""
        self._surplus: list[Asked] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if kind is None:
            assert not self._surplus, f"nobody should have asked {self._surplus}"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the requests, or the connections that the client closed, satisfy a condition."""
        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(condition)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            asked = await _read_request(reader)
            await self._note(asked)
            await self._answer(asked, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a client may leave at any moment, and so may the test
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _note(self, asked: Asked | None) -> None:
        async with self._changed:
            if asked is None:
                self.gone += 1
            else:
                self.asked.append(asked)
            self._changed.notify_all()

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.replies:
            self._surplus.append(asked)
            return
        reply = self.replies.pop(0)
        reply = await reply(asked) if callable(reply) else reply
        if reply.end in ("lost", "mute"):
            if reply.end == "mute":
                await self._until_gone(reader)
            return
        headers = {"Content-Type": "text/event-stream", "Connection": "close", **reply.headers}
        if reply.status != 204:
            headers["Transfer-Encoding"] = "chunked"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{head}\r\n".encode())
        for piece in _pieces(reply):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(reply.pace)
        if reply.end == "silent":
            await self._until_gone(reader)
        elif reply.end == "close" and reply.status != 204:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async def _until_gone(self, reader: asyncio.StreamReader) -> None:
        try:
            await reader.read()
        except ConnectionError:
            pass  # a reset is a goodbye too
        await self._note(None)


async def _read_request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body)


def _pieces(reply: Reply) -> list[bytes]:
    size = reply.pieces or len(reply.body) or 1
    return [reply.body[start : start + size] for start in range(0, len(reply.body), size)]
