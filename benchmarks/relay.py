"""The bare relay for comparison: bytes from an aiohttp client to plain ASGI, neither decoded nor stored.

python -m benchmarks.relay UPSTREAM_PORT
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

import aiohttp
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from benchmarks.processes import SERVER_CORE, give_back_memory, pin


class Relay:
    def __init__(self, upstream_port: int) -> None:
        self._url = f"http://127.0.0.1:{upstream_port}/v1/messages"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = (await receive())["body"]
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.post(self._url, data=body, timeout=timeout) as answer:
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print("ready", self.servers[0].sockets[0].getsockname()[1], flush=True)


async def main(upstream_port: int) -> None:
    pin(SERVER_CORE)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, give_back_memory)
    config = uvicorn.Config(
        Relay(upstream_port),
        port=0,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        backlog=4096,
        timeout_graceful_shutdown=1,
    )
    await _Server(config).serve()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
