"""Joins a call that replaces a broken-off one to the blocks that were shown.

    Continuation   the open text continues in its block; text that the model repeats is left out
    Restart        the shown blocks are retracted as soon as new output arrives
    Repetition     the shown blocks must come again word for word, and are skipped; new output follows

Until the new call brings output, all shown blocks stay. Joints are pure. `JoinedBatches` applies one to a
call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeAlias

import msgspec

from turnstream.core.accumulator import RESUMED
from turnstream.core.blocks import Block
from turnstream.core.open_block import join_halves
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    RedactContent,
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import BlockReset
from turnstream.errors import CANNOT_CONTINUE, StreamBroken
from turnstream.providers.prefill import SHORTEST_REPETITION, KeptBlocks, without_repetition

JoinedEvent: TypeAlias = StreamEvent | BlockReset

_OUTSIDE_BLOCKS = (MessageStart, Metadata, StreamNotice, StreamError, RedactContent)
"""Events that do not belong to a block and are not output."""


class Joint(Protocol):
    """Transforms the events of a call so that they fold after those of the call before it."""

    def join(self, events: Sequence[StreamEvent]) -> list[JoinedEvent]:
        """Return the events to fold. Raises StreamBroken."""
        ...


@asynccontextmanager
async def joined(
    stream: AbstractAsyncContextManager[AsyncIterator[Sequence[Any]]], joint: Joint
) -> AsyncGenerator[JoinedBatches]:
    """Enter a stream whose batches pass through a joint."""
    async with stream as batches:
        yield JoinedBatches(batches, joint)


class JoinedBatches:
    """The batches of a call, passed through a joint."""

    def __init__(self, batches: AsyncIterator[Sequence[StreamEvent]], joint: Joint) -> None:
        self._batches = batches
        self._join = joint.join

    def __aiter__(self) -> JoinedBatches:
        return self

    async def __anext__(self) -> Sequence[JoinedEvent]:
        while True:
            events = self._join(await anext(self._batches))
            if events:
                return events


class RestartJoint:
    """Retracts the blocks from `retract_from` on, as soon as the new call brings output."""

    def __init__(self, retract_from: int) -> None:
        self._retract_from: int | None = retract_from

    def join(self, events: Sequence[StreamEvent]) -> list[JoinedEvent]:
        if self._retract_from is None:
            return [*events]
        for place, event in enumerate(events):
            if not isinstance(event, _OUTSIDE_BLOCKS):
                reset, self._retract_from = BlockReset(self._retract_from), None
                return [*events[:place], reset, *events[place:]]
        return [*events]


class ContinuationJoint:
    """Continues the text of `kept`."""

    def __init__(self, kept: KeptBlocks) -> None:
        self._kept = kept
        self._restarted = None if kept.retract_from is None else RestartJoint(kept.retract_from)
        self._target = RESUMED if kept.is_open else None
        self._index: int | None = None
        """Index that the provider gives to the continued text."""
        self._start: ContentBlockStart | None = None
        length = len(kept.text.rstrip())
        self._repeatable = length if length >= SHORTEST_REPETITION else 0
        """Characters of the kept text that a call may repeat."""
        self._repeated = 0
        """Characters of them that the call has repeated so far."""
        self._texts = ""
        """Text after them, while it is not decided which part of it is new."""
        self._half = ""
        self._take: Callable[[StreamEvent], list[JoinedEvent]] = self._first

    def join(self, events: Sequence[StreamEvent]) -> list[JoinedEvent]:
        joined: list[JoinedEvent] = []
        for event in events:
            joined.extend([event] if isinstance(event, _OUTSIDE_BLOCKS) else self._take(event))
        if self._restarted is None:
            return joined
        stream = [event for event in joined if not isinstance(event, BlockReset)]
        return self._restarted.join(stream)

    def _first(self, event: StreamEvent) -> list[JoinedEvent]:
        """Take the first event of a block."""
        match event:
            case ContentBlockStart(index, "text") | TextDelta(index):
                self._index = index
                self._start = event if isinstance(event, ContentBlockStart) else None
                self._take = self._beginning
                return [] if self._start is event else self._beginning(event)
            case _:  # not text: the open block ends where it is
                self._take = self._relabel
                return [event] if self._target is None else [ContentBlockStop(self._target), event]

    def _beginning(self, event: StreamEvent) -> list[JoinedEvent]:
        """Take text that may still repeat shown text."""
        if isinstance(event, TextDelta) and event.index == self._index:
            text, self._half = join_halves(self._half + event.text)
            end = self._repeated + len(text)
            if (
                not self._texts
                and end < self._repeatable
                and self._kept.text.startswith(text, self._repeated)
            ):
                self._repeated = end  # comparing the whole text each time would take quadratic time
                return []
            self._texts += text
            new = self._new_text(is_all=False)
            return [] if new is None else self._begin(new + self._half)
        new = (self._new_text(is_all=True) or "") + self._half
        if not new and self._target is None and isinstance(event, ContentBlockStop | MessageStop):
            self._take = self._relabel  # skip a block that only repeats
            self._index = None
            return [] if isinstance(event, ContentBlockStop) else [event]
        return [*self._begin(new), *self._relabel(event)]

    def _new_text(self, *, is_all: bool) -> str | None:
        kept = self._kept.text
        return without_repetition(kept, kept[: self._repeated] + self._texts, is_all=is_all)

    def _begin(self, new: str) -> list[JoinedEvent]:
        self._take = self._relabel
        begun: list[JoinedEvent] = []
        assert self._index is not None
        target = self._target
        if target is None:
            target = self._target = self._index
            if self._start is not None:
                begun.append(self._start)
        elif self._start is not None and self._start.content:
            begun.append(ContentDelta(target, self._start.content))
        if new:
            begun.append(TextDelta(target, new))
        return begun

    def _relabel(self, event: StreamEvent) -> list[JoinedEvent]:
        index, target = self._index, self._target
        if index is None or target is None or getattr(event, "index", None) != index:
            return [event]
        if isinstance(event, ContentBlockStop):
            self._index = None
        return [_at(event, target)]


class RepetitionJoint:
    """Skips the repetition of the `shown` blocks. The last one is still open if it is `partial`.

    Raises StreamBroken `cannot_continue` if the call differs from the shown blocks, as they cannot be
    retracted. `retryable` is taken from the failure that ended the first call.
    """

    def __init__(self, shown: Sequence[Block], *, retryable: bool = False) -> None:
        self._shown = shown
        self._retryable = retryable
        self._places: dict[int, int] = {}
        """Positions of the open blocks of the call among all its blocks, by index."""
        self._begun = 0
        self._lengths: dict[int, int] = {}
        """Repeated characters of each block that is being repeated, by its position."""
        self._halves: dict[int, str] = {}

    def join(self, events: Sequence[StreamEvent]) -> list[JoinedEvent]:
        joined: list[JoinedEvent] = []
        for event in events:
            joined.extend([event] if isinstance(event, _OUTSIDE_BLOCKS) else self._take(event))
        return joined

    def _take(self, event: StreamEvent) -> list[JoinedEvent]:
        if isinstance(event, MessageStop):
            if self._begun < len(self._shown) or not all(map(self._is_whole, self._lengths)):
                raise self._other()
            return [event]
        index: int = getattr(event, "index", 0)
        if isinstance(event, ContentBlockStart) or index not in self._places:
            self._places[index] = self._begun
            self._begun += 1
        place = self._places[index]
        if place >= len(self._shown):
            return [event]
        shown = self._shown[place]
        again = self._without_repetition(event, shown, place)
        if isinstance(event, ContentBlockStop):
            del self._places[index]
        return again

    def _without_repetition(self, event: StreamEvent, shown: Block, place: int) -> list[JoinedEvent]:
        """Return the new part of an event that belongs to a shown block."""
        self._lengths.setdefault(place, 0)
        text = _text_of(shown)
        match event:
            case ContentBlockStart(_, block_type, content):
                if block_type != shown.block_type or not _agrees(content, shown):
                    raise self._other()
                return []
            case TextDelta(_, more) | ThinkingDelta(_, more) | ToolInputDelta(_, more):
                new = more if self._is_whole(place) else self._new(more, text, place)
                if new and not shown.partial:
                    raise self._other()
                return [_with_text(event, new)] if new else []
            case ContentBlockStop():
                if not self._is_whole(place):
                    raise self._other()
                del self._lengths[place]
                return [ContentBlockStop(RESUMED)] if shown.partial else []
            case _:
                return [_at(event, RESUMED)] if shown.partial and self._is_whole(place) else []

    def _new(self, more: str, text: str, place: int) -> str:
        """Return the part of `more` that follows `text`, which is being repeated."""
        more, half = join_halves(self._halves.pop(place, "") + more)
        begin = self._lengths[place]
        old = more[: len(text) - begin]
        if not text.startswith(old, begin):
            raise self._other()
        self._lengths[place] = begin + len(old)
        if self._lengths[place] == len(text):
            return more[len(old) :] + half
        self._halves[place] = half
        return ""

    def _other(self) -> StreamBroken:
        return StreamBroken(
            "the answer broke off, and the next attempt did not repeat the shown text",
            code=CANNOT_CONTINUE,
            retryable=self._retryable,
        )

    def _is_whole(self, place: int) -> bool:
        """Return True if all shown text of a block has come again."""
        return self._lengths[place] >= len(_text_of(self._shown[place]))


def _text_of(block: Block) -> str:
    if block.block_type == "tool_use":
        return str((block.content or {}).get("input_json") or "")
    return block.text_content or ""


def _agrees(content: dict[str, object] | None, shown: Block) -> bool:
    """Return True if a block begins like the shown one.

    A tool call with another id, for example, does not.
    """
    known = shown.content or {}
    return all(known.get(name) == value for name, value in (content or {}).items())


def _at(event: StreamEvent, index: int) -> StreamEvent:
    match event:
        case TextDelta():
            return TextDelta(index, event.text)
        case ThinkingDelta() | ToolInputDelta() | SignatureDelta() | ContentDelta():
            return msgspec.structs.replace(event, index=index)
        case ContentBlockStop():
            return ContentBlockStop(index)
        case _:
            return event


def _with_text(event: TextDelta | ThinkingDelta | ToolInputDelta, text: str) -> StreamEvent:
    if isinstance(event, ToolInputDelta):
        return ToolInputDelta(RESUMED, text)
    return type(event)(RESUMED, text)
