"""Answers that come compressed, though we ask for none that are: some proxies do as they please."""

from __future__ import annotations

import zlib
from typing import Any

from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError, StreamIncomplete
from turnstream.wires.base import Decoder

_PIECE = 64 * 1024
"""Bytes inflated at a time: a few may stand for a thousand times as many."""
_EITHER_HEADER = zlib.MAX_WBITS | 32
_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_RAW_NIBBLE = 8
"""What the first byte of a deflate stream with its header ends with; some servers leave the header out."""


class InflatingDecoder:
    """Decodes a compressed body with another decoder; see `wires.base.Decoder`. Raises StreamIncomplete for a coding that
    is not known, and for bytes that are not in it."""

    def __init__(self, decoder: Decoder, coding: str) -> None:
        if coding not in _CODINGS and coding != "identity":
            raise StreamIncomplete(f"the answer is compressed as {coding!r}, which was not asked for")
        self._decoder = decoder
        self._plain = coding == "identity"
        self._inflate: Any = None
        self._failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[StreamEvent]:
        if self._failure is not None:
            raise self._failure
        if self._plain or not data:
            return self._decoder.feed(data)
        events: list[StreamEvent] = []
        try:
            while data:
                piece, data = self._next_piece(data)
                events += self._decoder.feed(piece)
        except ProviderError as error:
            self._failure = error
            if not events:
                raise
        return events

    def close(self) -> list[StreamEvent]:
        if self._failure is not None:
            raise self._failure
        return self._decoder.close()

    def _next_piece(self, data: bytes) -> tuple[bytes, bytes]:
        """Up to `_PIECE` bytes, and the compressed rest. One member may follow another."""
        if self._inflate is None or self._inflate.eof:
            self._inflate = _new_inflate(data)
        try:
            piece = self._inflate.decompress(data, _PIECE)
        except zlib.error as error:
            raise StreamIncomplete("the answer cannot be decompressed", detail=str(error)) from None
        return piece, self._inflate.unconsumed_tail or self._inflate.unused_data


def inflated(data: bytes, coding: str, limit: int) -> bytes:
    """Up to `limit` bytes of a body that may be cut; the body itself where it is not in that coding."""
    if coding not in _CODINGS or not data:
        return data
    try:
        return _new_inflate(data).decompress(data, limit)
    except zlib.error:
        return data


def _new_inflate(data: bytes) -> Any:
    has_header = data[0] & 0x0F == _RAW_NIBBLE or data[:1] == b"\x1f"
    return zlib.decompressobj(_EITHER_HEADER if has_header else -zlib.MAX_WBITS)
