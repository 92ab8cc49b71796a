"""Servers that stop and come back at the same address: only the HTTP side, over an engine that keeps running;
or a whole process that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import uvicorn
from starlette.types import ASGIApp

from tests.faults.processes import RunningProcess
from tests.faults.server_process import Started
from tests.server.live import QuietServer
from turnstream.config import EngineSettings
from turnstream.engine import VERSION, Engine
from turnstream.server.application import build_application
from turnstream.server.uvicorn_server import (
    ConnectionProtocol,
    address_of,
    bind,
    loop_factory,
    run_application,
)

SECONDS = 20.0


class AbruptServer(QuietServer):
    """A uvicorn server that ends like a killed process: at once, with every connection cut."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self.serving.set()
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.servers:
            listener.close()
        for bound in sockets or ():
            bound.close()
        for connection in list(self.server_state.connections):
            connection.abort()  # type: ignore[union-attr]


class Cuts:
    """The plan of a server's death: after a number of sent bytes, within a write."""

    def __init__(self) -> None:
        self.left: int | None = None
        """Bytes that may still be sent, or None for any number."""
        self.died = asyncio.Event()
        self.torn: list[bytes] = []
        """The sent part of each piece that was cut."""

    def protocol(self) -> type[ConnectionProtocol]:
        """The server's own connection protocol, over sockets that are cut."""
        cuts = self

        class CutConnection(ConnectionProtocol):
            def connection_made(self, transport: asyncio.Transport) -> None:
                super().connection_made(cast("asyncio.Transport", CutSocket(transport, cuts)))

        return CutConnection


class CutSocket:
    """A transport that sends the allowed bytes, then closes the connection."""

    def __init__(self, transport: asyncio.Transport, cuts: Cuts) -> None:
        self._transport = transport
        self._cuts = cuts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        left = self._cuts.left
        if self._cuts.died.is_set():
            return
        if left is None or len(data) < left:
            self._cuts.left = None if left is None else left - len(data)
            self._transport.write(data)
            return
        self._transport.write(data[:left])
        self._transport.close()
        self._cuts.torn.append(data[:left])
        self._cuts.died.set()


class RestartingServer:
    """Serves an application at `url`, stops without notice, and serves again at the same port."""

    def __init__(self, application: ASGIApp, protocol: type[ConnectionProtocol] = ConnectionProtocol) -> None:
        self.starts = 0
        self._protocol = protocol
        self._application = application
        self._port = 0
        self._server: AbruptServer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        bound = bind("127.0.0.1", self._port)
        self._port = bound[0].getsockname()[1]
        config = uvicorn.Config(
            self._application,
            http=self._protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
        )
        self._server = AbruptServer(config)
        self._task = asyncio.create_task(self._server.serve(bound))
        async with asyncio.timeout(SECONDS):
            await self._server.serving.wait()
        self.starts += 1

    async def stop(self) -> None:
        """Cut every connection, and refuse new ones."""
        server, task = self._server, self._task
        self._server = self._task = None
        if server is None or task is None:
            return
        server.stopping.set()
        async with asyncio.timeout(SECONDS):
            await task


@dataclass(frozen=True)
class Life:
    """Run a server process. The port 0 chooses a free port."""

    database: Path
    port: int
    journal_interval: float

    @property
    def log(self) -> Path:
        return self.database.with_suffix(".log")


def process(life: Life) -> RunningProcess:
    return RunningProcess(run_life, life)


def run_life(life: Life, ready: Connection) -> None:
    """Serve until a signal. Send a Started to `ready`."""
    descriptor = os.open(life.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    with asyncio.Runner(loop_factory=loop_factory()) as runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(_serve(life, ready))


async def _serve(life: Life, ready: Connection) -> None:
    settings = EngineSettings(journal_interval=life.journal_interval)
    async with Engine(f"sqlite:///{life.database}", settings=settings) as engine:
        bound = bind("127.0.0.1", life.port)
        await run_application(
            build_application(engine.router(), version=VERSION),
            bound,
            drain=engine.drain,
            grace=0.0,
            on_listening=lambda: ready.send(Started(address_of(bound, "127.0.0.1"), 0.0)),
        )
