"""One connection: bytes of HTTP in, an answer out, for every cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.providers import connection
from turnstream.providers.connection import HEAD_LIMIT, BadAnswer, Connection

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODIES = [
    (CHUNKED + b"5\r\nhello\r\n3;name=value\r\n, y\r\n2 \r\nou\r\n0\r\n\r\n", True),
    (CHUNKED + b"A\r\nhello, you\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello, you", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhello, you", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nhello, you", False),
    (b"HTTP/1.1 200\r\ncontent-length:10\r\nX-Empty:\r\n\r\nhello, you", True),
    (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello, you",
        True,
    ),
]


class Wire(asyncio.Transport):
    """The other end of a connection, which the test controls."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reads = True
        self.aborted = False
        self.unsent = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        assert self.reads
        self.reads = False

    def resume_reading(self) -> None:
        assert not self.reads
        self.reads = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def connected() -> tuple[Connection, Wire]:
    made, wire = Connection(), Wire()
    made.connection_made(wire)
    return made, wire


async def answer(made: Connection, *pieces: bytes) -> None:
    """Send a request, and let these pieces arrive."""
    asking = asyncio.ensure_future(made.ask(b"GET / HTTP/1.1\r\n\r\n"))
    await asyncio.sleep(0)
    for piece in pieces:
        made.data_received(piece)
    await asking


async def body_of(made: Connection) -> bytes:
    body = b""
    while piece := await made.read():
        body += piece
    return body


@pytest.mark.requirement("E4", "E7")
@pytest.mark.parametrize(("data", "goes_on"), BODIES)
@given(cuts=st.sets(st.integers(1, 120), max_size=8))
def test_any_cut_gives_the_same_answer(data: bytes, goes_on: bool, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]

    async def run() -> None:
        made, _ = connected()
        for _ in range(2 if goes_on else 1):
            await answer(made, *pieces)
            assert made.status == 200
            assert "Link" not in made.headers
            assert "X-Sum" not in made.headers
            assert await body_of(made) == b"hello, you"
            assert made.ended
            assert made.failure is None
            assert made.reusable is goes_on

    asyncio.run(run())


@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_a_body_to_the_end_of_the_connection(piece: int) -> None:
    made, _ = connected()
    data = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\nhello, you"
    await answer(made, *(data[start : start + piece] for start in range(0, len(data), piece)))
    assert not made.ended
    made.connection_lost(None)
    assert made.content_type == "text/event-stream"
    assert await body_of(made) == b"hello, you"
    assert not made.reusable


@pytest.mark.requirement("D6")
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (CHUNKED + b"5\r\nhello\r\n", None),
        (CHUNKED + b"8\r\nhello", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", None),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", OSError("reset")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", TimeoutError("no acknowledgement")),
    ],
)
async def test_a_body_that_breaks_off_is_never_taken_for_whole(data: bytes, error: Exception | None) -> None:
    made, _ = connected()
    await answer(made, data)
    made.connection_lost(error)
    assert await made.read() == b"hello"
    with pytest.raises(ConnectionError if error is None or isinstance(error, TimeoutError) else type(error)):
        await made.read()
    assert not made.ended
    assert not made.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"220 mail ready\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_LIMIT + 1),
        b"\0" * 10,
    ],
)
async def test_what_is_no_answer(data: bytes) -> None:
    made, wire = connected()
    with pytest.raises(BadAnswer):
        await answer(made, data)
    assert wire.aborted
    with pytest.raises(BadAnswer):
        await made.ask(b"")


@pytest.mark.requirement("D6")
async def test_chunks_that_cannot_be_read_come_after_what_came_before_them() -> None:
    made, wire = connected()
    await answer(made, CHUNKED + b"5\r\nhello\r\n", b"2\r\n, \r\nno length\r\n")
    assert wire.aborted
    assert await made.read() == b"hello, "
    with pytest.raises(BadAnswer):
        await made.read()


async def test_what_stands_behind_a_body_is_bounded() -> None:
    made, wire = connected()
    await answer(made, CHUNKED + b"5\r\nhello\r\n0\r\n")
    assert await made.read() == b"hello"
    for _ in range(HEAD_LIMIT // 1000 + 1):
        assert not wire.aborted
        made.data_received(b"X: %b\r\n" % (b"x" * 1000))
    assert wire.aborted
    with pytest.raises(BadAnswer):
        await made.read()


@pytest.mark.fault(4)
@pytest.mark.parametrize("framing", [b"5\r\n", b"5;a=%b\r\n" % (b"b" * 100)])
async def test_the_framing_of_chunks_may_arrive_in_reads_of_its_own(framing: bytes) -> None:
    made, wire = connected()
    await answer(made, CHUNKED)
    body = b""
    for _ in range(2 * HEAD_LIMIT // len(framing)):
        made.data_received(framing)
        made.data_received(b"hello")
        made.data_received(b"\r\n")
        body += made.take()
    made.data_received(b"0\r\n\r\n")
    assert not wire.aborted
    assert body == b"hello" * (2 * HEAD_LIMIT // len(framing))
    assert made.reusable


@pytest.mark.fault(4)
async def test_framing_without_a_body_is_bounded() -> None:
    """The extension of a chunk is bounded, and so are heads that announce another."""
    for begin, endless in ((CHUNKED + b"1;", b"x" * 1000), (b"", b"HTTP/1.1 103 Early\r\n\r\n")):
        made, wire = connected()
        asking = asyncio.ensure_future(made.ask(b""))
        await asyncio.sleep(0)
        made.data_received(begin + endless)
        for _ in range(HEAD_LIMIT // len(endless) - 2):
            made.data_received(endless)
        assert not wire.aborted
        for _ in range(3):
            made.data_received(endless)
        assert wire.aborted
        assert isinstance(made.failure, BadAnswer)
        await asyncio.wait([asking])
        assert (asking.exception() is None) is (made.status == 200)


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 408 Bye\r\nContent-Length: 0\r\n\r\n", b"\0", b"H", b"\r\n", b"HTTP/1.1 200 OK\r\n"]
)
@pytest.mark.parametrize("together", [True, False])
async def test_any_byte_after_an_answer_ends_the_connection(data: bytes, together: bool) -> None:
    made, wire = connected()
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    if together and data == b"\r\n":
        data += b"\0"  # a line end alone, in the read that ends the answer, is passed over by every client
    await answer(made, reply + data if together else reply)
    assert made.reusable is not together
    if not together:
        made.data_received(data)
    assert wire.aborted
    assert not made.reusable
    assert await body_of(made) == b"hi"


@pytest.mark.fault(39)
async def test_a_second_answer_in_one_read_adds_nothing_to_the_first() -> None:
    made, wire = connected()
    await answer(made, CHUNKED + b"2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert wire.aborted
    assert await body_of(made) == b"hi"


@pytest.mark.fault(39)
async def test_a_request_that_is_not_sent_whole_ends_the_connection() -> None:
    """A server may answer, for instance with 413, before it has read the request. The rest of the request is
    no next request."""
    made, wire = connected()
    await answer(made, b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    wire.unsent = 100
    assert await body_of(made) == b"no"
    assert not made.reusable


@pytest.mark.fault(39)
async def test_an_answer_that_was_not_taken_is_not_followed_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its socket is not read, so the next answer would not be noticed."""
    monkeypatch.setattr(connection, "READ_BUFFER", 100)
    made, wire = connected()
    await answer(made, b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b"x" * 200)
    assert made.ended
    assert not wire.reads
    assert not made.reusable
    assert await body_of(made) == b"x" * 200
    assert made.reusable


async def test_the_socket_is_not_read_while_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READ_BUFFER", 100)
    made, wire = connected()
    await answer(made, CHUNKED)
    made.data_received(b"32\r\n%b\r\n" % (b"x" * 50))
    assert wire.reads
    made.data_received(b"32\r\n%b\r\n" % (b"x" * 50))
    assert not wire.reads
    assert await made.read() == b"x" * 100
    assert wire.reads


@pytest.mark.parametrize("error", [None, ConnectionResetError(), TimeoutError("no acknowledgement")])
async def test_a_connection_lost_before_an_answer(error: Exception | None) -> None:
    made, _ = connected()
    asking = asyncio.ensure_future(made.ask(b""))
    await asyncio.sleep(0)
    made.connection_lost(error)
    with pytest.raises(ConnectionError):  # and no TimeoutError, which would be taken for one of ours
        await asking
    assert not made.reusable


async def test_a_cancelled_request_hears_nothing_more() -> None:
    """Its answer may still arrive while the connection is being cut."""
    made, wire = connected()
    asking = asyncio.ensure_future(made.ask(b""))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    made.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    made.abort()
    made.connection_lost(None)
    assert wire.aborted
    assert not made.reusable
