"""Decodes a body labelled as one JSON object into the events of a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from turnstream.core.stream_events import MessageStop, StreamError, StreamEvent
from turnstream.errors import EventTooLarge, MalformedEvent, StreamBroken, StreamIncomplete
from turnstream.wires.base import Decoder, Finish, Wire
from turnstream.wires.shared.lenient_json import decode_json

JSON = "application/json"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BEFORE_OBJECT = b" \t\r\n" + _BYTE_ORDER_MARK
_OBJECT_BEGINS = b"{"
_OBJECT_ENDS = b"}"


def is_plain(wire: Wire, content_type: str) -> bool:
    """Return True if the content type announces one object. Some gateways do not stream even if requested."""
    return content_type == JSON and wire.content_type != JSON


class PlainAnswerDecoder:
    """Buffers a JSON object until it is complete. See `wires.base.Decoder`.

    The content type may be wrong. A body is decoded as a stream, as it arrives, if it does not begin with an
    object, or if more follows after an object on its first line.

    Args:
        wire: The wire that decodes the object.
        limit: Limit of the object, in bytes.
        new_stream: Returns the decoder for a stream. None means the wire's own decoder.
    """

    def __init__(self, wire: Wire, limit: int, new_stream: Callable[[], Decoder] | None = None) -> None:
        self._wire = wire
        self._limit = limit
        self._new_stream = new_stream or wire.decoder
        self._body = bytearray()
        self._place: Literal["begin", "first line", "second line", "inside"] = "begin"
        self._stream: Decoder | None = None
        self._looked_at = 0
        self._is_answer = False

    @property
    def finish(self) -> Finish | None:
        """See `Decoder.finish`. A whole answer is only `likely` the end: more may follow until the
        body ends."""
        if self._stream is not None:
            return self._stream.finish
        if self._looked_at != len(self._body):
            self._looked_at = len(self._body)
            self._is_answer = self._holds_answer()
        return "likely" if self._is_answer else None

    def end(self) -> list[StreamEvent]:
        """See `Decoder.end`."""
        return self.close() if self._stream is None else self._stream.end()

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Return the events that `data` completes: none, unless the body is a stream. Raises as a stream's
        decoder does."""
        if self._stream is not None:
            return self._stream.feed(data)
        body = self._body
        body += data
        if self._place != "inside" and self._is_stream(data):
            self._stream = self._new_stream()
            whole = bytes(body)
            body.clear()
            return self._stream.feed(whole)
        if len(body) > self._limit:
            raise EventTooLarge(f"the answer has more than {self._limit} bytes")
        return []

    def close(self) -> list[StreamEvent]:
        """Return the events of the object, or the last events of the stream.

        Raises StreamIncomplete for incomplete JSON, and MalformedEvent for JSON that is not an answer.
        """
        if self._stream is not None:
            return self._stream.close()
        body = _content(self._body)
        try:
            return self._wire.decode_answer(body)
        except MalformedEvent:
            if _is_json(body):
                raise
            return self._read_as_stream(body)

    def _holds_answer(self) -> bool:
        body = _content(self._body)
        if not body.endswith(_OBJECT_ENDS):
            return False
        try:
            events = self._wire.decode_answer(body)
        except StreamBroken:
            return False
        return any(type(event) is MessageStop or type(event) is StreamError for event in events)

    def _read_as_stream(self, body: bytes) -> list[StreamEvent]:
        """Decode as a stream a body that is not one JSON value: a truncated object, or an error over several
        lines with more after it."""
        stream = self._new_stream()
        try:
            events = stream.feed(body)
            return events + stream.close()
        except StreamBroken:
            raise StreamIncomplete("the answer ended before it was complete") from None

    def _is_stream(self, data: bytes) -> bool:
        """Return True if the body, which ends with `data`, is a stream. The first line is parsed
        only once."""
        if self._place == "begin":
            content = _content(self._body)
            if not content or _BYTE_ORDER_MARK.startswith(content):
                return False
            if not content.startswith(_OBJECT_BEGINS):
                return True
            self._place = "first line"
            data = bytes(self._body)
        if self._place == "first line" and b"\n" in data:
            line, line_end, rest = bytes(self._body).lstrip(_BEFORE_OBJECT).partition(b"\n")
            if not line_end:
                return False
            self._place = "second line" if _is_json(line) else "inside"
            data = rest
        return self._place == "second line" and bool(data.strip())


def _content(body: bytearray) -> bytes:
    """Return the body without a byte order mark and surrounding white space."""
    return bytes(body).removeprefix(_BYTE_ORDER_MARK).strip()


def _is_json(body: bytes) -> bool:
    try:
        decode_json(body)
    except ValueError:
        return False
    return True
