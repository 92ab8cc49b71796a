"""An application served on a real socket, and watchers that cut their connection at an exact byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from turnstream.core.native_fold import TERMINAL_NAMES, NativeFold
from turnstream.core.sse import SseDecoder
from turnstream.server.uvicorn_server import ConnectionProtocol, bind

SECONDS = 30.0


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers, since the process belongs to the test."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@asynccontextmanager
async def serving(application: ASGIApp) -> AsyncGenerator[int, None]:
    """Serve the application with its lifespan. Return the port."""
    bound = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        application, http=ConnectionProtocol, ws="none", lifespan="on", log_config=None, access_log=False
    )
    server = QuietServer(config)
    task = asyncio.create_task(server.serve(bound))
    async with asyncio.timeout(SECONDS):
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0)
    try:
        yield bound[0].getsockname()[1]
    finally:
        server.should_exit = True
        async with asyncio.timeout(SECONDS):
            await task


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Requests over plain sockets. `headers` are sent with each request."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)
    prefix: str = "/api"

    async def open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {
            "Host": f"127.0.0.1:{self.port}",
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(payload)),
            **self.headers,
            **(headers or {}),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        writer.write(f"{method} {self.prefix}{path} HTTP/1.1\r\n{lines}\r\n".encode() + payload)
        return reader, writer

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        async with asyncio.timeout(SECONDS):
            reader, writer = await self.open(method, path, body, headers)
            try:
                status, answered = await read_head(reader)
                chunks = [chunk async for chunk in read_chunks(reader, answered)]
            finally:
                writer.close()
        return Answer(status, answered, b"".join(chunks))

    async def start(self, text: str, **fields: Any) -> str:
        """Start a turn in a new chat. Return the assistant turn's id."""
        chat = (await self.call("POST", "/chats")).json["id"]
        body = {"turn_blocks": [{"block_type": "text", "text_content": text}], **fields}
        answer = await self.call("POST", f"/chats/{chat}/turns", body)
        assert answer.status == 201, answer
        return answer.json["assistant_turn"]["id"]

    async def stored(self, turn_id: str) -> list[dict[str, Any]]:
        """Return the blocks as the API gives them, without their ids and times."""
        answer = await self.call("GET", f"/turns/{turn_id}/blocks")
        return [
            {key: row[key] for key in ("sequence", "block_type", "text_content", "content", "partial")}
            for row in answer.json["blocks"]
        ]


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.split(": ", 1) for line in head[1:] if line)
    return int(head[0].split(" ")[1]), {name.lower(): value for name, value in fields}


async def read_chunks(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncGenerator[bytes, None]:
    """Yield the body's pieces as they arrive. Raises IncompleteReadError at a cut."""
    if headers.get("transfer-encoding") != "chunked":
        if length := int(headers.get("content-length", 0)):
            yield await reader.readexactly(length)
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]


class Watcher:
    """Watches one turn over any number of connections, each cut at a given place."""

    def __init__(self, client: Client, turn_id: str) -> None:
        self.client = client
        self.turn_id = turn_id
        self.fold = NativeFold()
        self.ids: list[str] = []
        self.names: list[str] = []
        self.connections = 0
        self.bytes_seen = 0

    @property
    def ended(self) -> bool:
        return self.fold.ending is not None

    @property
    def blocks(self) -> list[dict[str, Any]]:
        return [
            {
                "sequence": block.sequence,
                "block_type": block.block_type,
                "text_content": block.text_content,
                "content": block.content,
                "partial": block.partial,
            }
            for block in self.fold.blocks
        ]

    async def watch(self, *, limit: int | None = None, events: int | None = None, query: bool = False) -> int:
        """Watch after the last whole event. Cut after `limit` bytes of the body, or after `events` events.

        Returns the status. An unfinished event at the cut is dropped, as PROTOCOL.md says.
        """
        self.connections += 1
        path, headers = f"/turns/{self.turn_id}/stream", {}
        if self.ids and query:
            path += f"?after={self.ids[-1]}"
        elif self.ids:
            headers["Last-Event-ID"] = self.ids[-1]
        async with asyncio.timeout(SECONDS):
            reader, writer = await self.client.open("GET", path, headers=headers)
            try:
                status, answered = await read_head(reader)
                if status == 200:
                    await self._read(reader, answered, limit, events)
            finally:
                writer.transport.abort()
        return status

    async def _read(
        self, reader: asyncio.StreamReader, headers: dict[str, str], limit: int | None, events: int | None
    ) -> None:
        decoder = SseDecoder(event_limit=1 << 26)
        left = limit
        seen = 0
        async for chunk in read_chunks(reader, headers):
            data = chunk if left is None else chunk[:left]
            self.bytes_seen += len(data)
            for name, payload, identity in decoder.feed(data):
                assert name is not None
                assert identity is not None
                self.take(name.decode(), identity.decode(), json.loads(payload))
                seen += 1
                if seen == events:
                    return
            if left is not None:
                left -= len(data)
                if left == 0:
                    return

    def take(self, name: str, identity: str, data: dict[str, Any]) -> None:
        assert not self.ended or name == "turn_start", f"{name} after the end"
        self.names.append(name)
        self.ids.append(identity)
        self.fold.feed(name, data)

    async def watch_to_the_end(self) -> None:
        while not self.ended:
            status = await self.watch()
            assert status == 200

    def terminal_events(self) -> list[str]:
        return [name for name in self.names if name in TERMINAL_NAMES]
