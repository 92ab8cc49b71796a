"""Readers that are written from the descriptions of the clients alone, and read like the clients' own pages.

`FetchReader` splits the body at line ends, and takes the line after `event:` as the data. `EventSourceReader`
follows the rules of an `EventSource`, with its reconnects. `LineReader` takes lines that begin with `data: `.
"""

from __future__ import annotations

import json
from typing import Any


class FetchReader:
    """Reads named events: a line `event: NAME`, and the next line for the data."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self._buffer = b""
        self._name: str | None = None

    def take(self, data: bytes) -> None:
        lines = (self._buffer + data).split(b"\n")
        self._buffer = lines.pop()
        for line in lines:
            text = line.decode()
            if self._name is not None:
                assert text.startswith("data: "), f"the line after event: is {text!r}"
                self.events.append((self._name, json.loads(text[6:])))
                self._name = None
            elif text.startswith("event: "):
                self._name = text[7:]

    @property
    def text(self) -> str:
        return "".join(data["text"] for name, data in self.events if name == "chunk")

    @property
    def names(self) -> list[str]:
        """Names of the events, adjacent chunks as one."""
        names: list[str] = []
        for name, _ in self.events:
            if name != "chunk" or names[-1:] != ["chunk"]:
                names.append(name)
        return names


class EventSourceReader:
    """Reads events as an EventSource: an id counts once its event is complete."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.last_id = ""
        self._reset()

    def _reset(self) -> None:
        self._buffer = b""
        self._name, self._data = "", []
        self._id = self.last_id

    def connect(self) -> dict[str, str]:
        """Return the headers of the next connection. An event that was cut off is dropped."""
        self._reset()
        return {"Last-Event-ID": self.last_id} if self.last_id else {}

    def take(self, data: bytes) -> None:
        lines = (self._buffer + data).split(b"\n")
        self._buffer = lines.pop()
        for line in lines:
            self._take_line(line.decode())

    def _take_line(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            self.last_id = self._id
            if self._data:
                self.events.append((self._name or "message", json.loads("\n".join(self._data))))
            self._name, self._data = "", []
        elif field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        elif field == "id":
            self._id = value

    @property
    def text(self) -> str:
        return "".join(data["text"] for name, data in self.events if name == "chunk")

    @property
    def has_ended(self) -> bool:
        return any(name in ("done", "error") for name, _ in self.events)


class LineReader:
    """Reads lines that begin with `data: `, each a JSON object. Other lines are not events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.other: list[str] = []
        self._buffer = b""

    def take(self, data: bytes) -> None:
        lines = (self._buffer + data).split(b"\n")
        self._buffer = lines.pop()
        for line in lines:
            text = line.decode()
            if text.startswith("data: "):
                self.events.append(json.loads(text[6:]))
            elif text.strip():
                self.other.append(text)

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def text(self) -> str:
        return "".join(event["content"] for event in self.events if event["type"] == "stream_chunk")
