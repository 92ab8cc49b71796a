"""Middleware of a host application between our responses and its server. It may be slow, and keeps its
place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response

from tests.server.live import Client, read_chunks, read_head, serving
from turnstream.core.stream_events import TextDelta
from turnstream.engine import Engine

SECONDS = 10.0


@pytest.mark.requirement("A2", "C3")
async def test_what_comes_while_middleware_holds_the_headers_comes_after_them(tmp_path: Path) -> None:
    """A watcher that resumes at the newest event gets nothing at first, and waits for the log to grow."""
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    begun, go_on, grow = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[TextDelta]:
        yield TextDelta(0, "one ")
        await grow.wait()
        yield TextDelta(0, "two ")

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with engine:
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(engine.router())

    @app.middleware("http")
    async def slow(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        begun.set()
        await go_on.wait()
        response.headers["X-Slow"] = "yes"
        return response

    async with serving(app) as port, asyncio.timeout(SECONDS):
        turn = await engine.start(source())
        log = engine.commands.registry.get(turn.id).log  # type: ignore[union-attr]
        while log.open_block is None or not log.open_block.length:
            waiter = asyncio.get_running_loop().create_future()
            log.add_waiter(waiter)
            await waiter
        reader, writer = await Client(port).open(
            "GET", f"/turns/{turn.id}/stream", headers={"Last-Event-ID": str(log.head_cursor)}
        )
        await begun.wait()
        grow.set()
        await turn.wait()
        go_on.set()
        status, headers = await read_head(reader)
        body = b"".join([chunk async for chunk in read_chunks(reader, headers)])
        writer.close()
    assert (status, headers["x-slow"]) == (200, "yes")
    assert body.count(b'"text":"two "') == 1
    assert body.count(b"event: turn_complete\n") == 1
