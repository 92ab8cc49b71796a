"""Presentations of an answer for `turnstream ask`: text or JSON, as it arrives or when it is complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from turnstream.cli.answer_text import AnswerText
from turnstream.cli.terminal import Piece, Screen
from turnstream.core.native_fold import NativeEvent, NativeFold

_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


class Presentation:
    """Shows the events of an answer. `fold`: the fold of all events so far."""

    def __init__(self, screen: Screen) -> None:
        self.fold = NativeFold()
        self._screen = screen

    def show(self, events: Sequence[NativeEvent]) -> None:
        """Fold the events."""
        for name, data in events:
            self.fold.feed(name, data)

    def close(self) -> None:
        """Finish the output after the last event."""


class LiveText(Presentation):
    """Writes text as it arrives."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(screen)
        self._answer = AnswerText()
        self.fold = self._answer.fold

    def show(self, events: Sequence[NativeEvent]) -> None:
        self._screen.write([piece for name, data in events for piece in self._answer.feed(name, data)])

    def close(self) -> None:
        self._screen.write(self._answer.close())


class WholeText(Presentation):
    """Writes text when the turn has ended."""

    def close(self) -> None:
        texts = [block.text_content or "" for block in self.fold.blocks if block.block_type == "text"]
        text = "\n\n".join(filter(None, texts))
        if text:
            self._screen.write([Piece(text if text.endswith("\n") else f"{text}\n")])


class EventLines(Presentation):
    """Writes each event as a line of JSON, `{"event", "data"}`, as it arrives."""

    def show(self, events: Sequence[NativeEvent]) -> None:
        for name, data in events:
            self.fold.feed(name, data)
            self._screen.write([Piece(f"{_json({'event': name, 'data': data})}\n")])


class WholeObject(Presentation):
    """Writes the answer as one JSON object when the turn has ended."""

    _start: Mapping[str, Any] = {}

    def show(self, events: Sequence[NativeEvent]) -> None:
        super().show(events)
        for name, data in events:
            if name == "turn_start":
                self._start = data

    def close(self) -> None:
        ending = self.fold.ending
        answer = {
            **{name: self._start.get(name) for name in ("turn_id", "chat_id", "model")},
            "blocks": self.fold.blocks,
            **(ending.data if ending is not None else {"status": "unknown"}),
        }
        self._screen.write([Piece(f"{_json(answer)}\n")])


def presentation(screen: Screen, *, as_json: bool, stream: bool) -> Presentation:
    """Return the presentation for `--json` (`as_json`) and `--no-stream` (not `stream`)."""
    if as_json:
        return EventLines(screen) if stream else WholeObject(screen)
    return LiveText(screen) if stream else WholeText(screen)


def usage_line(fold: NativeFold) -> str:
    """Return a line with the tokens and the cost of an ended turn."""
    data: Mapping[str, Any] = fold.ending.data if fold.ending is not None else {}
    usage: Mapping[str, Any] = data.get("usage") or data
    parts = [
        f"{usage[name]:,} {name.removesuffix('_tokens').replace('_', ' ')}"
        for name in _TOKENS
        if usage.get(name)
    ]
    text = f"[tokens: {', '.join(parts) or 'not told'}"
    if data.get("estimated"):
        text += ", estimated"
    if (cost := data.get("cost")) is not None:
        text += f"; cost: {cost} USD"
    elif data.get("unpriced"):
        text += "; cost: unknown, for want of a price"
    return f"{text}]"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
