"""A queue of events for one reader, which may be slow.

It loses no event, and never holds more than the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    ToolProgress,
    TurnEvent,
    UsageReport,
)

PROGRESS_KEPT = 64 * 1024
"""Characters of one tool's progress that may wait. Of longer progress, only the end is kept."""


class EventQueue:
    """Holds up to `limit` events one by one. Beyond the limit, a delta is joined to the delta before it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: list[TurnEvent | _JoinedDelta] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._events)

    def push(self, events: Sequence[TurnEvent]) -> None:
        """Append events. Join them to waiting ones if the queue is full."""
        if len(self._events) + len(events) <= self._limit:
            self._events.extend(events)
            return
        for event in events:
            if len(self._events) < max(self._limit, 1) or not self._join(event):
                self._events.append(event)

    def take(self) -> list[TurnEvent]:
        """Return all waiting events, and remove them."""
        events = self._events
        self._events = []
        if self._places:
            self._places = {}
        if any(type(event) is _JoinedDelta for event in events):
            return [event.event() if isinstance(event, _JoinedDelta) else event for event in events]
        return cast("list[TurnEvent]", events)

    def withdraw(self, index: int) -> None:
        """Drop the waiting events of blocks from `index` on."""
        self._events = [event for event in self._events if _block_of(event) < index]
        self._places = {}

    def _join(self, event: TurnEvent) -> bool:
        last = self._events[-1]
        if isinstance(event, BlockDelta):
            if isinstance(last, _JoinedDelta):
                return last.add(event)
            if isinstance(last, BlockDelta) and (joined := _JoinedDelta(last)).add(event):
                self._events[-1] = joined
                return True
            return False
        if isinstance(event, ToolProgress):
            return self._replace(f"progress {event.tool_use_id}", event)
        if isinstance(event, UsageReport):
            return self._replace("usage", event)
        return False

    def _replace(self, what: str, event: ToolProgress | UsageReport) -> bool:
        """Replace a waiting event by its newer form: the usage, or the progress of one call.

        Return False if no such event is waiting.
        """
        place = self._places.setdefault(what, len(self._events))
        if place == len(self._events):
            return False
        old = self._events[place]
        if isinstance(event, ToolProgress) and isinstance(old, ToolProgress):
            event = ToolProgress(event.tool_use_id, (old.text + event.text)[-PROGRESS_KEPT:])
        self._events[place] = event
        return True


def _block_of(event: TurnEvent | _JoinedDelta) -> int:
    """Return the index of the block that an event shows, or -1."""
    match event:
        case BlockStart() | BlockDelta() | BlockStop() | BlockCatchup() | _JoinedDelta():
            return event.block_index
        case _:
            return -1


class _JoinedDelta:
    """Deltas of one field of one block, joined."""

    __slots__ = ("_first", "_parts")

    def __init__(self, first: BlockDelta) -> None:
        self._first = first
        self._parts = [first.value]

    @property
    def block_index(self) -> int:
        return self._first.block_index

    def add(self, delta: BlockDelta) -> bool:
        """Join a delta. Return False, and do nothing, if it belongs to another block or field."""
        first = self._first
        if first.block_index != delta.block_index or first.field != delta.field or first.field == "content":
            return False
        self._parts.append(delta.value)
        return True

    def event(self) -> BlockDelta:
        """Return one delta with the joined text."""
        first = self._first
        return BlockDelta(first.block_index, first.block_type, first.field, "".join(self._parts))


class ToolHolder:
    """Holds the events of a tool call until the call is complete."""

    def __init__(self) -> None:
        self._held: EventQueue | None = None

    def through(self, events: Sequence[TurnEvent]) -> list[TurnEvent]:
        """Take events, and return those that may be shown now."""
        shown: list[TurnEvent] = []
        for event in events:
            if isinstance(event, BlockStart) and event.block_type == "tool_use":
                self._held = EventQueue(1)
            elif isinstance(event, BlockReset):
                self._held = None
            if self._held is None:
                shown.append(event)
                continue
            self._held.push((event,))
            if isinstance(event, BlockStop):
                shown += self._held.take()
                self._held = None
        return shown
