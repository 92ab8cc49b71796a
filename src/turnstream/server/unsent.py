"""Bytes that were written to a socket and that the peer has not taken yet."""

from __future__ import annotations

import array
import asyncio
import sys

if sys.platform != "win32":
    from fcntl import ioctl
    from termios import TIOCOUTQ


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
