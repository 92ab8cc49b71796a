"""One frame of server-sent events as providers write it.

The standard ignores every line that is not a field (see `sse`). Providers put errors on such lines, omit
blank lines between events, and write JSON over several lines. `LooseFrame` reads all of these by three rules:

- A data line that is a complete JSON value ends before another data line, or before a line of bare JSON.
- Lines that are not a field of the standard are events too. JSON counts as data. Other text gets the name
  `UNFRAMED`, and the wire decides what it means.
- A name without data is an event without data.

A frame that follows the standard gives the same events as the standard.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

ServerSentEvent: TypeAlias = tuple[bytes | None, bytes, bytes | None]
"""`(event, data, id)`: the event's name or None, its data lines joined by LF, its id or None."""

UNFRAMED = b"(unframed)"
"""Name of an event whose data is text outside of every field."""

_JSON_BEGINS = (b"{", b"[")
_DONE = b"[DONE]"

_check_json = msgspec.json.Decoder(msgspec.Raw).decode


class LooseFrame:
    """Reads one frame that does not follow the standard. Each line is checked for JSON at most once."""

    def __init__(self, frame: bytes) -> None:
        self._events: list[ServerSentEvent] = []
        self._name: bytes | None = None
        self._next_name: bytes | None = None
        self._identity: bytes | None = None
        self._values: list[bytes] = []
        self._unknown: list[bytes] = []
        for line in frame.split(b"\n"):
            self._take(line)

    @property
    def has_data(self) -> bool:
        """True if lines of data, or lines outside of every field, were read since the last event."""
        return bool(self._values or self._unknown)

    @property
    def is_at_end(self) -> bool:
        """True if the lines so far are a complete value: the next line of data begins another event."""
        if self._values and self._unknown:
            return False
        return _is_one_value(self._values or self._unknown)

    def finish(self) -> list[ServerSentEvent]:
        """Return the events of a complete frame."""
        if self._values and self._next_name is not None:
            # The standard allows the event name below the data.
            self._name, self._next_name = self._next_name, None
        self._end_data()
        if self._name is not None:
            self._events.append((self._name, b"", self._identity))
        return self._events

    def finish_line(self) -> tuple[list[ServerSentEvent], bytes]:
        """Return the events so far, and the name line of the event that follows in the same frame."""
        self._end_data()
        return self._events, b"" if self._name is None else b"event: %b\n" % self._name

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            if self._unknown or _is_one_value(self._values):
                self._end_data()
            self._values.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ") or None
            if self._values:
                self._next_name = name
            else:
                self._end_data()
                self._name = name
        elif field == b"id":
            if b"\0" not in value:
                self._identity = value.removeprefix(b" ")
        elif field and field != b"retry":
            if line.startswith(_JSON_BEGINS) and self.is_at_end:
                self._end_data()
            self._unknown.append(line)

    def _end_data(self) -> None:
        """Add the events of the lines since the last event."""
        values, unknown = self._values, self._unknown
        self._values, self._unknown = [], []
        if values:
            data = b"\n".join(values)
            if unknown and not _is_whole(data) and _is_whole(joined := b"\n".join([data, *unknown])):
                data, unknown = joined, []  # indented JSON after one `data:`

            self._add(data)
        if unknown:
            text = b"\n".join(unknown).strip()
            if text.startswith(b"{") or _is_whole(text):
                self._add(text)
            elif text:
                self._events.append((UNFRAMED, text, None))

    def _add(self, data: bytes) -> None:
        self._events.append((self._name, data, self._identity))
        self._name, self._next_name, self._identity = self._next_name, None, None


def _is_one_value(lines: list[bytes]) -> bool:
    return len(lines) == 1 and _is_whole(lines[0])


def _is_whole(data: bytes) -> bool:
    """Return True if `data` is one JSON object or array, or the end marker of some providers."""
    if not data.startswith(_JSON_BEGINS):
        return False
    if data == _DONE:
        return True
    try:
        _check_json(data)
    except (ValueError, RecursionError):
        return False
    return True
