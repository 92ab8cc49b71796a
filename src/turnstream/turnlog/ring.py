"""A ring of recent events, bounded by estimated memory, with their frames beside them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from turnstream.core.turn_events import BlockDelta, TurnEvent
from turnstream.turnlog.base import FrameEncoder

DEFAULT_LIMIT = 64 * 1024
_EVENT_COST = 152
"""Estimated bytes of a delta in the ring, beside its text: the struct, the string's head, two places in the ring."""

_FRAME_COST = 33
_WIDEST = 4
"""Bytes of a character of a text that is not ASCII, at the most."""
_JOIN_AT_MOST = 16
"""Backlogs up to this many events are sent frame by frame; in longer ones adjacent deltas are merged."""
_ROOM = 16
"""Where it is full, one part in so many is made free at a time, since making room has a price of its own."""


class Ring:
    """Consecutive events `first_seq … last_seq`. Appending evicts the oldest beyond the limit, but keeps the newest."""

    __slots__ = ("_encoder", "_events", "_frames", "_limit", "_size", "coalesced", "first_seq", "last_seq")

    def __init__(self, encoder: FrameEncoder, *, last_seq: int = 0, limit: int = DEFAULT_LIMIT) -> None:
        self.first_seq = last_seq + 1
        self.last_seq = last_seq
        self.coalesced = 0
        """Events that were sent within another, merged with it."""
        self._encoder = encoder
        self._limit = limit
        self._size = 0
        self._events: deque[TurnEvent] = deque()
        self._frames: deque[bytes | None] = deque()

    @property
    def size(self) -> int:
        """Estimated bytes held."""
        return self._size

    def covers(self, seq: int) -> bool:
        """Whether every event after `seq` is still here."""
        return seq >= self.first_seq - 1

    def event_at(self, seq: int) -> TurnEvent | None:
        """The event numbered `seq`; None when it is not here."""
        place = seq - self.first_seq
        return self._events[place] if 0 <= place < len(self._events) else None

    def append(self, events: Sequence[TurnEvent]) -> None:
        for event in events:
            if type(event) is BlockDelta and event.field != "content":
                self.append_text(event)
                continue
            frame = self._encoder.frame(
                self.last_seq + 1, event
            )  # rare ones vary in size: their frame tells it
            self._frames.append(frame)
            self._events.append(event)
            self.last_seq += 1
            self._size += _EVENT_COST + 2 * len(frame)
            if self._size > self._limit:
                self._make_room()

    def append_text(self, delta: BlockDelta) -> None:
        """`append` a delta of text."""
        text: str = delta.value
        self._events.append(delta)
        self._frames.append(None)
        self.last_seq += 1
        self._size += _EVENT_COST + (len(text) if text.isascii() else _WIDEST * len(text))
        if self._size > self._limit:
            self._make_room()

    def _make_room(self) -> None:
        """Drop the oldest events, beyond the limit and some more."""
        events, frames, size = self._events, self._frames, self._size
        enough = self._limit - self._limit // _ROOM
        while size > enough and len(events) > 1:
            event, frame = events.popleft(), frames.popleft()
            if type(event) is BlockDelta and event.field != "content":
                text: str = event.value
                size -= _EVENT_COST + (len(text) if text.isascii() else _WIDEST * len(text))
                if frame is not None:
                    size -= _FRAME_COST + len(frame)
            elif frame is not None:
                size -= _EVENT_COST + 2 * len(frame)
        self._size = size
        self.first_seq = self.last_seq - len(events) + 1

    def clear(self) -> None:
        """Forget the events; the numbering stays."""
        self._events.clear()
        self._frames.clear()
        self._size = 0
        self.first_seq = self.last_seq + 1

    def encode_after(self, seq: int) -> bytes:
        """The frames of all events after `seq`, which the ring must cover: joined, or merged when they are many."""
        count = self.last_seq - seq
        if count == 1:
            frame = self._frames[-1]
            return self._frame(-1, self.last_seq) if frame is None else frame
        start = len(self._events) - count
        if count <= _JOIN_AT_MOST:
            return b"".join([self._frame(start + place, seq + 1 + place) for place in range(count)])
        return self._merged(start, seq)

    def _frame(self, place: int, seq: int) -> bytes:
        frame = self._frames[place]
        if frame is None:
            frame = self._encoder.frame(seq, self._events[place])
            self._frames[place] = frame
            self._size += _FRAME_COST + len(frame)
        return frame

    def _merged(self, start: int, seq: int) -> bytes:
        """Adjacent deltas of one field become one, with the last one's id."""
        frames: list[bytes] = []
        pending: BlockDelta | None = None
        texts: list[str] = []
        for place in range(start, len(self._events)):
            event = self._events[place]
            mergeable = type(event) is BlockDelta and event.field != "content"
            if pending is not None and not (
                mergeable
                and event.block_index == pending.block_index  # type: ignore[union-attr]
                and event.field == pending.field  # type: ignore[union-attr]
            ):
                frames.append(self._encoder.frame(seq, _joined(pending, texts)))
                pending, texts = None, []
            seq += 1
            if mergeable:
                pending = event  # type: ignore[assignment]
                texts.append(event.value)  # type: ignore[union-attr]
            else:
                frames.append(self._frame(place, seq))
        if pending is not None:
            frames.append(self._encoder.frame(seq, _joined(pending, texts)))
        self.coalesced += len(self._events) - start - len(frames)
        return b"".join(frames)


def _joined(delta: BlockDelta, texts: list[str]) -> BlockDelta:
    return BlockDelta(delta.block_index, delta.block_type, delta.field, "".join(texts))
