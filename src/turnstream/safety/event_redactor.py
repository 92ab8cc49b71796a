"""Redaction of the events of a turn's source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec.structs import replace

from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStop,
    RedactContent,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import BlockReset, Data, Source, SourceEvent, ToolProgress
from turnstream.safety.json_redactor import JsonRedactor, redact_value
from turnstream.safety.redaction import redact_content
from turnstream.safety.rules import RedactionFilter
from turnstream.safety.text_redactor import TextRedactor, redact_text

_Piece: TypeAlias = TextDelta | ThinkingDelta | ToolInputDelta


class _OpenBlock:
    """A block whose stop has not come.

    Attributes:
        signature: Pieces of its signature. They wait for the end of the text.
        piece: Type of the events that carry its text.
        redactor: Redacts its text.
    """

    def __init__(self, redactor: TextRedactor | JsonRedactor, piece: type[_Piece]) -> None:
        self.redactor = redactor
        self.piece = piece
        self.signature: list[SignatureDelta] = []


class EventRedactor:
    """Replaces matches in the content of a turn, before the content is stored or shown.

    Text that may still become a match is held back until it is certain, at the latest until its block ends.
    The signature of changed thinking is dropped, because the provider would refuse it.
    """

    def __init__(self, redaction: RedactionFilter) -> None:
        self._redaction = redaction
        self._open: dict[int, _OpenBlock] = {}
        self._free_texts: set[int] = set()
        """Indexes of open tool calls whose arguments are plain text."""

    def feed(self, events: Sequence[SourceEvent]) -> list[SourceEvent]:
        """Return the redacted events that have become certain with `events`."""
        redacted: list[SourceEvent] = []
        for event in events:
            self._redact(event, redacted)
        return redacted

    def close(self) -> list[SourceEvent]:
        """Return the text that is held back in open blocks, when no text follows."""
        redacted: list[SourceEvent] = []
        for index in tuple(self._open):
            self._finish(index, redacted)
        self._free_texts.clear()
        return redacted

    def discard(self) -> None:
        """Drop the text that is held back. Another call of the model writes it again."""
        self._open.clear()
        self._free_texts.clear()

    def _redact(self, event: SourceEvent, redacted: list[SourceEvent]) -> None:
        match event:
            case TextDelta() | ThinkingDelta() | ToolInputDelta():
                self._add_text(event, redacted)
                return
            case SignatureDelta() if event.index in self._open:
                self._open[event.index].signature.append(event)
                return
            case ContentBlockStart() if (event.content or {}).get("free_text"):
                self._free_texts.add(event.index)
            case ContentBlockStop():
                self._finish(event.index, redacted)
                self._free_texts.discard(event.index)
            case MessageStop():
                redacted += self.close()
            case BlockReset() | RedactContent(side="assistant"):
                self.discard()
            case _:
                pass
        redacted.append(self._whole(event))

    def _whole(self, event: SourceEvent) -> SourceEvent:
        """Return an event whose values are whole, redacted."""
        match event:
            case ContentBlockStart() | ContentDelta():
                return replace(
                    event, content=event.content and redact_content(event.content, self._redaction)
                )
            case RedactContent():
                return replace(event, replacement=self._text(event.replacement))
            case ToolProgress():
                return replace(event, text=self._text(event.text))
            case Data():
                return replace(event, data=redact_value(event.data, self._redaction))
            case Source():
                url, title = (text and self._text(text) for text in (event.url, event.title))
                return replace(event, url=url, title=title)
            case _:
                return event

    def _add_text(self, event: _Piece, redacted: list[SourceEvent]) -> None:
        block = self._open.get(event.index)
        if block is None or block.piece is not type(event):
            self._finish(event.index, redacted)
            is_json = isinstance(event, ToolInputDelta) and event.index not in self._free_texts
            redactor = (JsonRedactor if is_json else TextRedactor)(self._redaction)
            block = self._open[event.index] = _OpenBlock(redactor, type(event))
        text = event.partial_json if isinstance(event, ToolInputDelta) else event.text
        shown = block.redactor.feed(text)
        if shown:
            redacted.append(event if shown == text else block.piece(event.index, shown))

    def _finish(self, index: int, redacted: list[SourceEvent]) -> None:
        """Show the rest of a block's text, and its signature if it fits the text."""
        block = self._open.pop(index, None)
        if block is None:
            return
        if rest := block.redactor.close():
            redacted.append(block.piece(index, rest))
        if not block.redactor.has_replaced:
            redacted += block.signature

    def _text(self, text: str) -> str:
        return redact_text(text, self._redaction)
