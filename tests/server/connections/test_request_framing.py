"""Bytes of a request that belong to neither head nor body. They are bounded, and never become headers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tests.server.live import Answer, Client, read_chunks, read_head, serving
from turnstream.config import ServerSettings
from turnstream.engine import Engine
from turnstream.errors import Unauthorized
from turnstream.server import connection
from turnstream.server.auth import Principal

SECONDS = 20.0
MEGABYTE = 1024 * 1024
FLOOD = 24 * MEGABYTE
HELD = 4 * MEGABYTE
"""Bytes that a flood may make the process hold: its sender's buffers, one read of the server, and the limit.
"""
BODY_LIMIT = 12 * MEGABYTE
CHUNKED = "Host: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def by_header(request: Request) -> Principal:
    user = request.headers.get("x-user")
    if user is None:
        raise Unauthorized("say who you are")
    return Principal(user)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    engine = Engine(
        f"sqlite:///{tmp_path}/turns.sqlite",
        authenticate=by_header,
        server=ServerSettings(max_body_bytes=BODY_LIMIT),
    )
    async with serving(engine.application()) as port:
        yield Client(port, {"X-User": "alice"})


def head(method: str = "POST", path: str = "/api/chats", *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", *headers, CHUNKED]).encode()


async def answer_of(reader: asyncio.StreamReader) -> Answer:
    async with asyncio.timeout(SECONDS):
        status, headers = await read_head(reader)
        body = b"".join([chunk async for chunk in read_chunks(reader, headers)])
    return Answer(status, headers, body)


async def send_all(writer: asyncio.StreamWriter, pieces: Iterator[bytes]) -> None:
    """Send until all bytes are sent, or the server has cut the connection."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(SECONDS):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()


def repeated(piece: bytes) -> Iterator[bytes]:
    block = piece * (64 * 1024 // len(piece) + 1)
    for _ in range(FLOOD // len(block)):
        yield block


EMPTY = b"2\r\n{}\r\n0\r\n"
FLOODS = {
    "many trailers": (EMPTY, b"X-Trailer: 0123456789\r\n"),
    "one trailer": (EMPTY + b"X-Trailer: ", b"x" * 1000),
    "a trailer's name": (EMPTY, b"x" * 1000),
    "a chunk's extension": (b"2;name=", b"x" * 1000),
    "a last chunk's extension": (b"2\r\n{}\r\n0;name=", b"x" * 1000),
    "extensions of many chunks": (b"", b"1;name=" + b"x" * 200 + b"\r\n \r\n"),
    "a chunk's size": (b"", b"0" * 1000),
}


@pytest.mark.fault(1)
@pytest.mark.parametrize("user", ["X-User: alice", "X-Other: x"], ids=["known", "unknown"])
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_beside_the_body_is_refused(client: Client, flood: str, user: str) -> None:
    begin, piece = FLOODS[flood]
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    tracemalloc.start()
    try:
        writer.write(head("POST", "/api/chats", user) + begin)
        await send_all(writer, repeated(piece))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        writer.transport.abort()
    answer = await answer_of(reader)
    assert answer.status in ((431,) if user.endswith("alice") else (401, 431))
    assert answer.headers["connection"] == "close"
    assert set(answer.json["error"]) == {"code", "message"}
    assert peak < HELD
    assert (await client.call("GET", "/chats")).json["chats"] == []


@pytest.mark.fault(1)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_flood_behind_an_answered_request_is_not_read_for_ever(
    client: Client, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(head(method, "/api/chats", "X-User: alice"))
    answer = await answer_of(reader)
    assert answer.headers["connection"] == "close"
    with pytest.raises(ConnectionError):  # noqa: PT012 - which write meets the cut depends on the machine
        async with asyncio.timeout(SECONDS):
            while True:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await writer.drain()
    writer.transport.abort()


@pytest.mark.fault(1)
@pytest.mark.parametrize(
    "trailers",
    ["X-User: alice", "X-User: alice\r\nX-User: alice", "X-Padding: x\r\nx-user:alice"],
    ids=["alone", "twice", "behind another"],
)
async def test_a_key_in_a_trailer_is_none(client: Client, trailers: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(head() + EMPTY + f"{trailers}\r\n\r\n".encode())
    answer = await answer_of(reader)
    writer.close()
    assert answer.status == 401
    assert (await client.call("GET", "/chats")).json["chats"] == []


@pytest.mark.fault(1)
async def test_a_trailer_replaces_and_adds_no_header(client: Client) -> None:
    """Bytes behind the body set neither an owner nor an Idempotency-Key, and the connection can be used
    again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    for _ in range(2):
        writer.write(head("POST", "/api/chats", "X-User: alice") + EMPTY + b"X-User: bob\r\n\r\n")
        assert (await answer_of(reader)).status == 201
    writer.close()
    chats = (await client.call("GET", "/chats")).json["chats"]
    assert len(chats) == 2
    turn = json.dumps(
        {"turn_blocks": [{"block_type": "text", "text_content": "x"}], "model": "sim/echo:pace=0"}
    )
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(turn), turn.encode())
    made: set[str] = set()
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        path = f"/api/chats/{chats[0]['id']}/turns"
        writer.write(head("POST", path, "X-User: alice") + chunk + b"Idempotency-Key: one\r\n\r\n")
        made.add((await answer_of(reader)).json["assistant_turn"]["id"])
        writer.close()
    assert len(made) == 2


@pytest.mark.fault(1)
@pytest.mark.parametrize(
    ("begin", "drip"),
    [(EMPTY, b"X: y\r\n"), (b"2;name=", b"x"), (b"", b"0")],
    ids=["trailers", "an extension", "a size"],
)
async def test_dripping_framing_has_the_heads_time(
    begin: bytes, drip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    gone = asyncio.Event()

    async def application(scope: Scope, receive: Receive, _send: Send) -> None:
        """An application that waits for its request."""
        if scope["type"] == "lifespan":
            await accept_lifespan(receive, _send)
            return
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with serving(application) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head() + begin)
        async with asyncio.timeout(SECONDS):
            while not gone.is_set():
                writer.write(drip)
                with contextlib.suppress(TimeoutError, ConnectionError):
                    await asyncio.wait_for(reader.read(1), 0.02)
        writer.transport.abort()


async def accept_lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


@pytest.mark.fault(1)
@pytest.mark.parametrize("size", [500, 4096])
async def test_a_long_body_in_small_chunks_is_no_flood(client: Client, size: int) -> None:
    chat = (await client.call("POST", "/chats")).json["id"]
    turn: dict[str, Any] = {
        "turn_blocks": [{"block_type": "text", "text_content": "x" * (8 * MEGABYTE)}],
        "model": "sim/echo:pace=0",
    }
    body = json.dumps(turn).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(head("POST", f"/api/chats/{chat}/turns", "X-User: alice"))
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    await send_all(writer, (b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
    writer.write(b"0\r\nX-Trailer: y\r\n\r\n")
    assert (await answer_of(reader)).status == 201
    writer.close()


@pytest.mark.fault(1)
async def test_a_request_in_the_same_read_as_a_body_is_not_charged_for_it(client: Client) -> None:
    body = b'{"title":"x"%b}' % (b" " * 90_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    request = (
        b"POST /api/chats HTTP/1.1\r\nHost: 127.0.0.1\r\nX-User: alice\r\nContent-Type: application/json\r\n"
    )
    writer.write(request + b"Content-Length: %d\r\n\r\n" % len(body) + body + b"GET /api/chats HT")
    assert (await answer_of(reader)).status == 201
    writer.write(b"TP/1.1\r\nHost: 127.0.0.1\r\nX-User: alice\r\n\r\n")
    assert len((await answer_of(reader)).json["chats"]) == 1
    writer.close()


@pytest.mark.fault(1)
async def test_what_is_not_http_is_refused_as_json(client: Client) -> None:
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", head() + b"zz\r\n", head("GET", "/a b c")):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(sent)
        answer = await answer_of(reader)
        writer.close()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert set(answer.json["error"]) == {"code", "message"}


GET = b"GET /api/models HTTP/1.1\r\nHost: 127.0.0.1\r\n"
PIPELINES = {
    "short requests": (b"", b"GET / HTTP/1.1\r\n\r\n"),
    "routes": (b"", GET + b"X-User: alice\r\n\r\n"),
    "behind a refused upgrade": (GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", GET + b"\r\n"),
    "with bodies": (b"", b"POST /api/chats HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"),
}


@pytest.mark.fault(1)
@pytest.mark.parametrize("flood", PIPELINES)
async def test_a_flood_of_requests_on_one_connection_is_cut_off(client: Client, flood: str) -> None:
    begin, piece = PIPELINES[flood]
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    tracemalloc.start()
    try:
        writer.write(begin)
        await send_all(writer, repeated(piece))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    async with asyncio.timeout(SECONDS):
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 20):
                pass
    writer.close()
    assert peak < HELD
    assert (await client.call("GET", "/chats")).status == 200


@pytest.mark.fault(1)
async def test_requests_that_are_sent_together_are_all_answered(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write((GET + b"X-User: alice\r\n\r\n") * connection.PIPELINE_LIMIT)
    for _ in range(connection.PIPELINE_LIMIT):
        assert (await answer_of(reader)).status == 200
    writer.close()


@pytest.mark.fault(1)
@pytest.mark.parametrize("before", [0, 1, 2])
async def test_empty_lines_do_not_keep_an_idle_connection(
    client: Client, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    for _ in range(before):
        writer.write(GET + b"X-User: alice\r\n\r\n")
        assert (await answer_of(reader)).status == 200
    writer.write(b"\r\n")
    async with asyncio.timeout(SECONDS):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()


@pytest.mark.fault(1)
@pytest.mark.parametrize("begin", [b"GET / HTTP/1.1\r\n", head() + EMPTY], ids=["headers", "trailers"])
async def test_many_small_headers_are_not_kept(client: Client, begin: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    if begin.endswith(EMPTY):
        begin = begin.replace(
            b"POST /api/chats HTTP/1.1\r\n", b"POST /api/chats HTTP/1.1\r\nX-User: alice\r\n"
        )
    writer.write(begin + b"A: b\r\n" * (connection.HEADERS_LIMIT + 2))
    answer = await answer_of(reader)
    assert (answer.status, answer.headers["connection"]) == (431, "close")
    writer.close()


@pytest.mark.fault(1)
async def test_a_client_that_goes_with_requests_waiting_ends_the_answer_under_way() -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with serving(application) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((GET + b"\r\n") * 3)
        async with asyncio.timeout(SECONDS):
            await begun.wait()
            writer.transport.abort()
            await gone.wait()
