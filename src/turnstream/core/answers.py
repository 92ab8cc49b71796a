"""A whole answer: what the events of one model call fold to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block
from turnstream.core.stream_events import MessageStop, StreamError, StreamEvent
from turnstream.core.usage import Usage


class Answer(msgspec.Struct, frozen=True):
    """What one model call brought. `stop` None: its end marker never came. `error`: what the provider reported."""

    id: str | None = None
    model: str | None = None
    blocks: tuple[Block, ...] = ()
    stop: MessageStop | None = None
    usage: Usage = Usage()
    raw_usage: dict[str, Any] | None = None
    error: StreamError | None = None

    @property
    def complete(self) -> bool:
        """The end marker came, and no error."""
        return self.stop is not None and self.error is None


class AnswerFold:
    """The accumulator's loop for a reader that keeps every block. `events`: how many were folded."""

    def __init__(self) -> None:
        self.accumulator = Accumulator()
        self.events = 0
        self._blocks: list[Block] = []

    def add(self, events: Sequence[StreamEvent]) -> None:
        """Fold the next events. Raises StreamBroken, as `Accumulator.fold`."""
        self.events += len(events)
        accumulator = self.accumulator
        position = 0
        while True:
            position = accumulator.fold(events, position)
            accumulator.take_changes()
            if accumulator.finished is None:
                return
            self._blocks.append(accumulator.finished)
            accumulator.release()

    def finish(self) -> Answer:
        """The answer, with blocks that were cut off as far as they came."""
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


def fold_answer(events: Iterable[StreamEvent]) -> Answer:
    """Fold the events of one model call. Raises StreamBroken."""
    fold = AnswerFold()
    fold.add(list(events))
    return fold.finish()
