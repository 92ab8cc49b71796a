"""Presentations of an answer for `turnstream ask`: text or JSON, as it arrives or when it is complete."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from turnstream.cli.answer_text import AnswerText
from turnstream.cli.question.schema import read_answer
from turnstream.cli.terminal import Piece, Screen
from turnstream.core.native_fold import NativeEvent, NativeFold

_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


class Presentation:
    """Shows the events of an answer.

    `fold`: the fold of all events so far. `fault`: the reason why the answer does not have the requested
    form, or None.
    """

    fault: str | None = None

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
        if text := whole_text(self.fold):
            self._screen.write([Piece(text if text.endswith("\n") else f"{text}\n", markdown=True)])


class SchemaValue(Presentation):
    """Writes the value of an answer as JSON when the turn has ended. On a terminal it is indented."""

    def __init__(self, screen: Screen, schema: dict[str, Any]) -> None:
        super().__init__(screen)
        self._schema = schema

    def close(self) -> None:
        ending = self.fold.ending
        if ending is None or ending.name != "turn_complete":
            return
        try:
            value = read_answer(whole_text(self.fold), self._schema)
        except (ValueError, RecursionError) as error:
            self.fault = str(error)
            return
        indent = 2 if self._screen.on_terminal else None
        self._screen.write([Piece(f"{json.dumps(value, ensure_ascii=False, indent=indent)}\n")])


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


Form: TypeAlias = Literal["live", "whole", "events", "object"]
"""Form of the output: text as it arrives or at its end, events as lines of JSON, or one JSON object."""


def presentation(screen: Screen, form: Form, *, schema: dict[str, Any] | None = None) -> Presentation:
    """Return the presentation of a form. `schema`: JSON Schema of the answer. None: the answer is text."""
    match form:
        case "events":
            return EventLines(screen)
        case "object":
            return WholeObject(screen)
        case _ if schema is not None:
            return SchemaValue(screen, schema)
        case "whole":
            return WholeText(screen)
        case "live":
            return LiveText(screen)


def whole_text(fold: NativeFold) -> str:
    """Return the text blocks of an answer, with blank lines between them."""
    texts = [block.text_content or "" for block in fold.blocks if block.block_type == "text"]
    return "\n\n".join(filter(None, texts))


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
