"""The fault kit itself: each fault happens, at its place, and ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest

from tests.nodes.process_control import paused
from tests.nodes.proxy import TcpProxy
from tests.nodes.triggers import AtByte, AtMessage
from tests.postgresql import PostgresServer

DEADLINE = 20.0


@pytest.fixture
def url(postgres: PostgresServer, postgres_proxy: TcpProxy) -> str:
    return postgres.address_at(postgres.database(), postgres_proxy.port)


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):  # a cut ends it
            while data := connection.recv(65536):
                connection.sendall(data)

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(DEADLINE)


def connected(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE)


def exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += (piece := connection.recv(count - len(data)))
        assert piece, f"closed after {data!r}"
    return data


def test_bytes_pass_in_order_and_are_delayed(echo: tuple[str, int]):
    data = bytes(range(256)) * 4096
    with TcpProxy(echo) as proxy, connected(proxy) as connection, ThreadPoolExecutor(1) as threads:
        reading = threads.submit(exactly, connection, len(data))
        connection.sendall(data)
        assert reading.result(DEADLINE) == data
        proxy.delay = 0.05
        began = time.monotonic()
        connection.sendall(b"later")
        assert exactly(connection, 5) == b"later"
        assert time.monotonic() - began >= 0.05


def test_a_cut_resets_and_new_connections_work(echo: tuple[str, int]):
    with TcpProxy(echo) as proxy:
        with connected(proxy) as connection:
            connection.sendall(b"a")
            assert exactly(connection, 1) == b"a"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        with connected(proxy) as connection:
            connection.sendall(b"b")
            assert exactly(connection, 1) == b"b"
        assert proxy.accepted == 2


@pytest.mark.parametrize(("offset", "direction"), [(3, "to_client"), (7, "to_client"), (5, "to_server")])
def test_a_cut_at_a_byte(echo: tuple[str, int], offset: int, direction: str):
    with TcpProxy(echo) as proxy, connected(proxy) as connection:
        fault = proxy.arm(AtByte(direction, offset))  # type: ignore[arg-type]
        connection.sendall(b"0123")
        connection.sendall(b"456789")
        fault.wait()
        seen = b""
        with suppress(ConnectionResetError):  # at the cut, after the bytes before it
            while piece := connection.recv(100):
                seen += piece
        assert b"0123456789"[: len(seen)] == seen
        assert len(seen) <= offset


def test_a_stall_ends(echo: tuple[str, int]):
    with TcpProxy(echo) as proxy, connected(proxy) as connection:
        proxy.stall()
        connection.sendall(b"kept")
        with connected(proxy) as newcomer:
            newcomer.sendall(b"too")
            for one in (connection, newcomer):
                one.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    one.recv(1)
                one.settimeout(DEADLINE)
            proxy.resume()
            assert exactly(connection, 4) == b"kept"
            assert exactly(newcomer, 3) == b"too"


def test_a_half_open_connection_is_silent(echo: tuple[str, int]):
    with TcpProxy(echo) as proxy, connected(proxy) as connection:
        connection.sendall(b"a")
        assert exactly(connection, 1) == b"a"
        proxy.half_open()
        connection.sendall(b"b")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        with connected(proxy) as newcomer:
            newcomer.sendall(b"c")
            assert exactly(newcomer, 1) == b"c"


def test_connections_are_refused_for_a_time(echo: tuple[str, int]):
    with TcpProxy(echo) as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        proxy.accept()
        with connected(proxy) as connection:
            connection.sendall(b"a")
            assert exactly(connection, 1) == b"a"


@pytest.mark.parametrize(("moment", "stored"), [("before", 0), ("within", 0), ("after", 1)])
def test_a_cut_at_a_commit(
    postgres: PostgresServer, postgres_proxy: TcpProxy, url: str, moment: str, stored: int
):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE rows (value integer)")
    fault = postgres_proxy.arm(AtMessage(b"COMMIT", moment))  # type: ignore[arg-type]
    connection = psycopg.connect(url)
    connection.execute("INSERT INTO rows VALUES (1)")
    with pytest.raises(psycopg.OperationalError):
        connection.commit()
    fault.wait()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM rows").fetchone() == (stored,)


def test_a_cut_at_one_of_several_commits_of_a_statement_that_is_prepared(postgres_proxy: TcpProxy, url: str):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE rows (value integer)")
        connection.execute("CREATE TABLE others (value integer)")
    fault = postgres_proxy.arm(AtMessage(b"COMMIT", "before", b"INSERT INTO rows", 3))
    inserts = (b"INSERT INTO rows VALUES (%s)", b"INSERT INTO others VALUES (%s)")
    connection = psycopg.connect(url, prepare_threshold=0)
    for value in range(4):
        connection.execute(inserts[value % 2], (value,))
        connection.commit()
    connection.execute(inserts[0], (4,))
    with pytest.raises(psycopg.OperationalError):
        connection.commit()
    fault.wait()
    with psycopg.connect(url) as connection:
        stored = connection.execute("SELECT value FROM rows UNION SELECT value FROM others ORDER BY value")
        assert stored.fetchall() == [(0,), (1,), (2,), (3,)]


def test_a_stalled_answer_comes_later(postgres_proxy: TcpProxy, url: str):
    with psycopg.connect(url, autocommit=True) as connection, ThreadPoolExecutor(1) as threads:
        fault = postgres_proxy.arm(AtMessage(b"SELECT 7", "after"), "stall")
        answer = threads.submit(lambda: connection.execute("SELECT 7").fetchone())
        fault.wait()
        assert not answer.done()
        postgres_proxy.resume()
        assert answer.result(DEADLINE) == (7,)


def test_a_paused_server_answers_after_its_pause(own_postgres: PostgresServer):
    with (
        psycopg.connect(own_postgres.address("postgres"), autocommit=True) as connection,
        ThreadPoolExecutor(1) as threads,
    ):
        with paused(own_postgres.pid):
            answer = threads.submit(lambda: connection.execute("SELECT 7").fetchone())
            with pytest.raises(TimeoutError):
                answer.result(0.2)
        assert answer.result(DEADLINE) == (7,)
