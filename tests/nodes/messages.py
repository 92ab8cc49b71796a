"""Messages in the bytes that a client sends, for faults at a message."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias


class ClientMessage(NamedTuple):
    """A message of a client.

    Attributes:
        data: Its bytes.
        transaction: SQL of the transaction up to this message, also of statements that were prepared earlier.
    """

    data: bytes
    transaction: bytes = b""


Splitter: TypeAlias = Callable[[bytes], Iterable[ClientMessage]]
"""Takes the next bytes of a connection, and returns the messages that are complete."""

_PROTOCOL = 3
"""Major version of the protocol: the start names it."""


def whole(data: bytes) -> Iterable[ClientMessage]:
    """Return the bytes as they came: a protocol without messages."""
    return (ClientMessage(data),)


def frontend_messages() -> Splitter:
    """Return a splitter for what a client of PostgreSQL sends, without encryption.

    Requests before the start (for encryption, to cancel) and the start itself have no type byte.
    """
    buffer = bytearray()
    has_started = False
    statements = _Statements()

    def split(data: bytes) -> Iterable[ClientMessage]:
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
            else:
                statements.take(message)
            yield ClientMessage(message, statements.transaction)

    return split


class _Statements:
    """The statements of one connection."""

    def __init__(self) -> None:
        self.transaction = b""
        self._prepared: dict[bytes, bytes] = {}

    def take(self, message: bytes) -> None:
        """Add the statement that a message runs. A statement that begins a transaction is its first."""
        kind, content = message[:1], message[5:]
        match kind:
            case b"Q":
                statement = content
            case b"P":
                name, statement, _ = content.split(b"\0", 2)
                self._prepared[name] = statement
                return
            case b"B":
                _, name, _ = content.split(b"\0", 2)
                statement = self._prepared[name]
            case _:
                return
        if statement.startswith(b"BEGIN"):
            self.transaction = b""
        self.transaction += statement + b";"
