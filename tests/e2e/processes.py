"""The server as `turnstream serve` runs it, in a process of its own, for clients on real sockets.

A request names its user in `X-User`, so a test can act for several users. The tests' own routes: `POST
/paced`, `POST /large` and `POST /blocks` start turns that wait for `POST /go`, and `GET /inspection` returns
counts of the process.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from fastapi import FastAPI
from starlette.requests import Request

from tests.e2e.tools import ask_the_way, look_out
from turnstream.config import EngineSettings, ServerSettings
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.engine import VERSION, Engine
from turnstream.errors import Unauthorized
from turnstream.server.application import build_application
from turnstream.server.auth import Principal
from turnstream.server.uvicorn_server import address_of, bind, loop_factory, run_application

START_SECONDS = 20.0
END_SECONDS = 10.0
MAX_BODY = 64 * 1024
SEND_BUFFER = 16 * 1024

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["psutil", "turnstream.engine", "turnstream.server.uvicorn_server", "uvloop"])


@dataclass(frozen=True)
class ServerPlan:
    """Options of a server process. Its log is in the folder of the database."""

    database: Path
    engine: EngineSettings = field(default_factory=lambda: EngineSettings(heartbeat=0.2))


def by_header(request: Request) -> Principal:
    user = request.headers.get("x-user", "alice")
    if user == "nobody":
        raise Unauthorized("nobody may not")
    return Principal(user, {"from": user})


def run_server(plan: ServerPlan, ready: Connection) -> None:
    """Serve until a signal. Send the port to `ready`."""
    descriptor = os.open(f"{plan.database}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.basicConfig(level=logging.INFO)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(plan, ready))


async def serve(plan: ServerPlan, ready: Connection) -> None:
    engine = Engine(
        f"sqlite:///{plan.database}",
        settings=plan.engine,
        authenticate=by_header,
        server=ServerSettings(max_body_bytes=MAX_BODY),
        tools=[look_out, ask_the_way],
    )
    async with engine:
        bound = bind("127.0.0.1", 0)
        for listener in bound:  # the kernel would take megabytes of what a stalled client does not read
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        application = build_application(engine.router(), version=VERSION)
        add_own_routes(application, engine)
        await run_application(
            application,
            bound,
            drain=engine.drain,
            grace=0.0,
            on_listening=lambda: ready.send(int(address_of(bound, "127.0.0.1").rpartition(":")[2])),
        )


def add_own_routes(application: FastAPI, engine: Engine) -> None:
    signals: dict[str, asyncio.Event] = {}

    @application.post("/paced")
    async def paced(events: int, pace: float, head: int) -> dict[str, str]:
        signal_given = asyncio.Event()
        turn_id = (await engine.start(timed(events, pace, head, signal_given), owner="alice")).id
        signals[turn_id] = signal_given
        return {"id": turn_id}

    @application.post("/go")
    async def go(turn_id: str) -> None:
        signals.pop(turn_id).set()

    @application.post("/large")
    async def large(kind: str, size: int, count: int) -> dict[str, str]:
        signal_given = asyncio.Event()
        turn_id = (await engine.start(large_events(kind, size, count, signal_given), owner="alice")).id
        signals[turn_id] = signal_given
        return {"id": turn_id}

    @application.post("/blocks")
    async def blocks(count: int, deltas: int) -> dict[str, str]:
        signal_given = asyncio.Event()
        turn_id = (await engine.start(many_blocks(count, deltas, signal_given), owner="alice")).id
        signals[turn_id] = signal_given
        return {"id": turn_id}

    @application.get("/inspection")
    async def inspection() -> dict[str, int]:
        streams = engine._keep_alive.streams
        return {
            "streams": len(streams),
            "stalled": sum(stream.sending_since is not None for stream in streams),
            "resident": psutil.Process().memory_info().rss,
            "active": engine.active_turns,
        }


async def many_blocks(count: int, deltas: int, signal_given: asyncio.Event) -> AsyncIterator[StreamEvent]:
    """Yield `count` closed blocks of `deltas` deltas each, then, after the signal, the block "<end>"."""
    for block in range(count):
        yield ContentBlockStart(block, "text")
        for delta in range(deltas):
            yield TextDelta(block, f"{block}:{delta} ")
            if delta % 50 == 0:  # a provider's pauses
                await asyncio.sleep(0)
        yield ContentBlockStop(block)
    yield ContentBlockStart(count, "text")
    yield TextDelta(count, "<end>")
    await signal_given.wait()
    yield ContentBlockStop(count)


async def timed(
    events: int, pace: float, head: int, signal_given: asyncio.Event
) -> AsyncIterator[StreamEvent]:
    """At once a text of `head` characters; after the signal so many deltas, `pace` seconds apart, each of
    which is the
    machine's monotonic time as it is made."""
    loop = asyncio.get_running_loop()
    yield ContentBlockStart(0, "text")
    yield TextDelta(0, "x" * head)
    await signal_given.wait()
    due = loop.time()
    for _ in range(events):
        due += pace
        await asyncio.sleep(due - loop.time())
        yield TextDelta(0, f"<{time.monotonic():.6f}>")
    yield ContentBlockStop(0)


async def large_events(
    kind: str, size: int, count: int, signal_given: asyncio.Event
) -> AsyncIterator[StreamEvent]:
    """So many blocks of a kind, each of `size` characters that come in one event; all but the last are
    closed, and that one
    waits for the signal."""
    for number in range(count):
        text = f"{number} " + "x" * size
        if kind == "text":
            yield ContentBlockStart(number, "text")
            yield TextDelta(number, text)
        elif kind == "tool_use":
            yield ContentBlockStart(number, "tool_use", {"tool_use_id": f"t{number}", "tool_name": "write"})
            yield ToolInputDelta(number, f'{{"text": "{text}"}}')
        elif kind == "signature":
            yield ContentBlockStart(number, "thinking")
            yield ThinkingDelta(number, "hm")
            yield SignatureDelta(number, text)
        elif kind == "citations":
            yield ContentBlockStart(number, "text")
            yield TextDelta(number, "see there")
            yield ContentDelta(number, {"citations": [{"quote": "q" * 100}] * (size // 110)})
        else:
            yield ContentBlockStart(number, "image", {"media_type": "image/png", "data": text})
        if number == count - 1:
            await signal_given.wait()
        yield ContentBlockStop(number)


class ServerProcess:
    """A server that runs inside the context manager; leaving it sends SIGTERM, and checks that it ends
    well."""

    def __init__(self, plan: ServerPlan, target: Callable[[Any, Connection], None] = run_server) -> None:
        self._receiver, self._sender = _context.Pipe(duplex=False)
        self._process = _context.Process(target=target, args=(plan, self._sender), daemon=True)
        self._log = Path(f"{plan.database}.log")
        self.port = 0

    def __enter__(self) -> Self:
        self._process.start()
        self._sender.close()
        try:
            if not self._receiver.poll(START_SECONDS):
                raise TimeoutError("the server did not start")
            self.port = self._receiver.recv()
        except BaseException:
            self._process.kill()
            self._process.join()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGTERM)
        self._process.join(END_SECONDS)
        ended = self._process.exitcode
        if ended is None:
            self._process.kill()
            self._process.join()
        self._receiver.close()
        assert ended == 0, f"the server ended with {ended}; its log: {self.log()[-3000:]}"

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")
