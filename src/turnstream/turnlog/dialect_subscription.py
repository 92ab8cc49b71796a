"""One watcher of one turn in a dialect whose frames depend on earlier events.

New events come from the log's ring, whose frames all watchers with equal states share. Older events come as
native frames, the form in which the log and the archive make a catch-up. They are decoded here.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Notice,
    TurnEvent,
    TurnStart,
)
from turnstream.turnlog.base import DialectBatch, DialectEncoder, Sink
from turnstream.turnlog.catch_up import Archive
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.position import NOTHING, Batch, WatchPosition
from turnstream.turnlog.subscription import Subscription
from turnstream.turnlog.watch_decision import Decision, Pause, SendFrames, begin, decide, is_at_end


class SentPart(NamedTuple):
    """The part of the open block that a watcher has.

    Attributes:
        block_index: Index of the block.
        length: Characters of its text.
        repeated: Characters of the text that the catch-up under way will send again.
    """

    block_index: int
    length: int = 0
    repeated: int = 0


AS_POSITION = SentPart(NOTHING)
"""The part of the open block that the watcher's position names."""


class _LiveBatch(Batch, frozen=True, gc=False):
    """Frames in the watcher's dialect, and what the watcher has after them.

    Attributes:
        state: The encoder's state.
        part: The part of the open block, or None if no block is open.
    """

    state: object = None
    part: SentPart | None = None


class DialectSubscription(Subscription):
    """One watcher of one turn, from the turn's first event on.

    Args:
        encoder: Makes the frames. Watchers whose encoders have one name share frames.
        state: The encoder's state before the turn. None: the first state of the encoder.
        is_exact: True to send each event singly if all of them are in memory. False to begin with a catch-up,
            in which one event holds a whole block.
    """

    __slots__ = ("_encoder", "_part", "_plain_state", "_state", "is_exact")

    def __init__(
        self,
        log: TurnLog,
        archive: Archive,
        encoder: DialectEncoder,
        *,
        state: object | None = None,
        is_exact: bool = True,
    ) -> None:
        super().__init__(log, archive)
        self._encoder = encoder
        self._state = encoder.begin() if state is None else state
        self._part: SentPart | None = None
        self._plain_state: object = None
        """The last state that needs no replay. Nearly all events leave the state as it is."""
        self.is_exact = is_exact and log.covers(0)
        """True as long as each event was encoded singly. Then the frames are the same for all watchers."""
        if self.is_exact:
            self._position = replace(self._position, is_behind=False)

    @property
    def state(self) -> object:
        """The encoder's state after the frames that `next` has returned."""
        return self._state

    @property
    def at_end(self) -> bool:
        """True if the stream has ended in this dialect. Nothing follows."""
        return self._encoder.is_over(self._state)

    @property
    def has_all(self) -> bool:
        """True if the turn's terminal event has been encoded."""
        return is_at_end(self.log, self._position)

    def frame(self, event: TurnEvent) -> bytes:
        """Return the frames of an event for this watcher only, and move to the state after the event."""
        data, self._state = self._encoder.encode(self._state, self._position.seq, event)
        return data

    def _decide(self) -> Decision:
        if self.at_end:
            return Pause.END
        if self._encoder.needs_replay(self._state):
            self._position, self._part = begin(self.log), None
        elif self._has_newest and not self._encoder.is_settled(self._state):
            data, state = self._encoder.settle(self._state)
            return SendFrames(_LiveBatch(data, self._position, state=state, part=self._part))
        decision = decide(self.log, self._position) if (batch := self._new_batch()) is None else batch
        return SendFrames(decision, is_live=True) if isinstance(decision, Batch) else decision

    @property
    def _has_newest(self) -> bool:
        """True if the newest event has been encoded."""
        return not self.needs_catch_up and self.log.head <= self._position.seq

    async def _wait(self, sink: Sink | None) -> bool:
        has_more = await super()._wait(sink)
        return has_more or self.at_end or self._must_decide(self._state)

    def _must_decide(self, state: object) -> bool:
        """Return False if the only thing to do in this state is to wait for events."""
        return self._encoder.needs_replay(state) or not self._encoder.is_settled(state)

    def offer(self, write: Sink) -> bool:
        """Offer the newest frames to `write`, after an append to the log. See `Subscription.offer`."""
        state = self._state
        if state is not self._plain_state:
            if self._encoder.needs_replay(state):
                return False
            self._plain_state = state
        made = self.log.live_batch_in(self._encoder, self._position, state)
        if made is None:
            return False
        if made.seq == self._position.seq:
            return True  # the events of this call may have been returned before the wait began
        batch = self._batch_of(made)
        if not write(made.data):
            return False
        self._state, self._part, self._position = made.state, batch.part, batch.after
        return not batch.more

    def _new_batch(self) -> _LiveBatch | None:
        """Return the new events, or None if there are none or the ring cannot give them."""
        log, position = self.log, self._position
        if position.is_behind or position.generation != log.generation or log.head <= position.seq:
            return None
        if not log.covers(position.seq):
            return None
        made = log.dialect_batch(self._encoder, position.seq, self._state)
        return None if made is None else self._batch_of(made)

    def _batch_of(self, made: DialectBatch) -> _LiveBatch:
        log = self.log
        if made.seq == log.head:
            state = made.state
            is_new = state is not self._state
            more = is_new and (self._must_decide(state) or self._encoder.is_over(state))
            return _LiveBatch(made.data, log.position_at_head(), more, None, state, AS_POSITION)
        part = self._sent_part
        for event in log.ring.events_in(self._position.seq, made.seq):
            _, part = _without_repetition(event, part)
        after = WatchPosition(log.generation, made.seq)
        return _LiveBatch(made.data, after, more=True, state=made.state, part=part)

    @property
    def _sent_part(self) -> SentPart | None:
        """The part of the open block that the watcher has, or None."""
        if self._part is not AS_POSITION:
            return self._part
        position = self._position
        return None if position.block_index == NOTHING else SentPart(position.block_index, position.length)

    def _advance(self, batch: Batch) -> None:
        if isinstance(batch, _LiveBatch):
            self._state, self._part = batch.state, batch.part
        else:
            self._part = self._sent_part
        self._position = batch.after

    def _take(self, send: SendFrames) -> bytes:
        data = super()._take(send)
        if not data or isinstance(send.batch, _LiveBatch):
            return data
        self.is_exact = self.is_exact and send.is_live
        frames: list[bytes] = []
        for seq, event in self.log.encoder.events(data):
            rest, self._part = _without_repetition(event, self._part)
            frame, self._state = self._encoder.encode(self._state, seq, rest)
            frames.append(frame)
        return b"".join(frames)


def _without_repetition(event: TurnEvent, part: SentPart | None) -> tuple[TurnEvent, SentPart | None]:
    """Return the event without text that the watcher has, and the watcher's part of the block after it.

    Args:
        part: The part of the open block that the watcher has before the event, or None.
    """
    match event:
        case BlockStart():
            return event, SentPart(event.block_index)
        case BlockDelta(field="text" | "partial_json", value=text) if part is not None:
            repeated = min(part.repeated, len(text))
            after = SentPart(part.block_index, part.length + len(text) - repeated, part.repeated - repeated)
            return (replace(event, value=text[repeated:]) if repeated else event), after
        case BlockCatchup():
            return _rest_of_catch_up(event, part)
        case BlockStop() | TurnStart():
            return event, None
        case BlockReset(block_index=index) | Notice(code="truncated", block_index=int(index)):
            return event, part if part is not None and part.block_index < index else None
        case _:
            return event, part


def _rest_of_catch_up(event: BlockCatchup, part: SentPart | None) -> tuple[BlockCatchup, SentPart | None]:
    """Return a catch-up with only the text that follows the watcher's part of the same block."""
    text = event.input_partial if event.block_type == "tool_use" else event.accumulated_text
    length = len(text or "")
    if part is None or part.block_index != event.block_index:
        return event, None if event.complete else SentPart(event.block_index, length)
    rest = (text or "")[part.length :]
    event = (
        replace(event, input_partial=rest)
        if event.block_type == "tool_use"
        else replace(event, accumulated_text=rest)
    )
    if event.complete:
        return event, None
    return event, SentPart(part.block_index, max(part.length, length), max(0, part.length - length))
