"""One HTTP/1.1 connection to a provider: a request, the head of its answer, its body as it arrives; then perhaps another.

The bytes of a body go from the parser into a list, and from there to whoever reads: no task and no future stands
between the socket and them. httptools parses; `connecting` opens connections and keeps them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict

READ_BUFFER = 64 * 1024
"""Bytes that wait for a slow reader before the socket is no longer read; one read of it comes on top."""
HEAD_LIMIT = 64 * 1024
"""Bytes that may arrive in a row without any of them being body: a head, the framing of chunks, trailers."""


class BadAnswer(Exception):
    """What came is not HTTP."""


class Connection(asyncio.Protocol):
    """Asks one request at a time.

    `status` and `headers` are those of the answer under way. `arrived`, if set, is called after each read of the socket
    and when the connection is lost; it must not raise. The body is over where `ended`, and broken where `failure` is
    set; what came before either is still to be taken.
    """

    __slots__ = (
        "_beside",
        "_feed",
        "_head",
        "_held",
        "_keeps_alive",
        "_parser",
        "_paused",
        "_to_the_end",
        "_transport",
        "arrived",
        "ended",
        "failure",
        "headers",
        "on_body",
        "pieces",
        "status",
    )
    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.arrived: Callable[[], None] | None = None
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.ended = True
        self.failure: Exception | None = None
        self.pieces: list[bytes] = []
        """What has come of the body, and is not taken."""
        self.on_body = self.pieces.append  # the parser's own callback: a piece costs no call of Python
        self._parser: HttpResponseParser = HttpResponseParser(self)
        # What servers send out there; the same as in other clients.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._feed = self._parser.feed_data
        self._head: asyncio.Future[None] | None = None
        self._to_the_end = False
        self._keeps_alive = True
        self._held = self._beside = 0
        self._paused = False

    @property
    def reusable(self) -> bool:
        """True if another request may follow: the request was sent whole, and the answer has ended and was taken."""
        transport = self._transport
        return (
            self.ended
            and self._keeps_alive
            and self.failure is None
            and not self._paused
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    @property
    def heard(self) -> bool:
        """True if any byte of an answer to the last request has arrived."""
        return bool(self.status or self._beside)

    @property
    def content_type(self) -> str:
        """The media type of the answer, without parameters; empty where it says none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def content_encoding(self) -> str:
        return self.headers.get("Content-Encoding", "").strip().lower()

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for the head of its answer.

        Raises OSError or BadAnswer. After an error or a cancellation the connection cannot be used again.
        """
        if self.failure is not None or self._transport.is_closing():
            raise self.failure or ConnectionResetError("the other side closed the connection")
        self.headers = CIMultiDict()
        self.status = self._held = self._beside = 0
        self.ended = self._to_the_end = False
        self.pieces.clear()
        self._head = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._head

    def take(self) -> bytes:
        """All of the body that has come since the last call."""
        pieces = self.pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._held = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def read(self) -> bytes:
        """The next bytes of the body, for who has no use for `arrived`; empty at its end. Raises `failure`."""
        while not self.pieces:
            if self.ended:
                return b""
            if self.failure is not None:
                raise self.failure
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.arrived = lambda waiter=waiter: None if waiter.done() else waiter.set_result(None)
            try:
                await waiter
            finally:
                self.arrived = None
        return self.take()

    def fail(self, failure: Exception) -> None:
        """End the answer here: `failure` comes after what is still to be taken. The first one counts."""
        if self.failure is None:
            self.failure = failure
            if self._head is not None and not self._head.done():
                self._head.set_exception(failure)
        if self.arrived is not None:
            self.arrived()

    def abort(self) -> None:
        """Cut the connection. Closing it alone would wait for the goodbye of a TLS peer."""
        self._keeps_alive = False
        self._transport.abort()

    # -- of the transport ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.ended:  # no request waits for these bytes, so the next answer could not be told from them
            self.abort()
            return
        try:
            self._feed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._break_off(BadAnswer(str(error.__context__ or error)))
            return
        if self.pieces:
            self._beside = 0
            self._held += len(data)
            if self._held > READ_BUFFER and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        else:
            self._beside += len(data)
            if self._beside > HEAD_LIMIT:
                self._break_off(BadAnswer(f"{HEAD_LIMIT} bytes of an answer held none of its body"))
                return
        if self.arrived is not None:
            self.arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        self._keeps_alive = False
        if self._to_the_end and exc is None and self.failure is None:
            self.ended = True
        if self.ended:
            if self.arrived is not None:
                self.arrived()
        else:
            lost = exc or ConnectionResetError("the other side closed the connection")
            # A time-out of the network is none of ours, which is what a TimeoutError means to whoever waits.
            self.fail(ConnectionAbortedError(str(lost)) if isinstance(lost, TimeoutError) else lost)
        del self._parser, self._feed  # they hold this object

    # -- of the parser -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.ended:  # a second answer, in the read that ended the first
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else it comes behind the body
            self.headers.add(name.decode("latin-1"), value.decode(errors="replace").strip())

    def on_headers_complete(self) -> None:
        if self.ended:
            raise BadAnswer("an answer to no request")
        status = self._parser.get_status_code()
        if status < 200:  # only a sign that the answer will come
            self.headers.clear()
            return
        self.status = status
        codings = self.headers.get("Transfer-Encoding", "").lower()
        self._to_the_end = "chunked" not in codings and "Content-Length" not in self.headers
        if self._head is not None and not self._head.done():
            self._head.set_result(None)

    def on_message_complete(self) -> None:
        if self.status and not self.ended:
            self.ended = True
            self._keeps_alive = self._parser.should_keep_alive()

    def _break_off(self, failure: Exception) -> None:
        self.abort()
        if not self.ended:
            self.fail(failure)
