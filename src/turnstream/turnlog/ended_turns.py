"""Ended turns in memory, as bytes: their frames, and the few numbers that a watcher needs.

Ten thousand ended turns are kept for watchers that connect late or again. As objects, their events, executors
and requests would be traversed by every full garbage collection, which stops all streams meanwhile. The
garbage collector tracks no object of this module's records.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable

import msgspec

from turnstream.core.cursor import ResetRecord
from turnstream.core.turn_events import Terminal, TurnStart
from turnstream.turnlog.base import FrameEncoder, History
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.ring import Ring

_FLAT_COST = 1024
"""Estimated bytes of an ended turn without its frames: record, strings, first and last event, table entry."""
_FRAMES_LIMIT = 64 * 1024
"""Bytes of frames that are kept of a turn. The newest are kept."""


class FrozenRing(Ring):
    """The ring of an ended turn. All its frames are encoded.

    Args:
        frames: The frames, joined.
        ends: The offset at which each event's frame ends, as unsigned integers of 32 bits.
        inexact: One byte per event: 1 if `is_exact` is False.
    """

    __slots__ = ("_bytes", "_ends", "_inexact")

    def __init__(
        self, encoder: FrameEncoder, frames: bytes, ends: bytes, inexact: bytes, last_seq: int
    ) -> None:
        super().__init__(encoder, last_seq=last_seq)
        self.first_seq = last_seq - len(inexact) + 1
        self.size = len(frames)
        self._bytes = frames
        self._ends = memoryview(ends).cast("I")
        self._inexact = inexact

    def is_exact(self, seq: int) -> bool:
        """Return True if a client at `seq` has all earlier events. See `Ring.is_exact`."""
        place = seq - self.first_seq
        return 0 <= place < len(self._inexact) and not self._inexact[place]

    def within(self, seq: int, limit: int) -> int:
        """Return the last event after `seq` that fits in `limit` bytes. See `Ring.within`."""
        most = self._end_of(seq) + limit
        place = bisect_right(self._ends, most, seq + 1 - self.first_seq)
        return max(seq + 1, self.first_seq + place - 1)

    def encode_after(self, seq: int, end: int | None = None) -> bytes:
        """Return the frames of all events after `seq`, which the ring must cover, up to `end`."""
        return self._bytes[self._end_of(seq) : self._end_of(self.last_seq if end is None else end)]

    def _end_of(self, seq: int) -> int:
        return self._ends[seq - self.first_seq] if seq >= self.first_seq else 0


class EndedTurn(msgspec.Struct, frozen=True, gc=False):
    """The record of a turn whose end is stored. `at` is the time of the end on the monotonic clock."""

    turn_id: str
    owner: str
    generation: int
    at: float
    frames: bytes
    ends: bytes
    inexact: bytes
    start_seq: int
    start: TurnStart | None
    terminal: Terminal
    last_seq: int
    resets: tuple[ResetRecord, ...]

    @property
    def size(self) -> int:
        """Estimated bytes in memory."""
        return _FLAT_COST + len(self.frames) + len(self.ends) + len(self.inexact)

    def log(self, encoder: Callable[[str, int], FrameEncoder]) -> TurnLog:
        """Return a log that serves one watcher."""
        frame_encoder = encoder(self.turn_id, self.generation)
        log = TurnLog(self.turn_id, self.generation, frame_encoder)
        start = None if self.start is None else (self.start_seq, self.start)
        ring = FrozenRing(frame_encoder, self.frames, self.ends, self.inexact, self.last_seq)
        log.rebuilt(History(start, self.resets), self.terminal, ring)
        return log


def flattened(log: TurnLog, owner: str, at: float) -> EndedTurn:
    """Return the record of a turn whose end is in its log and in the store.

    Raises ValueError if the turn has not ended.

    Args:
        owner: The id of the chat's owner.
        at: Time of the end on the monotonic clock, in seconds.
    """
    if log.terminal is None:
        raise ValueError(f"turn {log.turn_id} has not ended")
    start_seq, start = log.start or (0, None)
    frames, inexact = log.ring.last_frames(_FRAMES_LIMIT)
    ends, end = array("I"), 0
    for frame in frames:
        end += len(frame)
        ends.append(end)
    return EndedTurn(
        log.turn_id,
        owner,
        log.generation,
        at,
        b"".join(frames),
        ends.tobytes(),
        inexact,
        start_seq,
        start,
        log.terminal[1],
        log.head,
        log.resets,
    )
