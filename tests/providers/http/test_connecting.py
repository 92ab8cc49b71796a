"""Opening and keeping connections: proxies, TLS, idle connections; against real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
import trustme
from multidict import CIMultiDict
from yarl import URL

from turnstream.errors import ConfigurationError, ConnectionFailed
from turnstream.providers import connecting
from turnstream.providers.connecting import ConnectionPool
from turnstream.providers.connection import Connection

BOTH_LOOPS = True
DEADLINE = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """For a server whose certificate we trust."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr(connecting, "_tls", lambda: trusting)
    return context


class Host:
    """Answers each request on its connections with `reply`; keeps their heads."""

    def __init__(self, reply: bytes = OK) -> None:
        self.reply = reply
        self.heads: list[str] = []
        self.connections = 0
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(self.reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()


class Proxy:
    """A proxy that connects every client if its answer is 200. It records the requests."""

    def __init__(self, reply: bytes = b"HTTP/1.1 200 Connected\r\n\r\n") -> None:
        self.reply = reply
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        writer.write(self.reply)
        host, _, port = head.split(" ")[1].rpartition(":")
        if b" 200" in self.reply:
            there, back = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
            finally:
                back.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        pass  # either side may leave at any time
    writer.close()


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Return the port at which `serve` answers."""
    tasks: set[asyncio.Task[None]] = set()

    async def kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the test is over; before Python 3.12 a server's task that is cancelled is complained of
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(kept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def pooled(url: str, *, trust_env: bool = False) -> AsyncIterator[ConnectionPool]:
    pool = ConnectionPool("test", URL(url), connect_seconds=DEADLINE, trust_env=trust_env)
    try:
        async with asyncio.timeout(DEADLINE):
            yield pool
    finally:
        pool.close()


async def ask(pool: ConnectionPool, url: str) -> tuple[bytes, Connection]:
    made = await pool.ask("POST", URL(url), CIMultiDict({"X-Team": "blue"}), b"{}")
    return await made.read(), made


@pytest.mark.requirement("E7")
async def test_a_connection_is_used_again() -> None:
    host = Host()
    async with listening(host.serve) as port, pooled(f"http://127.0.0.1:{port}") as pool:
        for _ in range(3):
            body, made = await ask(pool, f"http://127.0.0.1:{port}/a?b=c")
            assert body == b"hi"
            pool.release(made)
    assert host.connections == 1
    assert host.heads[0] == (
        f"POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Team: blue\r\nContent-Length: 2\r\n\r\n"
    )


@pytest.mark.requirement("E7")
async def test_calls_at_a_time_have_a_connection_each() -> None:
    host = Host()
    async with listening(host.serve) as port, pooled(f"http://127.0.0.1:{port}") as pool:
        made = [await ask(pool, f"http://127.0.0.1:{port}/") for _ in range(3)]
        for _, one in made:
            pool.release(one)
        await ask(pool, f"http://127.0.0.1:{port}/")
    assert host.connections == 3


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    host = Host()
    async with listening(host.serve) as port, pooled(f"http://127.0.0.1:{port}") as pool:
        _, made = await ask(pool, f"http://127.0.0.1:{port}/")
        pool.release(made)
        lost = asyncio.get_running_loop().create_future()
        made.arrived = lambda: lost.done() or lost.set_result(None)
        host.reply = b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"
        made._transport.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            await host.left.wait()
        host.reply = OK
        assert (await ask(pool, f"http://127.0.0.1:{port}/"))[0] == b"hi"
    assert host.connections == 2


class Closer:
    """Answer `answers` requests on each connection. End the connection at the next one, after `before` of an
    answer."""

    def __init__(self, answers: int, before: bytes = b"", *, how: str = "reset") -> None:
        self.answers = answers
        self.before = before
        self.how = how
        self.connections = 0
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for number in count():
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            self.requests += 1
            if number >= self.answers:
                break
            writer.write(OK)
        writer.write(self.before)
        await writer.drain()
        if self.how == "reset":
            opened: socket.socket = writer.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()
            await writer.wait_closed()


@pytest.mark.fault(39)
@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_a_kept_connection_that_is_lost_is_replaced_at_once(how: str) -> None:
    host = Closer(1, how=how)
    async with listening(host.serve) as port, pooled(f"http://127.0.0.1:{port}") as pool:
        for _ in range(3):
            body, made = await ask(pool, f"http://127.0.0.1:{port}/")
            assert body == b"hi"
            pool.release(made)
    assert host.connections == 3
    assert host.requests == 5


@pytest.mark.fault(39)
@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_a_new_connection_that_is_lost_is_not_replaced(how: str) -> None:
    """A server that resets each request must not get a request twice."""
    host = Closer(0, how=how)
    async with listening(host.serve) as port, pooled(f"http://127.0.0.1:{port}") as pool:
        with pytest.raises(ConnectionError):
            await ask(pool, f"http://127.0.0.1:{port}/")
    assert host.requests == 1


@pytest.mark.fault(39)
async def test_a_request_is_repeated_once_and_over_a_new_connection() -> None:
    host = Closer(1)
    async with listening(host.serve) as port, pooled(f"http://127.0.0.1:{port}") as pool:
        made = [(await ask(pool, f"http://127.0.0.1:{port}/"))[1] for _ in range(3)]
        for one in made:
            pool.release(one)
        host.answers = 0
        with pytest.raises(ConnectionError):
            await ask(pool, f"http://127.0.0.1:{port}/")
    assert host.connections == 4
    assert host.requests == 5


@pytest.mark.fault(39)
@pytest.mark.parametrize("before", [b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_request_whose_answer_began_is_not_repeated(before: bytes) -> None:
    host = Closer(1, before, how="closed")
    async with listening(host.serve) as port, pooled(f"http://127.0.0.1:{port}") as pool:
        _, made = await ask(pool, f"http://127.0.0.1:{port}/")
        pool.release(made)
        with pytest.raises(ConnectionError):
            await ask(pool, f"http://127.0.0.1:{port}/")
    assert host.requests == 2


@pytest.mark.requirement("E7")
async def test_an_idle_connection_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "KEEP_ALIVE_SECONDS", 0.05)
    host = Host()
    async with listening(host.serve) as port, pooled(f"http://127.0.0.1:{port}") as pool:
        _, made = await ask(pool, f"http://127.0.0.1:{port}/")
        assert not host.left.is_set()
        pool.release(made)
        await host.left.wait()
        assert not pool._idle
        assert not pool._open
        assert (await ask(pool, f"http://127.0.0.1:{port}/"))[0] == b"hi"


async def test_closing_cuts_what_is_idle_and_what_is_in_use() -> None:
    host = Host(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi")
    async with listening(host.serve) as port, pooled(f"http://127.0.0.1:{port}") as pool:
        _, made = await ask(pool, f"http://127.0.0.1:{port}/")
        pool.close()
        with pytest.raises(ConnectionResetError):
            await made.read()
        with pytest.raises(ConnectionFailed) as closed:
            await ask(pool, f"http://127.0.0.1:{port}/")
        assert not closed.value.retryable


async def test_a_name_is_looked_up_once_for_many_connections() -> None:
    host = Host()
    async with listening(host.serve) as port, pooled(f"http://localhost:{port}") as pool:
        await ask(pool, f"http://localhost:{port}/")
        found = pool._addresses
        for _ in range(2):
            await ask(pool, f"http://localhost:{port}/")
        assert pool._addresses is found
    assert host.connections == 3


class TestTls:
    async def test_a_host_that_is_trusted(self, server_tls: ssl.SSLContext) -> None:
        host = Host()
        async with listening(host.serve, server_tls) as port, pooled(f"https://localhost:{port}") as pool:
            assert (await ask(pool, f"https://localhost:{port}/"))[0] == b"hi"
        assert f"Host: localhost:{port}\r\n" in host.heads[0]

    @pytest.mark.requirement("J2")
    async def test_a_name_that_is_not_the_certificates(self, server_tls: ssl.SSLContext) -> None:
        async with (
            listening(Host().serve, server_tls) as port,
            pooled(f"https://127.0.0.1:{port}") as pool,
        ):
            with pytest.raises(ConnectionFailed, match="no secure connection") as failed:
                await ask(pool, f"https://127.0.0.1:{port}/")
        assert not failed.value.retryable
        assert "certificate" in (failed.value.detail or "")

    @pytest.mark.requirement("J2")
    async def test_a_host_without_tls(self) -> None:
        host = Host()
        host.reply = b"HTTP/1.1 400 Bad\r\n\r\n"
        reply = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(host.reply)
            reply.set()

        async with listening(serve) as port, pooled(f"https://localhost:{port}") as pool:
            with pytest.raises(ConnectionFailed, match="no secure connection") as failed:
                await ask(pool, f"https://localhost:{port}/")
        assert reply.is_set()
        assert not failed.value.retryable


class TestProxies:
    @pytest.mark.requirement("R5")
    async def test_a_plain_request_goes_to_the_proxy_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        proxy = Host()
        async with listening(proxy.serve) as port:
            monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{port}")
            async with pooled("http://model.example/v1", trust_env=True) as pool:
                assert (await ask(pool, "http://model.example/v1/messages"))[0] == b"hi"
        assert proxy.heads[0].startswith(
            "POST http://model.example/v1/messages HTTP/1.1\r\nHost: model.example\r\n"
        )
        assert "Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in proxy.heads[0]

    @pytest.mark.requirement("R5")
    async def test_a_secure_request_goes_through_the_proxy_unseen(
        self, monkeypatch: pytest.MonkeyPatch, server_tls: ssl.SSLContext
    ) -> None:
        host, proxy = Host(), Proxy()
        async with listening(host.serve, server_tls) as port, listening(proxy.serve) as proxy_port:
            monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{proxy_port}")
            async with pooled(f"https://localhost:{port}", trust_env=True) as pool:
                assert (await ask(pool, f"https://localhost:{port}/"))[0] == b"hi"
        (head,) = proxy.heads
        assert head == (
            f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n"
            "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"
        )
        assert "Proxy-Authorization" not in host.heads[0]
        assert host.heads[0].startswith("POST / HTTP/1.1\r\n")

    @pytest.mark.requirement("J2")
    @pytest.mark.parametrize(
        "reply", [b"HTTP/1.1 407 Who are you\r\n\r\n", b"", b"nonsense\r\n\r\n", b"x" * 100_000]
    )
    async def test_a_proxy_that_refuses(self, monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
        async with listening(Proxy(reply).serve) as port:
            monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{port}")
            async with pooled("https://model.example", trust_env=True) as pool:
                with pytest.raises(ConnectionFailed) as failed:
                    await ask(pool, "https://model.example/")
        assert "proxy" in (failed.value.detail or "")
        assert "secret" not in f"{failed.value} {failed.value.detail}"

    @pytest.mark.requirement("R5")
    async def test_hosts_that_need_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        host = Host()
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        async with listening(host.serve) as port:
            async with pooled(f"http://127.0.0.1:{port}") as pool:
                assert (await ask(pool, f"http://127.0.0.1:{port}/"))[0] == b"hi"
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            async with pooled(f"http://127.0.0.1:{port}", trust_env=True) as pool:
                assert (await ask(pool, f"http://127.0.0.1:{port}/"))[0] == b"hi"

    def test_a_proxy_that_cannot_be_used_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
        with pytest.raises(ConfigurationError, match="socks5"):
            ConnectionPool("test", URL("https://model.example"), connect_seconds=1, trust_env=True)
