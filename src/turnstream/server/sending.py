"""Bodies that are sent piece by piece, as their client takes them: event streams, and large JSON answers.

A piece waits until the client has taken enough of those before it. `KeepAlive` cuts a client that takes nothing.
"""

from __future__ import annotations

import array
import asyncio
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
"""Bytes given to the socket at once. A client whose socket takes nothing holds one piece, and the socket's buffer of as
much again; a larger frame is shared with the others that are being sent it."""

ABORT_EXTENSION = "turnstream.abort"
"""A scope extension with which our own server lets a stalled connection be cut without flushing it."""

UNSENT_EXTENSION = "turnstream.unsent"
"""A scope extension with which our own server tells how many bytes the client has not taken yet."""

SendData: TypeAlias = Callable[[bytes], Awaitable[None]]


class SentBody:
    """A body on its way to one client.

    `sending_since`: see `Sending` in `keepalive`. `cut`: how to drop the connection. `unsent`: how many bytes the client
    has not taken yet; None on a server that does not tell, where only a whole piece that was taken counts.
    """

    __slots__ = ("_now", "_unsent_before", "cut", "sending_since", "unsent")

    receiver = "client"
    """The receiver's name in the log."""

    def __init__(self) -> None:
        self.sending_since: float | None = None
        self.cut: Callable[[], None] = self.close
        self.unsent: Callable[[], int] | None = None
        self._unsent_before = 0
        self._now = asyncio.get_running_loop().time

    def took_some(self) -> bool:
        """Return True if the client has taken bytes since the last call, or since the piece under way began."""
        if self.unsent is None:
            return False
        before, self._unsent_before = self._unsent_before, self.unsent()
        return self._unsent_before < before

    def drop(self) -> None:
        """Cut a client whose socket takes nothing."""
        logger.info("dropping a %s whose connection takes nothing", self.receiver)
        self.cut()

    def close(self) -> None:
        """Send nothing more: the client has gone."""
        raise NotImplementedError

    async def serve(self, send: SendData) -> None:
        """Send the body, to its end or until it is closed."""
        raise NotImplementedError

    async def send_pieces(self, data: bytes, send: SendData) -> None:
        for piece in pieces_of(data):
            self.sending_since, self._unsent_before = self._now(), 0
            await send(piece)
        self.sending_since = None


async def serve_in_task(body: SentBody, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a body whose response has begun, from the request's own task."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    task = asyncio.current_task()
    dropped = False

    def cut() -> None:
        nonlocal dropped
        dropped = True
        if task is not None:
            task.cancel()

    async def send_data(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    body.cut = cut
    body.unsent = extensions.get(UNSENT_EXTENSION)
    gone = asyncio.ensure_future(_until_disconnect(receive))
    gone.add_done_callback(lambda _: body.close())
    try:
        await body.serve(send_data)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except asyncio.CancelledError:
        if not dropped or task is None:
            raise
        task.uncancel()
        if (abort := extensions.get(ABORT_EXTENSION)) is not None:
            abort()
    finally:
        body.cut = body.close
        gone.cancel()


def pieces_of(data: bytes) -> Iterable[bytes]:
    """Return `data` in pieces that are given to the socket one by one."""
    if len(data) <= PIECE:
        return (data,)
    return (data[start : start + PIECE] for start in range(0, len(data), PIECE))


async def _until_disconnect(receive: Receive) -> Any:
    while (await receive())["type"] != "http.disconnect":
        pass


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Return the bytes in the transport's buffer and, where the system tells it, in the kernel's.

    A kernel holds megabytes for a slow peer, and takes more only once a good part of them is gone: the transport's
    buffer alone stands still for minutes while a slow peer takes what it can.
    """
    return transport.get_write_buffer_size() + _unacknowledged(transport)


def _unacknowledged(transport: asyncio.Transport) -> int:
    sock = transport.get_extra_info("socket")
    if sys.platform == "win32" or sock is None:
        return 0
    count = array.array("i", [0])
    try:
        ioctl(sock.fileno(), TIOCOUTQ, count)
    except OSError:  # not a socket that knows it, or closed by now
        return 0
    return count[0]
