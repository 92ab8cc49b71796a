"""A network that drops connections: a TCP proxy that cuts each of the first connections after some bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Stands before `target` (host, port) as an async context manager, at `url`. Connection k carries
    `limits[k]`
    bytes of answers and is then cut in both directions; those after the last limit are left alone. With
    `method`, only connections that begin with a request of this method count."""

    def __init__(self, target: tuple[str, int], limits: Sequence[int], method: str = "") -> None:
        self.url = ""
        self.cuts = 0
        self._target = target
        self._limits = list(limits)
        self._method = method.encode()
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        begun = await reader.read(64 * 1024) if self._method else b""
        counts = self._limits and begun.startswith(self._method)
        limit = self._limits.pop(0) if counts else None
        onward_reader, onward_writer = await asyncio.open_connection(*self._target)
        onward_writer.write(begun)
        requests = asyncio.create_task(_copy(reader, onward_writer))
        try:
            while data := await onward_reader.read(64 * 1024):
                if limit is not None and len(data) >= limit:
                    writer.write(data[:limit])
                    await writer.drain()
                    self.cuts += 1
                    break
                limit = limit - len(data) if limit is not None else None
                writer.write(data)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # either side may leave at any moment, and so may the proxy: that is what it is for
        finally:
            requests.cancel()
            await asyncio.gather(requests, return_exceptions=True)
            for side in (writer, onward_writer):
                side.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
