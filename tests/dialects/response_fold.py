"""A client of Responses that keeps the contents of the events, and resumes after its last event."""

from __future__ import annotations

import json
from typing import Any

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_GROWING = {"text": "content", "refusal": "content"}


class ResponseFold:
    """Folds frames. `receive` takes bytes that are split anywhere."""

    def __init__(self) -> None:
        self.last = -1
        self.names: list[str] = []
        self.deltas = 0
        self.items: dict[int, dict[str, Any]] = {}
        self.done: dict[int, dict[str, Any]] = {}
        self.response: dict[str, Any] | None = None
        self.identity: str | None = None
        self.end: str | None = None
        self.error: dict[str, Any] | None = None
        self._rest = b""
        self.texts: dict[tuple[Any, ...], str] = {}

    def receive(self, data: bytes) -> None:
        whole, separator, self._rest = (self._rest + data).rpartition(b"\n\n")
        for frame in (whole + separator).split(b"\n\n")[:-1]:
            self._take(frame)

    def cut(self) -> None:
        """Drop an incomplete event."""
        self._rest = b""

    def _take(self, frame: bytes) -> None:
        if frame.startswith(b":"):
            return
        name, data = frame.split(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name.decode() == f"event: {event['type']}"
        assert not event.get("error"), "the SDK raises for such an event"
        assert self.end is None, "an event after the last one"
        number = event["sequence_number"]
        assert number > self.last, (number, self.last, event)
        self.last = number
        self.names.append(event["type"])
        self._fold(event["type"].removeprefix("response."), event)
        if event["type"] in _ENDS:
            self.end = event["type"]

    def _fold(self, kind: str, event: dict[str, Any]) -> None:
        if "response" in event:
            assert self.identity in (None, event["response"]["id"])
            self.identity, self.response = event["response"]["id"], event["response"]
        match kind:
            case "output_item.added":
                assert event["output_index"] == len(self.items), "a number twice, or left out"
                self.items[event["output_index"]] = event["item"]
            case "output_item.done":
                assert event["item"]["type"] == self.items[event["output_index"]]["type"]
                assert event["item"].get("id") == self.items[event["output_index"]].get("id")
                self.done[event["output_index"]] = event["item"]
            case "error":
                self.error = event
            case _ if kind.endswith(".delta"):
                assert event["delta"], "an empty delta"
                self.deltas += 1
                key = _key(kind, event)
                self.texts[key] = self.texts.get(key, "") + event["delta"]
            case _ if (field := _whole(event)) is not None and kind.endswith(".done"):
                shown = self.texts.get(_key(kind, event), "")
                assert shown == event[field], f"{shown!r} was shown, not {event[field]!r}: {event}"
            case _:
                pass

    def check_end(self) -> None:
        """The last event has all items as they were shown."""
        assert self.response is not None
        assert self.response["output"] == [self.done[index] for index in sorted(self.items)]


def _key(kind: str, event: dict[str, Any]) -> tuple[Any, ...]:
    stem = kind.rpartition(".")[0]
    return (stem, event["output_index"], event.get("content_index"), event.get("summary_index"))


def _whole(event: dict[str, Any]) -> str | None:
    if "part" in event:
        return None
    return next((name for name in ("text", "refusal", "arguments", "input", "code") if name in event), None)
