"""One watcher of one turn: carries out the decisions of `decide`.

A subscription is a position, not a queue. So a slow watcher uses no memory and delays no other watcher.
"""

from __future__ import annotations

import asyncio
from typing import Any

from turnstream.core.cursor import Cursor
from turnstream.core.turn_events import Notice, TurnEvent
from turnstream.turnlog.base import Sink
from turnstream.turnlog.catch_up import BEGINNING, Archive
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.position import Batch
from turnstream.turnlog.view import NO_BATCH
from turnstream.turnlog.watch_decision import (
    CountSurvivors,
    Decision,
    Pause,
    ReadPage,
    ReadPiece,
    SendFrames,
    begin,
    decide,
    is_at_end,
    needs_catch_up,
    page_sent,
    piece_sent,
    truncation_sent,
)

DRAINING = Notice(
    "draining", "the server is being stopped; when the connection closes, resume with your last id"
)
_UNREADABLE = Notice("database_error", "the catch-up could not be read: reconnect with your last id")


class Subscription:
    """One watcher of one turn."""

    __slots__ = ("_archive", "_catching_up", "_closed", "_held", "_position", "_sink", "_waiter", "log")

    def __init__(
        self, log: TurnLog, archive: Archive, *, after: Cursor | None = None, from_block: int = 0
    ) -> None:
        self.log = log
        self._archive = archive
        self._position = begin(log, after, from_block)
        self._held: Any = None
        """The frame being sent if watchers share it.

        Other watchers find the frame while one of them holds it.
        """
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._closed = False
        self._catching_up = False

    @property
    def turn_id(self) -> str:
        """Id of the turn."""
        return self.log.turn_id

    @property
    def cursor(self) -> Cursor:
        """Cursor of the last event that `next` has returned."""
        return Cursor(self._position.generation, self._position.seq)

    @property
    def at_end(self) -> bool:
        """True if the terminal event has been returned. Nothing follows."""
        return is_at_end(self.log, self._position)

    @property
    def needs_catch_up(self) -> bool:
        """True if the ring does not have all events after the cursor."""
        return needs_catch_up(self.log, self._position)

    @property
    def lag(self) -> int:
        """Number of events that have not been returned yet."""
        return max(0, self.log.head - self._position.seq)

    @property
    def waiting(self) -> bool:
        """True while `next` waits for the log to grow."""
        return self._waiter is not None

    async def next(self, sink: Sink | None = None) -> bytes | None:
        """Return the next frames, b"" if `nudge` was called and there are none, or None at the end.

        Raises StoreError if the catch-up cannot be read.

        Args:
            sink: Accepts new frames directly while the caller waits for the log to grow, so a watcher that is
                up to date costs no task switch. Frames that the sink does not accept are returned. None: all
                frames are returned.
        """
        while not self._closed:
            frames = await self.ready()
            if frames is Pause.END:
                return None
            if frames is not Pause.WAIT:
                return frames
            if not await self._wait(sink) and not self._closed:
                return b""
        return None

    async def ready(self) -> bytes | Pause:
        """Return the next frames that need no wait for the log, or the reason why there are none.

        Raises StoreError if the catch-up cannot be read.
        """
        self._held = None
        while not self._closed:
            decision = self._decide()
            if isinstance(decision, Pause):
                self._catching_up = False
                return decision
            send = decision if isinstance(decision, SendFrames) else await self._read(decision)
            if send is not None and (data := self._take(send)):
                return data
        return Pause.END

    def offer(self, write: Sink) -> bool:
        """Offer the newest frames to `write`, after an append to the log.

        Return False if there is more to do: `write` refused them, or `ready` must decide.
        """
        batch = self.log.live_batch(self._position)
        if batch is NO_BATCH:
            return True  # the events of this call may have been returned before the wait began
        if batch is None or not write(batch.data):
            return False
        self._position = batch.after
        return not batch.more

    @property
    def label(self) -> str:
        """Name of the turn, for log lines."""
        return f"turn {self.log.turn_id}"

    def unreadable(self) -> bytes:
        """Return the frame of the notice that the catch-up cannot be read."""
        return self.frame(_UNREADABLE)

    def stopping(self) -> bytes:
        """Return the frame of the notice that the server stops."""
        return self.frame(DRAINING)

    def frame(self, event: TurnEvent) -> bytes:
        """Return the frame of an event for this watcher only, with the watcher's current cursor as its id."""
        return self.log.encoder.of_generation(self._position.generation).frame(self._position.seq, event)

    def nudge(self) -> None:
        """Make a waiting `next` return b""."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Make `next` return None from now on. A waiting call returns at once."""
        self._closed = True
        self.nudge()

    def _decide(self) -> Decision:
        """Return the next thing to do."""
        return decide(self.log, self._position)

    def _advance(self, batch: Batch) -> None:
        """Advance the position: the frames of `batch` are sent."""
        self._position = batch.after

    async def _read(self, decision: ReadPage | ReadPiece | CountSurvivors) -> SendFrames | None:
        """Read from the store, and return the frames to send.

        Return None if the log's generation has changed.
        """
        log, archive, generation = self.log, self._archive, self.log.generation
        match decision:
            case ReadPage(at, horizon):
                page = await archive.page_after(at.seq, next_block=at.next_block, horizon=horizon)
                send = page_sent(decision, page)
            case ReadPiece(at, block):
                parts = await archive.parts_of(block, at.place or BEGINNING)
                send = piece_sent(log, decision, parts)
            case CountSurvivors(_, fence):
                send = truncation_sent(log, decision, await archive.count_until(fence))
        return send if log.generation == generation else None

    def _take(self, send: SendFrames) -> bytes:
        """Advance the position and return the frames.

        A catch-up counts once, in however many pieces it is sent.
        """
        batch = send.batch
        self._advance(batch)
        self._held = batch.held
        if send.is_live:
            self._catching_up = False
        elif batch.data and not self._catching_up:
            self._catching_up = True
            self.log.count_catch_up()
        return batch.data

    async def _wait(self, sink: Sink | None) -> bool:
        """Wait for an append that the sink does not accept. Return False if the wait ended without one."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiter, self._sink = waiter, sink
        if sink is None:
            self.log.add_waiter(waiter)
        else:
            self.log.add_follower(self._follow)
        try:
            await waiter
        finally:
            self._waiter = self._sink = None
            self.log.discard_waiter(waiter)
            self.log.discard_follower(self._follow)
        return self.log.head > self._position.seq

    def _follow(self) -> None:
        """Offer new frames to the sink after an append, or wake the reader if the sink refuses them."""
        waiter = self._waiter
        if waiter is None or waiter.done() or self._sink is None:
            return
        if not self.offer(self._sink):
            waiter.set_result(None)
