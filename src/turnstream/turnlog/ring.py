"""A ring of recent events with their frames, bounded by estimated memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

import msgspec

from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockStart,
    BlockStop,
    Data,
    Notice,
    Source,
    TurnEvent,
    UserRedacted,
)
from turnstream.turnlog.base import DialectBatch, DialectEncoder, FrameEncoder

DEFAULT_LIMIT = 64 * 1024
_EVENT_COST = 152
"""Estimated bytes of a delta in the ring without its text: struct, string header, two slots."""

_FRAME_COST = 33
"""Estimated bytes of a frame in the ring without its data."""
_DIALECT_COST = 112
"""Estimated bytes of a frame of another dialect without its data and its state.

Most events do not change the state.
"""
_MAX_CHARACTER_BYTES = 4
"""Bytes that a character takes at most in a text that is not ASCII."""
_OF_BLOCK = (BlockStart, BlockDelta, BlockStop, BlockCatchup)
_SENT_EARLY = (Notice, Source, Data, UserRedacted)
"""Events that a catch-up may send before events that came earlier."""
NUMBER_ONLY = BlockDelta(-1, "text", "content", None)
"""An event whose text is part of a later event, or was withdrawn. It has no frame."""
_JOIN_AT_MOST = 16
"""Events up to which a backlog is sent frame by frame. Adjacent deltas of a longer backlog are merged."""
_EVICTED_FRACTION = 16
"""A full ring frees 1/`_EVICTED_FRACTION` of the limit at a time. Each eviction has a fixed cost."""


class _DialectFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame of another dialect, and the encoder's states before and after it."""

    before: object
    data: bytes
    after: object


class Ring:
    """Consecutive events `first_seq … last_seq`.

    Appending evicts the oldest beyond the limit, but never the newest.
    """

    def __init__(self, encoder: FrameEncoder, *, last_seq: int = 0, limit: int = DEFAULT_LIMIT) -> None:
        self.first_seq = last_seq + 1
        self.last_seq = last_seq
        self.coalesced = 0
        """Number of events that were sent merged into another."""
        self._encoder = encoder
        self._limit = limit
        self.size = 0
        """Estimated bytes in memory."""
        self._events: deque[TurnEvent] = deque()
        self._frames: deque[bytes | None] = deque()
        self._dialects: dict[str, deque[_DialectFrame | None]] = {}
        """Frames of other dialects, by name.

        A frame has the index of its event. A list may end before the events do.
        """

    def covers(self, seq: int) -> bool:
        """Return True if every event after `seq` is still in the ring."""
        return seq >= self.first_seq - 1

    def event_at(self, seq: int) -> TurnEvent | None:
        """Return the event numbered `seq`, or None if the ring does not have it."""
        place = seq - self.first_seq
        return self._events[place] if 0 <= place < len(self._events) else None

    def events_in(self, seq: int, end: int) -> list[TurnEvent]:
        """Return the events after `seq`, which the ring must cover, up to `end`."""
        start = seq + 1 - self.first_seq
        return list(islice(self._events, start, start + end - seq))

    def is_exact(self, seq: int) -> bool:
        """Return True if a client whose last event is `seq` certainly has all earlier events.

        False for a durable event in the middle of a block, because a catch-up sends such an event before the
        block. False if the ring does not have the event.
        """
        event = self.event_at(seq)
        return event is not None and _is_exact(event)

    def last_frames(self, limit: int) -> tuple[list[bytes], bytes]:
        """Return the last frames that have `limit` bytes together, but at least one, and their exactness.

        The second value has one byte per frame: 1 if the event is not exact.
        """
        frames: list[bytes] = []
        inexact = bytearray()
        for place in range(len(self._events) - 1, -1, -1):
            frame = self._frames[place]
            if frame is None:
                frame = self._frame(place, self.first_seq + place)
            limit -= len(frame)
            if limit < 0 and frames:
                break
            frames.append(frame)
            inexact.append(not _is_exact(self._events[place]))
        frames.reverse()
        inexact.reverse()
        return frames, bytes(inexact)

    def append(self, events: Sequence[TurnEvent]) -> None:
        """Append events with the numbers after `last_seq`."""
        for event in events:
            frame: bytes | None = None
            if type(event) is BlockDelta and event.field != "content":
                text: str = event.value
                cost = _EVENT_COST + (len(text) if text.isascii() else _MAX_CHARACTER_BYTES * len(text))
            else:  # rare events vary in size, so measure the frame
                frame = self._encoder.frame(self.last_seq + 1, event)
                cost = _EVENT_COST + 2 * len(frame)
            self._events.append(event)
            self._frames.append(frame)
            self.last_seq += 1
            self.size += cost
            if self.size > self._limit:
                self._make_room()

    def skip(self, count: int) -> None:
        """Use up the numbers of `count` events, whose text the next event carries."""
        for _ in range(count):
            self._events.append(NUMBER_ONLY)
            self._frames.append(b"")
            self.last_seq += 1
            self.size += _EVENT_COST

    def withdraw(self, index: int) -> None:
        """Drop the content of blocks from `index` on. The numbers of its events stay."""
        gone = [isinstance(event, _OF_BLOCK) and event.block_index >= index for event in self._events]
        for place, is_gone in enumerate(gone):
            if is_gone:
                self.size -= self._held(place) - _EVENT_COST
        self._events = deque(
            NUMBER_ONLY if was else event for event, was in zip(self._events, gone, strict=True)
        )
        self._frames = deque(b"" if was else frame for frame, was in zip(self._frames, gone, strict=True))
        for name, made in self._dialects.items():
            self._dialects[name] = deque(
                self._emptied(frame) if was and frame is not None else frame
                for frame, was in zip(made, gone, strict=False)
            )

    def _emptied(self, frame: _DialectFrame) -> _DialectFrame:
        """Return a frame without its bytes. The states around it stay."""
        self.size -= len(frame.data)
        return msgspec.structs.replace(frame, data=b"")

    def _held(self, place: int) -> int:
        """Return the bytes that an event holds, without its frames in other dialects."""
        event, frame = self._events[place], self._frames[place]
        if type(event) is not BlockDelta or event.field == "content":
            return _EVENT_COST + 2 * len(frame or b"")
        text: str = event.value
        size = _EVENT_COST + (len(text) if text.isascii() else _MAX_CHARACTER_BYTES * len(text))
        return size if frame is None else size + _FRAME_COST + len(frame)

    def _make_room(self) -> None:
        """Evict the oldest events until the ring is below its limit by one part in `_EVICTED_FRACTION`."""
        events, frames, size = self._events, self._frames, self.size
        enough = self._limit - self._limit // _EVICTED_FRACTION
        while size > enough and len(events) > 1:
            event, frame = events.popleft(), frames.popleft()
            if type(event) is BlockDelta and event.field != "content":
                text: str = event.value
                size -= _EVENT_COST + (len(text) if text.isascii() else _MAX_CHARACTER_BYTES * len(text))
                if frame is not None:
                    size -= _FRAME_COST + len(frame)
            elif frame is not None:
                size -= _EVENT_COST + 2 * len(frame)
            if self._dialects:
                size -= self._drop_first()
        self.size = size
        self.first_seq = self.last_seq - len(events) + 1

    def _drop_first(self) -> int:
        """Drop the oldest event's frames in other dialects, and return the bytes that they held."""
        dropped = [made.popleft() for made in self._dialects.values() if made]
        return sum(_DIALECT_COST + len(frame.data) for frame in dropped if frame is not None)

    def restart(self, encoder: FrameEncoder, last_seq: int) -> None:
        """Drop all events, and number the next one `last_seq + 1`."""
        self._encoder = encoder
        self._events.clear()
        self._frames.clear()
        self._dialects.clear()
        self.size = 0
        self.last_seq = last_seq
        self.first_seq = last_seq + 1

    def within(self, seq: int, limit: int) -> int:
        """Return the last event after `seq` that fits in `limit` bytes.

        The first event always counts as fitting.
        """
        end = seq + 1
        size = self._cost(end - self.first_seq)
        while end < self.last_seq:
            size += self._cost(end + 1 - self.first_seq)
            if size > limit:
                break
            end += 1
        return end

    def _cost(self, place: int) -> int:
        event, frame = self._events[place], self._frames[place]
        if frame is not None:
            return len(frame)
        text: str = event.value if type(event) is BlockDelta else ""
        return _EVENT_COST + (len(text) if text.isascii() else _MAX_CHARACTER_BYTES * len(text))

    def encode_after(self, seq: int, end: int | None = None) -> bytes:
        """Return the frames of all events after `seq`, which the ring must cover, up to `end`.

        A short backlog is joined frame by frame. The adjacent deltas of a long one are merged.
        """
        count = (self.last_seq if end is None else end) - seq
        start = seq + 1 - self.first_seq
        if count == 1:
            frame = self._frames[start]
            if frame is None:  # as in `_frame`: nearly all events come here
                frame = self._frames[start] = self._encoder.frame(seq + 1, self._events[start])
                self.size += _FRAME_COST + len(frame)
            return frame
        if count <= _JOIN_AT_MOST:
            return b"".join([self._frame(start + place, seq + 1 + place) for place in range(count)])
        return self._merged(start, seq, start + count)

    def state_after(self, encoder: DialectEncoder, seq: int) -> object | None:
        """Return the encoder's state after an event that was sent in this dialect, or None if unknown."""
        place, made = seq - self.first_seq, self._dialects.get(encoder.name)
        frame = made[place] if made is not None and 0 <= place < len(made) else None
        return None if frame is None else frame.after

    def encode_in(self, encoder: DialectEncoder, state: object, seq: int, end: int) -> DialectBatch | None:
        """Return the frames of events in a dialect, or None if the ring holds only frames and no events.

        Watchers with equal states share a frame.

        Args:
            state: The encoder's state after `seq`.
            seq: Seq of the event before the first one to encode. `covers(seq)` must be True.
            end: Seq of the last one to encode.
        """
        if not self._events:
            return None
        if (made := self._dialects.get(encoder.name)) is None:
            made = self._dialects[encoder.name] = deque()
        start, stop = seq + 1 - self.first_seq, end + 1 - self.first_seq
        made.extend([None] * (stop - len(made)))
        frames: list[bytes] = []
        for place in range(start, stop):
            event, frame = self._events[place], made[place]
            if event is NUMBER_ONLY:
                continue
            if frame is None or (frame.before is not state and frame.before != state):
                before, (data, after) = state, encoder.encode(state, self.first_seq + place, event)
                if frame is None:
                    self.size += _DIALECT_COST + len(data)
                    made[place] = _DialectFrame(before, data, after)
            else:
                data, after = frame.data, frame.after
            frames.append(data)
            state = after
        return DialectBatch(b"".join(frames), end, state)

    def _frame(self, place: int, seq: int) -> bytes:
        frame = self._frames[place]
        if frame is None:
            frame = self._encoder.frame(seq, self._events[place])
            self._frames[place] = frame
            self.size += _FRAME_COST + len(frame)
        return frame

    def _merged(self, start: int, seq: int, end: int) -> bytes:
        """Return the frames with adjacent deltas of one field merged into one.

        A merged delta has the last id.
        """
        frames: list[bytes] = []
        pending: BlockDelta | None = None
        texts: list[str] = []
        for place in range(start, end):
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
        self.coalesced += end - start - len(frames)
        return b"".join(frames)


def _is_exact(event: TurnEvent) -> bool:
    """Return True if a client whose last event is `event` certainly has all earlier events."""
    return event is not NUMBER_ONLY and not isinstance(event, _SENT_EARLY)


def _joined(delta: BlockDelta, texts: list[str]) -> BlockDelta:
    return BlockDelta(delta.block_index, delta.block_type, delta.field, "".join(texts))
