"""Converts `<think>` tags in text into thinking blocks: a decoder around any wire's decoder.

Some models write their thinking into the text, between `<think>` and `</think>` or other tags in `TAGS`. A
text block that begins with such a tag, or with white space and the tag, becomes a thinking block and, after
the closing tag, a text block. The rest is treated the same way if it begins with a tag again. A tag elsewhere
in the text is text.

Only white space and the beginning of a possible tag are buffered. White space next to the tags is dropped
if it separates blocks. All other text is unchanged. The blocks do not depend on how the text is split.
"""

from __future__ import annotations

from itertools import count
from typing import Literal, TypeAlias

import msgspec

from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStop,
    SignatureDelta,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.errors import StreamIncomplete
from turnstream.wires.base import Decoder, Finish

TAGS = ("think", "thinking", "reasoning", "thought")
_OPENINGS = tuple(f"<{tag}>" for tag in TAGS)
BLANK_LIMIT = 1024
"""Characters of white space that are buffered before a tag. After more of them, no tag is recognized."""

_NO_PLACE = -1

_Delta: TypeAlias = TextDelta | ThinkingDelta | ToolInputDelta | SignatureDelta | ContentDelta
_Indexed: TypeAlias = _Delta | ContentBlockStop


class ThinkTagSplitter:
    """Splits the thinking off the text blocks of one answer's events."""

    def __init__(self) -> None:
        self._indexes = count()
        self._places: dict[int, int] = {}
        self._texts: dict[int, _SplitText] = {}

    def split(self, events: list[StreamEvent]) -> list[StreamEvent]:
        """Return `events` with their text blocks split, and the indexes of all blocks renumbered."""
        found: list[StreamEvent] = []
        for event in events:
            if isinstance(event, TextDelta) and (text := self._text_of(event.index)) is not None:
                text.take(event.text, found)
            elif isinstance(event, ContentBlockStart):
                self._start(event, found)
            elif isinstance(event, _Indexed):
                self._pass_on(event, found)
            else:
                if isinstance(event, MessageStop | StreamError):
                    for text in self._texts.values():
                        text.flush(found)
                found.append(event)
        return found

    def _text_of(self, index: int) -> _SplitText | None:
        """Return the open text block at `index`. Creates one if no block is open there."""
        if index not in self._texts and index not in self._places:
            self._texts[index] = _SplitText(ContentBlockStart(index, "text"), self._indexes)
        return self._texts.get(index)

    def _start(self, event: ContentBlockStart, found: list[StreamEvent]) -> None:
        self._stop(event.index, found)
        if event.block_type == "text":
            self._texts[event.index] = _SplitText(event, self._indexes)
            return
        self._places[event.index] = place = next(self._indexes)
        found.append(ContentBlockStart(place, event.block_type, event.content))

    def _pass_on(self, event: _Indexed, found: list[StreamEvent]) -> None:
        index = event.index
        if isinstance(event, ContentBlockStop):
            self._stop(index, found)
            return
        if isinstance(event, ContentDelta) and (text := self._texts.get(index)) is not None:
            text.take_content(event, found)
            return
        if index not in self._places:  # the block has no start event
            self._stop(index, found)
            self._places[index] = next(self._indexes)
        found.append(msgspec.structs.replace(event, index=self._places[index]))

    def _stop(self, index: int, found: list[StreamEvent]) -> None:
        """Stop the block that is open at `index`."""
        if (place := self._places.pop(index, None)) is not None:
            found.append(ContentBlockStop(place))
        if (text := self._texts.pop(index, None)) is not None:
            text.stop(found)


class ThinkTagDecoder(ThinkTagSplitter):
    """Decodes as `decoder` does, with the thinking in text blocks split off."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self._decoder = decoder

    @property
    def finish(self) -> Finish | None:
        """See `Decoder.finish`."""
        return self._decoder.finish

    def end(self) -> list[StreamEvent]:
        """See `Decoder.end`."""
        return self.split(self._decoder.end())

    def feed(self, data: bytes) -> list[StreamEvent]:
        """See `Decoder.feed`."""
        return self.split(self._decoder.feed(data))

    def close(self) -> list[StreamEvent]:
        """See `Decoder.close`. Of a truncated text, at most the beginning of a tag is still buffered."""
        try:
            return self.split(self._decoder.close())
        except StreamIncomplete as error:
            error.held = self.split(list(error.held))
            raise


class _SplitText:
    """A text block of the wire while it is being split."""

    __slots__ = ("_closing", "_content", "_held", "_indexes", "_place", "_start", "_state", "_thought")

    def __init__(self, start: ContentBlockStart, indexes: count[int]) -> None:
        self._start = start
        self._indexes = indexes
        self._state: Literal["begin", "think", "text"] = "begin"
        self._held = ""
        self._closing = ""
        self._thought = False
        self._content: list[ContentDelta] = []
        self._place = _NO_PLACE

    def take(self, text: str, found: list[StreamEvent]) -> None:
        """Append the events for more text."""
        while text:
            if self._state == "text":
                found.append(TextDelta(self._place, text))
                return
            text, self._held = self._held + text, ""
            text = self._begin(text, found) if self._state == "begin" else self._think(text, found)

    def take_content(self, event: ContentDelta, found: list[StreamEvent]) -> None:
        """Append content that comes with the text. It is buffered until the text block begins."""
        if self._state == "text":
            found.append(ContentDelta(self._place, event.content))
        else:
            self._content.append(event)

    def flush(self, found: list[StreamEvent]) -> None:
        """Append the buffered text, which did not become a tag."""
        held, self._held = self._held, ""
        if self._state == "think":
            self._show_thinking(held, found)
        elif self._state == "begin" and (held.strip() or not self._thought):
            self._enter_text(found)
            if held:
                found.append(TextDelta(self._place, held.lstrip() if self._thought else held))

    def stop(self, found: list[StreamEvent]) -> None:
        """Append the events that end the text."""
        self.flush(found)
        if self._content:
            self._leave_thinking(found)
            self._enter_text(found)
        if self._place != _NO_PLACE:
            found.append(ContentBlockStop(self._place))

    def _begin(self, text: str, found: list[StreamEvent]) -> str:
        """Consume white space and an opening tag. Return the text that is not consumed."""
        said = text.lstrip()
        few = len(text) - len(said) <= BLANK_LIMIT
        if few and said.startswith(_OPENINGS):
            self._state = "think"
            name, _, rest = said[1:].partition(">")
            self._closing = f"</{name}>"
            return rest
        if few and any(opening.startswith(said) for opening in _OPENINGS):
            self._held = text
            return ""
        self._enter_text(found)
        return said if few and self._thought else text

    def _think(self, text: str, found: list[StreamEvent]) -> str:
        """Consume thinking up to the closing tag. Return the text after the tag."""
        thinking, tag, rest = text.partition(self._closing)
        if not tag:
            keep = _overlap(text, self._closing)
            thinking, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self._show_thinking(thinking, found)
        if tag:
            self._leave_thinking(found)
        return rest

    def _show_thinking(self, thinking: str, found: list[StreamEvent]) -> None:
        if self._place == _NO_PLACE:
            thinking = thinking.lstrip()
            if thinking:
                self._place = next(self._indexes)
                found.append(ContentBlockStart(self._place, "thinking"))
        if thinking:
            found.append(ThinkingDelta(self._place, thinking))

    def _leave_thinking(self, found: list[StreamEvent]) -> None:
        if self._place != _NO_PLACE:
            found.append(ContentBlockStop(self._place))
        self._place = _NO_PLACE
        self._thought = True
        self._state = "begin"

    def _enter_text(self, found: list[StreamEvent]) -> None:
        self._state = "text"
        self._place = next(self._indexes)
        found.append(ContentBlockStart(self._place, "text", self._start.content))
        found.extend(ContentDelta(self._place, event.content) for event in self._content)
        self._content.clear()


def _overlap(text: str, closing: str) -> int:
    """Return the number of characters at the end of `text` that may begin the closing tag."""
    longest = min(len(text), len(closing) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(closing[:size])), 0)
