"""Our server on uvicorn, with plain ASGI applications in place of ours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from turnstream.errors import ConfigurationError
from turnstream.server import connection, uvicorn_server
from turnstream.server.connection import ConnectionProtocol
from turnstream.server.streams import ABORT_EXTENSION, PIECE
from turnstream.server.uvicorn_server import DrainingServer, address_of, bind

SECONDS = 10.0
BODY = b"x" * PIECE


class Grace:
    """Records the server's calls of the engine. Running turns end when `over` is set."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    async def drain(self, grace: float) -> None:
        self.asked.append(grace)
        self.begun.set()
        try:
            await asyncio.wait_for(self.over.wait(), grace)
        except TimeoutError:
            self.over.set()


class Broken(Grace):
    async def drain(self, grace: float) -> None:
        raise ConfigurationError("the engine is broken")


class Running:
    def __init__(self, server: DrainingServer, port: int, task: asyncio.Task[None]) -> None:
        self.server = server
        self.port = port
        self.task = task

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return reader, writer


@asynccontextmanager
async def served(application: ASGIApp, grace: Grace) -> AsyncGenerator[Running, None]:
    bound = bind("127.0.0.1", 0)
    listening = asyncio.Event()
    config = uvicorn.Config(
        application, http=WatchedProtocol, ws="none", lifespan="off", log_config=None, access_log=False
    )
    server = DrainingServer(config, drain=grace.drain, grace=5.0, on_listening=listening.set)
    task = asyncio.create_task(server.serve(bound))
    async with asyncio.timeout(SECONDS):
        await listening.wait()
    try:
        yield Running(server, bound[0].getsockname()[1], task)
    finally:
        grace.over.set()
        if not server.should_exit:
            server.end_by_signal()
        async with asyncio.timeout(SECONDS):
            await asyncio.wait({task})
        if not isinstance(grace, Broken):
            task.result()


async def begin(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def endless(_scope: Scope, receive: Receive, send: Send) -> None:
    """Send as long as the client reads."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.create_task(gone())
    await begin(send)
    while not leaving.done():
        await send({"type": "http.response.body", "body": BODY, "more_body": True})
        await asyncio.sleep(0)


class WatchedProtocol(ConnectionProtocol):
    """Set an event when a client takes nothing more."""

    paused = asyncio.Event()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.paused.set()


async def test_a_signal_drains_before_the_end():
    grace = Grace()

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        await begin(send)
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        await grace.over.wait()
        await send({"type": "http.response.body", "body": b"ended"})

    async with served(application, grace) as run:
        reader, writer = await run.connect()
        async with asyncio.timeout(SECONDS):
            await reader.readuntil(b"begun ")
            run.server.end_by_signal()
            late_reader, late_writer = await run.connect()
            assert b"begun" in await late_reader.readuntil(b"begun ")
            assert not run.server.should_exit
            grace.over.set()
            assert b"ended" in await reader.read()
            assert b"ended" in await late_reader.read()
            await run.task
        for side in (writer, late_writer):
            side.close()
    assert grace.asked == [5.0]


async def test_a_second_signal_gives_up_the_grace():
    grace = Grace()

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        await begin(send)
        await grace.over.wait()
        await send({"type": "http.response.body", "body": b"ended"})

    async with served(application, grace) as run:
        reader, writer = await run.connect()
        async with asyncio.timeout(SECONDS):
            await reader.readuntil(b"\r\n\r\n")
            run.server.end_by_signal()
            await grace.begun.wait()
            run.server.end_by_signal()
            assert b"ended" in await reader.read()
            await run.task
        writer.close()
    assert grace.asked == [5.0, 0.0]


async def test_a_failed_drain_still_ends_the_server():
    async with served(endless, Broken()) as run:
        run.server.end_by_signal()
        async with asyncio.timeout(SECONDS):
            with pytest.raises(ConfigurationError, match="the engine is broken"):
                await run.task


@pytest.mark.requirement("C4")
async def test_a_stalled_client_holds_little_and_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uvicorn_server, "FLUSH_SECONDS", 0.2)
    WatchedProtocol.paused = asyncio.Event()
    grace = Grace()
    async with served(endless, grace) as run:
        stalled = socket.create_connection(("127.0.0.1", run.port))
        stalled.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            await WatchedProtocol.paused.wait()
            (stalling,) = run.server.server_state.connections
            held = stalling.transport.get_write_buffer_size()
            assert connection.WRITE_BUFFER < held <= connection.WRITE_BUFFER + PIECE + 100
            grace.over.set()
            run.server.end_by_signal()
            await run.task
        stalled.close()


@pytest.mark.requirement("C4")
async def test_a_response_can_cut_its_connection(caplog: pytest.LogCaptureFixture):
    async def application(scope: Scope, _receive: Receive, send: Send) -> None:
        abort: Callable[[], None] = scope["extensions"][ABORT_EXTENSION]
        await begin(send)
        await send({"type": "http.response.body", "body": b"so far", "more_body": True})
        abort()

    with caplog.at_level(logging.INFO, logger="uvicorn.error"):
        async with served(application, Grace()) as run:
            reader, writer = await run.connect()
            async with asyncio.timeout(SECONDS):
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readuntil(b"0\r\n\r\n")
            writer.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.requirement("K4")
@pytest.mark.parametrize("earlier", [0, 1], ids=["first request", "kept connection"])
@pytest.mark.parametrize("endless", [b"GET /?", b"GET / HTTP/1.1\r\nX-Long: "], ids=["line", "header"])
async def test_an_endless_head_is_refused(endless: bytes, earlier: int):
    async with served(hello, Grace()) as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
        async with asyncio.timeout(SECONDS):
            for _ in range(earlier):
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await reader.readuntil(b"hello")
            writer.write(endless + b"x" * (connection.HEAD_LIMIT + 1))
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'{"error":{"code":"too_large"' in answer


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT"])
async def test_a_head_has_its_time(sent: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    async with served(hello, Grace()) as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
        writer.write(sent)
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
        writer.close()


async def test_a_whole_head_stops_its_clock(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    release = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await release.wait()
        await hello(scope, receive, send)

    async with served(slow, Grace()) as run:
        reader, writer = await run.connect()
        asyncio.get_running_loop().call_later(0.2, release.set)
        async with asyncio.timeout(SECONDS):
            assert b"hello" in await reader.readuntil(b"hello")
        writer.close()


def test_a_bound_port_is_taken_at_once():
    bound = bind("127.0.0.1", 0)
    port = bound[0].getsockname()[1]
    assert address_of(bound, "127.0.0.1") == f"http://127.0.0.1:{port}"
    with pytest.raises(
        ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}: .*; choose another --port"
    ):
        bind("127.0.0.1", port)
    bound[0].close()


@pytest.mark.parametrize("host", ["", "0.0.0.0", "localhost"])
def test_all_addresses_have_one_port_and_a_name_for_this_machine(host: str):
    bound = bind(host, 0)
    ports = {listener.getsockname()[1] for listener in bound}
    url = address_of(bound, host)
    for listener in bound:
        listener.close()
    assert len(ports) == 1
    assert url == f"http://{'localhost' if host == 'localhost' else '127.0.0.1'}:{ports.pop()}"


@pytest.mark.parametrize("host", ["nosuch.invalid", "203.0.113.9"])
def test_an_address_that_is_not_ours_is_refused(host: str):
    with pytest.raises(ConfigurationError, match=f"cannot listen on {host}"):
        bind(host, 0)
