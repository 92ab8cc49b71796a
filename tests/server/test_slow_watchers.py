"""A slow but steady watcher is kept. A watcher whose socket takes nothing is cut. Real sockets, and a clock
of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from tests.server.live import SECONDS, serving
from tests.turnlog.watching import Client
from turnstream.core.stream_events import MessageStop, TextDelta
from turnstream.core.turn_events import SourceEvent
from turnstream.engine import Engine
from turnstream.server.streams import EventStream

pytestmark = pytest.mark.fault(44)

WORDS = 6_000_000
LOOK = 10.0
"""Seconds between two checks, by the test's clock."""
STEP = 16 * 1024
"""Bytes that a slow client takes between two checks."""


async def long_answer(more: asyncio.Event) -> AsyncIterator[Sequence[SourceEvent]]:
    yield [TextDelta(0, "word " * (WORDS // 5))]
    await more.wait()
    yield [MessageStop("end_turn")]


class Peer:
    """A client with a small window, which reads only when the test calls it."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setblocking(False)
        self._address = ("127.0.0.1", port)
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"

    async def begin(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, self._address)
        await loop.sock_sendall(self.socket, self._request.encode())

    async def take(self, count: int) -> bytes:
        """Read `count` bytes, or to the end."""
        taken = bytearray()
        while len(taken) < count:
            piece = await asyncio.get_running_loop().sock_recv(self.socket, min(2048, count - len(taken)))
            if not piece:
                break
            taken += piece
        return bytes(taken)


async def until_stuck(stream: EventStream) -> None:
    """Wait until the socket takes nothing more."""
    assert stream.unsent is not None
    await until(lambda: stream.sending_since is not None)
    before = -1
    while before != (before := stream.unsent()):  # noqa: ASYNC110 - no event tells that nothing happens
        await asyncio.sleep(0.05)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - the socket of another has no event for us
            await asyncio.sleep(0.005)


@pytest.fixture(params=["handed over", "behind a middleware"])
async def peer_and_engine(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Peer, Engine, EventStream, asyncio.Event]]:
    more = asyncio.Event()
    engine = Engine(f"sqlite:///{tmp_path / 'turns.sqlite'}")
    application = engine.application()
    if request.param != "handed over":

        @application.middleware("http")
        async def passes_on(request, call_next):  # type: ignore[no-untyped-def]
            return await call_next(request)

    async with serving(application) as port:
        (looking,) = [task for task in engine._background._tasks if "keep-alive" in task.get_name()]
        looking.cancel()  # the test looks itself
        live = await engine.start(long_answer(more))
        peer = Peer(port, f"/api/turns/{live.id}/stream")
        async with asyncio.timeout(SECONDS):
            await peer.begin()
            await until(lambda: engine._keep_alive.streams)
            (stream,) = engine._keep_alive.streams
            assert isinstance(stream, EventStream)
            yield peer, engine, stream, more
        more.set()
        peer.socket.close()
        await until(lambda: not engine._keep_alive.streams)


async def test_a_slow_but_steady_watcher_is_kept_and_a_stalled_one_is_cut(
    peer_and_engine: tuple[Peer, Engine, EventStream, asyncio.Event],
) -> None:
    peer, engine, stream, _ = peer_and_engine
    keep_alive = engine._keep_alive
    await until_stuck(stream)
    now = asyncio.get_running_loop().time()
    for _ in range(12):  # two minutes in which no piece gets through as a whole
        await peer.take(STEP)
        await asyncio.sleep(0.02)
        now += LOOK
        keep_alive.check(now, LOOK)
    assert keep_alive.dropped == 0
    await until_stuck(stream)
    looks = 0
    while not keep_alive.dropped:
        looks += 1
        now += LOOK
        keep_alive.check(now, LOOK)
    assert 3 <= looks <= 5  # 30 s after it took the last byte that a look can have seen


async def test_a_slow_watcher_gets_every_byte_in_the_end(
    peer_and_engine: tuple[Peer, Engine, EventStream, asyncio.Event],
) -> None:
    peer, engine, stream, more = peer_and_engine
    await until_stuck(stream)
    now = asyncio.get_running_loop().time()
    received = bytearray()
    for _ in range(8):
        received += await peer.take(STEP)
        now += LOOK
        engine._keep_alive.check(now, LOOK)
    more.set()
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    received += await peer.take(1 << 30)
    assert engine._keep_alive.dropped == 0
    client = Client()
    client.receive(unchunked(received))
    assert client.frames[-1].name == "turn_complete"
    (block,) = client.now.blocks
    assert block.text_content == "word " * (WORDS // 5)


def unchunked(response: bytearray) -> bytes:
    """Return the body of a whole response."""
    _, _, rest = bytes(response).partition(b"\r\n\r\n")
    body: list[bytes] = []
    place = 0
    while (length := int(rest[place : (end := rest.index(b"\r\n", place))], 16)) > 0:
        body.append(rest[end + 2 : end + 2 + length])
        place = end + 2 + length + 2
    return b"".join(body)
