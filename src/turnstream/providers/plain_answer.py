"""An answer that is no stream, as the events of one (requirement J3)."""

from __future__ import annotations

import msgspec

from turnstream.core.stream_events import StreamEvent
from turnstream.errors import EventTooLarge, MalformedEvent, StreamIncomplete
from turnstream.wires.base import Finish, Wire

JSON = "application/json"


def is_plain(wire: Wire, content_type: str) -> bool:
    """Whether an answer of this type is none of the streams of `wire`, but one object: some gateways do not stream,
    whatever they are asked."""
    return content_type == JSON and wire.content_type != JSON


class PlainAnswerDecoder:
    """Holds the body back until it is whole; it may have `limit` bytes. See `wires.base.Decoder`."""

    def __init__(self, wire: Wire, limit: int) -> None:
        self._wire = wire
        self._limit = limit
        self._body = bytearray()

    @property
    def finish(self) -> Finish | None:
        """None: the body's end is the answer's."""
        return None

    def end(self) -> list[StreamEvent]:
        """As `Decoder.end`."""
        return self.close()

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Raises EventTooLarge."""
        self._body += data
        if len(self._body) > self._limit:
            raise EventTooLarge(f"the answer has more than {self._limit} bytes")
        return []

    def close(self) -> list[StreamEvent]:
        """Raises StreamIncomplete for what is no whole JSON, MalformedEvent for what is no answer."""
        body = bytes(self._body)
        try:
            return self._wire.decode_answer(body)
        except MalformedEvent:
            if not _is_json(body):
                raise StreamIncomplete("the answer ended before it was whole") from None
            raise


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return False
    return True
