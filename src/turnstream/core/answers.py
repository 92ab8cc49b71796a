"""A whole answer: the result of folding the events of one model call, with its retractions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStop,
    RedactContent,
    SignatureDelta,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import BlockReset, TurnEvent
from turnstream.core.usage import Usage

REPLACEMENT = -2
"""Index of the block that replaces the content of a call."""

_CONTENT = (
    ContentBlockStart,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    SignatureDelta,
    ContentDelta,
    ContentBlockStop,
)


class Answer(msgspec.Struct, frozen=True):
    """The result of one model call.

    Attributes:
        created: Seconds since the epoch, or 0 if it is not known.
        stop: The end marker, or None if it never came.
        error: The error that the provider reported, or None.
    """

    id: str | None = None
    model: str | None = None
    blocks: tuple[Block, ...] = ()
    stop: MessageStop | None = None
    usage: Usage = Usage()
    raw_usage: dict[str, Any] | None = None
    error: StreamError | None = None
    created: int = 0

    @property
    def complete(self) -> bool:
        """True if the end marker came without an error."""
        return self.stop is not None and self.error is None


class AnswerFold:
    """Runs the accumulator's loop for a reader that keeps every block.

    `events` is the number of folded events.
    """

    def __init__(self) -> None:
        self.accumulator = Accumulator()
        self.events = 0
        self._blocks: list[Block] = []

    def add(self, events: Sequence[StreamEvent]) -> None:
        """Fold the next events. Raises StreamBroken as `Accumulator.fold` does."""
        self.events += len(events)
        fold_all(self.accumulator, events, [], self._blocks)

    def finish(self) -> Answer:
        """Return the answer. Blocks that were cut off are included as partial."""
        accumulator = self.accumulator
        if accumulator.stop is not None and accumulator.error is None:
            accumulator.end()
            self.add(())
        _, cuts = accumulator.cut()
        self._blocks.extend(cut.block for cut in cuts)
        return Answer(
            accumulator.message_id,
            accumulator.model,
            tuple(self._blocks),
            accumulator.stop,
            accumulator.usage,
            accumulator.raw_usage,
            accumulator.error,
        )


def fold_all(
    accumulator: Accumulator,
    events: Sequence[StreamEvent],
    changes: list[TurnEvent],
    blocks: list[Block],
    now: float | None = None,
) -> None:
    """Fold all `events`. Raises StreamBroken as `Accumulator.fold` does.

    Args:
        accumulator: The fold.
        events: Events of one model call.
        changes: The events that show them are appended here, block_stops included.
        blocks: The blocks that finish are appended here.
        now: Time in seconds, as in `Accumulator.fold`.
    """
    if accumulator.is_redacted:
        events = without_content(events)
    if (place := _redaction_place(events)) is not None:
        _fold_all(accumulator, events[:place], changes, blocks, now)
        accumulator.retract(accumulator.first_sequence)
        blocks[:] = [block for block in blocks if block.sequence < accumulator.first_sequence]
        changes.append(BlockReset(accumulator.first_sequence, shown=()))
        redaction = cast("RedactContent", events[place])
        _fold_all(accumulator, (redaction, *replacement_events(redaction.replacement)), changes, blocks, now)
        fold_all(accumulator, events[place + 1 :], changes, blocks, now)
        return
    _fold_all(accumulator, events, changes, blocks, now)


def _fold_all(
    accumulator: Accumulator,
    events: Sequence[StreamEvent],
    changes: list[TurnEvent],
    blocks: list[Block],
    now: float | None,
) -> None:
    position = 0
    while True:
        position = accumulator.fold(events, position, now)
        changes += accumulator.take_changes()
        if accumulator.finished is None:
            return
        blocks.append(accumulator.finished)
        changes.append(accumulator.release())


def fold_answer(events: Iterable[StreamEvent]) -> Answer:
    """Fold the events of one model call into an answer.

    Raises StreamBroken if the answer exceeds its limit.
    """
    fold = AnswerFold()
    fold.add(list(events))
    return fold.finish()


# -- content that the provider retracts ---------------------------------------------------------------------


def replacement_events(replacement: str) -> tuple[StreamEvent, ...]:
    """Return the events of the block that replaces the content of a call. None for an empty text."""
    if not replacement:
        return ()
    return (
        ContentBlockStart(REPLACEMENT, "text"),
        TextDelta(REPLACEMENT, replacement),
        ContentBlockStop(REPLACEMENT),
    )


def without_content(events: Sequence[StreamEvent]) -> list[StreamEvent]:
    """Return the events without the content that follows a retraction in the same call."""
    return [event for event in events if not isinstance(event, _CONTENT)]


def _redaction_place(events: Sequence[StreamEvent]) -> int | None:
    """Return the place of the first event that retracts the answer, or None."""
    if RedactContent not in set(map(type, events)):
        return None
    places = (
        place
        for place, event in enumerate(events)
        if isinstance(event, RedactContent) and event.side == "assistant"
    )
    return next(places, None)
