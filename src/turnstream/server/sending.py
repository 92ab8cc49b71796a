"""Bodies that are sent piece by piece, as fast as the client reads: event streams and large JSON answers.

A piece waits until the write buffer has room. `KeepAlive` cuts a client that reads nothing.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from starlette.types import Receive, Scope, Send

if sys.platform != "win32":
    from fcntl import ioctl
    from termios import TIOCOUTQ


logger = logging.getLogger(__name__)

PIECE = 32 * 1024
"""Bytes that are written to the socket at once.

A client that reads nothing holds one piece and a write buffer of the same size. A larger frame is shared by
all clients that receive it.
"""

LAST_SECONDS = 0.5
"""Seconds that the last words of a cancelled request have to reach the socket."""

ABORT_EXTENSION = "turnstream.abort"
"""Scope extension of our own server that cuts a stalled connection without flushing it."""

UNSENT_EXTENSION = "turnstream.unsent"
"""Scope extension of our own server that returns the number of bytes that the client has not received yet."""

SendData: TypeAlias = Callable[[bytes], Awaitable[None]]


class SentBody:
    """A body that is being sent to one client.

    `sending_since`: see `keepalive.ServedBody`.
    `cut`: cuts the connection.
    `unsent`: returns the bytes that the client has not received yet. None if the server cannot count them:
    then only a completely written piece counts as progress.
    """

    __slots__ = ("_now", "_unsent_before", "cut", "sending_since", "unsent")

    receiver = "client"
    """Name of the receiver in log lines."""

    def __init__(self) -> None:
        self.sending_since: float | None = None
        self.cut: Callable[[], None] = self.close
        self.unsent: Callable[[], int] | None = None
        self._unsent_before = 0
        self._now = asyncio.get_running_loop().time

    def has_progressed(self) -> bool:
        """Return True if the client has received bytes since the last call or the current piece's start."""
        if self.unsent is None:
            return False
        before, self._unsent_before = self._unsent_before, self.unsent()
        return self._unsent_before < before

    def drop(self) -> None:
        """Cut the connection of a stalled client."""
        logger.info("dropping a %s: its client receives no data", self.receiver)
        self.cut()

    def last_words(self) -> bytes:
        """Return the bytes for a client whose request is cancelled because the server stops."""
        return b""

    def close(self) -> None:
        """Stop sending, because the client has disconnected."""
        raise NotImplementedError

    async def serve(self, send: SendData) -> None:
        """Send the body until its end or until `close`."""
        raise NotImplementedError

    async def send_pieces(self, data: bytes | memoryview, send: SendData) -> None:
        for piece in pieces_of(data):
            self.sending_since, self._unsent_before = self._now(), 0
            await send(piece)
        self.sending_since = None


async def serve_in_task(body: SentBody, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a body in the request's own task. The response has already started."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    task = asyncio.current_task()
    dropped = False

    def cut() -> None:
        nonlocal dropped
        dropped = True
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def send_data(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    body.cut = cut
    body.unsent = extensions.get(UNSENT_EXTENSION)
    gone = asyncio.ensure_future(until_disconnect(receive))
    gone.add_done_callback(lambda _: body.close())
    try:
        await body.serve(send_data)
        if not dropped:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except asyncio.CancelledError:
        if not dropped or task is None:
            await _say_last_words(body, send_data)
            raise
        task.uncancel()
    finally:
        body.cut = body.close
        gone.cancel()
    if dropped and (abort := extensions.get(ABORT_EXTENSION)) is not None:
        abort()


async def _say_last_words(body: SentBody, send_data: SendData) -> None:
    """Send what a client must know before its connection is cut, unless a piece is being sent."""
    if body.sending_since is None and (words := body.last_words()):
        with contextlib.suppress(TimeoutError, OSError):  # the client does not read, or has gone
            async with asyncio.timeout(LAST_SECONDS):
                await send_data(words)


def pieces_of(data: bytes | memoryview) -> Iterable[bytes]:
    """Return `data` in pieces of at most `PIECE` bytes."""
    if len(data) <= PIECE:
        return (bytes(data),)
    return (bytes(data[start : start + PIECE]) for start in range(0, len(data), PIECE))


async def until_disconnect(receive: Receive) -> Any:
    """Wait until the client has disconnected. The rest of its request is discarded."""
    while (await receive())["type"] != "http.disconnect":
        pass


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Return the bytes in the transport's buffer and, if the system reports it, in the kernel's send buffer.

    The transport's buffer alone may not shrink for minutes while a slow peer reads steadily: the kernel
    buffers megabytes, and accepts more only after it has sent a large part of them.
    """
    return transport.get_write_buffer_size() + _unacknowledged(transport)


def _unacknowledged(transport: asyncio.Transport) -> int:
    sock = transport.get_extra_info("socket")
    if sys.platform == "win32" or sock is None:
        return 0
    count = array.array("i", [0])
    try:
        ioctl(sock.fileno(), TIOCOUTQ, count)
    except OSError:  # the socket does not support it, or is closed
        return 0
    return count[0]
