"""Messages in the bytes that a client sends, for faults at a message."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import TypeAlias

Splitter: TypeAlias = Callable[[bytes], Iterable[bytes]]
"""Takes the next bytes of a connection, and returns the messages that are complete."""

_PROTOCOL = 3
"""Major version of the protocol: the start names it."""


def whole(data: bytes) -> Iterable[bytes]:
    """Return the bytes as they came: a protocol without messages."""
    return (data,)


def frontend_messages() -> Splitter:
    """Return a splitter for what a client of PostgreSQL sends, without encryption.

    Requests before the start (for encryption, to cancel) and the start itself have no type byte.
    """
    buffer = bytearray()
    has_started = False

    def split(data: bytes) -> Iterable[bytes]:
        nonlocal has_started
        buffer.extend(data)
        while True:
            type_bytes = 1 if has_started else 0
            if len(buffer) < type_bytes + 4:
                return
            (length,) = struct.unpack_from("!I", buffer, type_bytes)
            if len(buffer) < type_bytes + length:
                return
            message = bytes(buffer[: type_bytes + length])
            del buffer[: type_bytes + length]
            if not has_started:
                (code,) = struct.unpack_from("!I", message, 4)
                has_started = code >> 16 == _PROTOCOL
            yield message

    return split
