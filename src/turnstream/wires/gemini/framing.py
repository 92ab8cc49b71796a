"""The two framings of a Gemini stream: server-sent events, and one JSON array that arrives in pieces.

The first byte of a body shows its framing. Events are the elements of the array, consecutive bare objects, or
a single object.

Google's array is indented, so the first `}` at the start of a line ends an element: a JSON string has no line
ends. The reader tries this first, and accepts the element if it is JSON. It scans everything else once, token
by token.
"""

from __future__ import annotations

import re

import msgspec

from turnstream.core.sse import ServerSentEvent, SseDecoder
from turnstream.errors import EventTooLarge

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHITE_SPACE = b" \t\r\n"
_JSON_BEGINS = (b"{", b"[")
_BETWEEN = re.compile(rb"[ \t\r\n,\[\]]*")
_FOREIGN = re.compile(rb"[^ \t\r\n,\[\]{]+")
_TO_NEXT_BRACE = re.compile(rb'(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_STRING_END = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_BRACE, _QUOTE = b"{", ord('"')

_check_json = msgspec.json.Decoder(msgspec.Raw).decode


class ResponseFraming:
    """Detects the framing of one body.

    `reader` splits the body into events once the framing is known. Until then `begin` takes the bytes.

    Args:
        event_limit: Bytes that one event may have.
    """

    def __init__(self, *, event_limit: int) -> None:
        self.reader: SseDecoder | JsonElements | None = None
        self._event_limit = event_limit
        self._head = b""

    def begin(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that the first bytes complete.

        Ignores a leading byte order mark and white space. Raises EventTooLarge if an event exceeds the limit.
        """
        data = self._head + data
        if len(data) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(data):
            self._head = data
            return []
        data = data.removeprefix(_BYTE_ORDER_MARK).lstrip(_WHITE_SPACE)
        if not data:
            self._head = b" "  # white space: enough to know that no byte order mark can follow
            return []
        if data.startswith(_JSON_BEGINS):
            self.reader = JsonElements(event_limit=self._event_limit)
        else:
            self.reader = SseDecoder(event_limit=self._event_limit, loose=True)
        return self.reader.feed(data)

    def close(self) -> list[ServerSentEvent]:
        """Return the last event at the end of the body, if its blank line is missing."""
        return [] if self.reader is None else self.reader.close()


class JsonElements:
    """Splits a JSON array, or consecutive objects, into elements. Each becomes an event without a name.

    Foreign bytes between the elements become events too, which fail to decode.
    """

    def __init__(self, *, event_limit: int) -> None:
        self._event_limit = event_limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._indented = True
        self._failure: EventTooLarge | None = None

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that `data` completes.

        Raises EventTooLarge if an event exceeds the limit. If earlier events are complete in the same `data`,
        they are returned, and the next call raises.
        """
        if self._failure is not None:
            raise self._failure
        found: list[ServerSentEvent] = []
        position = 0
        while position < len(data) and self._failure is None:
            if self._depth:
                position = self._scan(data, position, found)
                continue
            if not self._pieces:
                position = _BETWEEN.match(data, position).end()  # type: ignore[union-attr]
                if data.startswith(_BRACE, position):
                    position = self._take_element(data, position, found)
                    continue
            position = self._take_foreign(data, position, found)
        if self._failure is not None and not found:
            raise self._failure
        return found

    def close(self) -> list[ServerSentEvent]:
        """Return no events: an incomplete element at the end of the body is not an event.

        Raises EventTooLarge if the last `feed` has not raised it yet.
        """
        if self._failure is not None:
            raise self._failure
        return []

    def _take_element(self, data: bytes, begin: int, found: list[ServerSentEvent]) -> int:
        """Take the element at `begin`, or the part of it that has arrived. Return the place after it."""
        end = data.find(b"\n}", begin) if self._indented else -1
        if end >= 0:
            element = data[begin : end + 2]
            try:
                _check_json(element)
            except (ValueError, RecursionError):
                self._indented = False
            else:
                if len(element) > self._event_limit:
                    self._fail()
                else:
                    found.append((None, element, None))
                return end + 2
        position = self._scan(data, begin, found)
        self._indented = self._indented and bool(self._depth)
        return position

    def _take_foreign(self, data: bytes, begin: int, found: list[ServerSentEvent]) -> int:
        """Take foreign bytes up to where an element could begin. Return the place after them."""
        match = _FOREIGN.match(data, begin)
        end = begin if match is None else match.end()
        self._keep(data[begin:end])
        if end < len(data):
            self._finish(found)
        return end

    def _scan(self, data: bytes, begin: int, found: list[ServerSentEvent]) -> int:
        """Scan an element from the end of the last scan. Return the place after the scanned bytes."""
        position = self._scan_string(data, begin) if self._in_string else begin
        while position < len(data):
            position = _TO_NEXT_BRACE.match(data, position).end()  # type: ignore[union-attr]
            if position == len(data):
                break
            if data[position] == _QUOTE:
                position = self._scan_string(data, position + 1)
                continue
            self._depth += 1 if data.startswith(_BRACE, position) else -1
            position += 1
            if not self._depth:
                self._keep(data[begin:position])
                self._finish(found)
                return position
        self._keep(data[begin:position])
        return position

    def _scan_string(self, data: bytes, position: int) -> int:
        """Scan a string that began before `position`.

        Return the place after its end, or the end of the data.
        """
        if self._escaped and position < len(data):
            self._escaped = False
            position += 1
        position = _STRING_END.match(data, position).end()  # type: ignore[union-attr]
        self._in_string = position == len(data) or data[position] != _QUOTE
        self._escaped = self._in_string and position < len(data)
        return min(position + 1, len(data))

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            if self._size > self._event_limit:
                self._fail()

    def _finish(self, found: list[ServerSentEvent]) -> None:
        if self._pieces:
            found.append((None, b"".join(self._pieces), None))
            self._pieces.clear()
            self._size = 0

    def _fail(self) -> None:
        self._pieces.clear()
        self._failure = EventTooLarge(f"an event has more than {self._event_limit} bytes", retryable=False)


def split_elements(body: bytes) -> tuple[bytes, ...]:
    """Split a JSON array after each element. The joined pieces are the body."""
    pieces: list[bytes] = []
    start = 0
    for _, element, _ in JsonElements(event_limit=len(body)).feed(body):
        end = body.index(element, start) + len(element)
        pieces.append(body[start:end])
        start = end
    return (*pieces, body[start:]) if start < len(body) else tuple(pieces)
