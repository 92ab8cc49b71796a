"""Decompression of answers. We do not ask for compression, but some proxies apply it."""

from __future__ import annotations

import zlib
from typing import Any

from turnstream.errors import StreamIncomplete
from turnstream.providers.connection import Connection

_PIECE = 64 * 1024
"""Bytes to inflate at a time. One compressed byte can become a thousand."""
_EITHER_HEADER = zlib.MAX_WBITS | 32
_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_RAW_NIBBLE = 8
"""Low half of the first byte of a deflate stream with a header. Some servers leave the header out."""


class InflatedBody:
    """The body of a connection's answer, inflated on demand in pieces of at most 64 KiB.

    It has the attributes of `Connection` that a call reads. Raises StreamIncomplete if the coding is not
    supported.
    """

    __slots__ = ("_connection", "_inflate", "_rest")

    def __init__(self, connection: Connection, coding: str) -> None:
        if coding not in _CODINGS:
            raise StreamIncomplete(f"the answer is compressed as {coding!r}, which was not requested")
        self._connection = connection
        self._inflate: Any = None
        self._rest = b""

    @property
    def pieces(self) -> bool:
        """True if `take` has something to return or to raise."""
        return bool(self._rest or self._connection.pieces)

    @property
    def ended(self) -> bool:
        """True if the body has ended and all of it was taken."""
        return self._connection.ended and not self.pieces

    @property
    def failure(self) -> Exception | None:
        """Error that broke the body off. It comes after `pieces`."""
        return self._connection.failure

    def take(self) -> bytes:
        """Return the next bytes of the body, possibly none.

        Raises StreamIncomplete if they cannot be inflated.
        """
        # The connection resumes only when all its bytes are inflated, so its bound holds for the rest here
        # too.
        data = self._rest or self._connection.take()
        if self._inflate is None or self._inflate.eof:  # another member may follow
            self._inflate = _new_inflate(data)
        try:
            piece = self._inflate.decompress(data, _PIECE)
        except zlib.error as error:
            self._rest = b""
            raise StreamIncomplete("the answer cannot be decompressed", detail=str(error)) from None
        self._rest = self._inflate.unconsumed_tail or self._inflate.unused_data
        return piece


def inflated(data: bytes, coding: str, limit: int) -> bytes:
    """Return up to `limit` inflated bytes of a body, which may be cut.

    Return `data` if `coding` does not fit.
    """
    if coding not in _CODINGS or not data:
        return data
    try:
        return _new_inflate(data).decompress(data, limit)
    except zlib.error:
        return data


def _new_inflate(data: bytes) -> Any:
    has_header = data[0] & 0x0F == _RAW_NIBBLE or data[:1] == b"\x1f"
    return zlib.decompressobj(_EITHER_HEADER if has_header else -zlib.MAX_WBITS)
