"""One watcher of many turns: all of an owner, or those of a chat, over one connection.

    announcements ─┐
    turn 1's log ──┤─► next: one frame after the other ─► the socket
    turn 2's log ──┘

The watcher has no task and no queue. It has a `Subscription` for each turn, which it does not await, and the
moment of the last announcement. A log that grows calls the watcher. If the task that sends is waiting, the
watcher writes the new frames at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from turnstream.core.cursor import Cursor, first_generation
from turnstream.core.owner_events.cursor import MAX_TURNS, EventsCursor, cursor_head, scope_of
from turnstream.core.owner_events.events import ChatEvent, EndCode, EventsEnd, EventsStart
from turnstream.errors import NotFound, StoreError
from turnstream.store.announcements import (
    ChatAnnouncement,
    Scope,
    StartOfEvents,
    StreamStart,
    TurnAnnouncement,
    TurnsAt,
)
from turnstream.store.base import Store
from turnstream.store.queries import GetChat
from turnstream.turnlog.base import Sink
from turnstream.turnlog.watch_decision import Pause
from turnstream.turns.owner_events.changes import Changes
from turnstream.turns.owner_events.chat_events import event_of, started_event
from turnstream.turns.owner_events.joined_turns import JoinedTurn, JoinedTurns
from turnstream.turns.watching import SubscriptionMaker

_ID = b"\nid: "
"""Bytes before the id of a frame. A frame has no other line feed before `id`, because its data is JSON."""
_LARGE = 64 * 1024
"""Bytes above which a frame is not copied: watchers share its bytes."""


class ChatEventEncoder(Protocol):
    """Encodes ChatEvents as frames."""

    def __call__(self, event: ChatEvent, cursor: bytes) -> bytes:
        """Return the frame of `event`. If `cursor` is empty, the frame has no id."""
        ...


class EventSources(NamedTuple):
    """The parts of the engine that a watcher of many turns reads."""

    store: Store
    changes: Changes
    watching: SubscriptionMaker
    encode: ChatEventEncoder

    async def watch(
        self, owner: str, chat_id: str | None = None, *, after: EventsCursor | None = None
    ) -> OwnerSubscription:
        """Return a subscription to all turns of an owner, or of one chat. The caller closes it.

        Raises NotFound, StoreError. A watcher of a chat that was deleted after its cursor gets the deletion.

        Args:
            after: The watcher's cursor. None begins with the running turns.
        """
        scope = Scope(owner, chat_id)
        if after is not None and after.scope != scope_of(*scope):
            after = None
        asked = None if after is None else after.moment
        start = await self.store.read(StartOfEvents(scope=scope, after=asked, limit=MAX_TURNS))
        if chat_id is not None and (start.is_new or asked == start.moment):
            await self.store.read(GetChat(owner=owner, chat_id=chat_id))
        return OwnerSubscription(self, scope, start, None if start.is_new else after)


def event_sources(store: Store, watching: SubscriptionMaker, encode: ChatEventEncoder) -> EventSources:
    """Return the sources of a store's events."""
    return EventSources(store, Changes(store), watching, encode)


class OwnerSubscription:
    """One watcher of the turns of an owner or of a chat.

    Args:
        sources: The parts of the engine.
        scope: The owner, and the chat if only one chat is followed.
        start: The state that the watcher begins with, unless it resumes.
        after: The cursor at which the watcher resumes, or None.
    """

    def __init__(
        self, sources: EventSources, scope: Scope, start: StreamStart, after: EventsCursor | None
    ) -> None:
        self._sources = sources
        self._scope = scope
        self._start = start
        self._after = after
        self._turns = JoinedTurns(scope_of(*scope))
        self._ready: dict[JoinedTurn, None] = {}
        """The turns that may have events, in the order in which they are served."""
        self._has_announcements = True
        """True if there may be announcements."""
        self._rest = b""
        """The end of a large frame, which is sent after the frame's shared bytes."""
        self._waiter: asyncio.Future[bool] | None = None
        self._sink: Sink | None = None
        self._begun = self._ended = self._closed = False

    # -- as a `Subscription` ---------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """Name of the watched turns, for log lines."""
        return "all turns" if self._scope.chat_id is None else f"chat {self._scope.chat_id}"

    @property
    def cursor(self) -> str:
        """Cursor of all that was returned."""
        return self._turns.cursor().decode()

    @property
    def at_end(self) -> bool:
        """True if the last event of the connection has been returned."""
        return self._ended

    @property
    def lag(self) -> int:
        """Number of events that are not returned yet."""
        return sum(turn.subscription.lag for turn in self._turns)

    @property
    def waiting(self) -> bool:
        """True while `next` waits for something to happen."""
        return self._waiter is not None

    async def next(self, sink: Sink | None = None) -> bytes | memoryview | None:
        """Return the next frames or a part of one, b"" after `nudge`, or None at the end of the stream.

        Raises StoreError.

        Args:
            sink: Accepts new frames directly while the caller waits. None: all frames are returned.
        """
        while not self._closed:
            if self._rest:
                rest, self._rest = self._rest, b""
                return rest
            if self._ended:
                return None
            if data := await self._next_frames():
                return data
            if self._closed or self._has_more():
                continue
            if not await self._wait(sink):
                return None if self._closed else b""
        return None

    def unreadable(self) -> bytes:
        """Return the last frame of a stream whose events cannot be read. The client resumes at its cursor."""
        return self._end("database_error")

    def stopping(self) -> bytes:
        """Return the last frame of a stream whose server stops. The client resumes at its cursor."""
        return self._end("draining")

    def nudge(self) -> None:
        """Make a waiting `next` return b""."""
        self._stop_waiting(has_more=False)

    def close(self) -> None:
        """Release all logs. A waiting `next` returns None."""
        self._closed = True
        self._sources.changes.unwatch(self._scope.owner, self._on_change)
        for turn in self._turns:
            self._drop(turn)
        self.nudge()

    # -- what happens next -----------------------------------------------------------------------------------

    def _has_more(self) -> bool:
        if self._ready or self._ended or self._sources.changes.closed:
            return True
        return self._may_read_announcements()

    def _may_read_announcements(self) -> bool:
        """Return True if there may be announcements, and another turn can be followed."""
        return self._has_announcements and len(self._turns) < MAX_TURNS

    async def _next_frames(self) -> bytes | memoryview:
        """Return the next frames, or b"" if the step had none. Raises StoreError."""
        if not self._begun:
            self._sources.changes.watch(self._scope.owner, self._on_change)
            data = await self._begin()
            self._begun = True
            return data
        if self._may_read_announcements():
            return await self._next_announcements()
        if self._ready:
            turn = next(iter(self._ready))
            del self._ready[turn]
            return await self._frames_of(turn)
        return self._end("draining") if self._sources.changes.closed else b""

    async def _begin(self) -> bytes:
        """Follow the cursor's turns, or the running turns if there is no cursor."""
        if self._after is not None:
            self._turns.move_to(self._after.moment, is_half=self._after.is_half)
            await self._resume(self._after)
            return b""
        start = self._start
        self._turns.move_to(start.moment)
        for announcement in start.running:
            await self._follow(announcement)
        # Only the last frame has the cursor of all of them: a client that is cut before it begins again.
        beginning = cursor_head(self._turns.scope, 0)
        events: list[ChatEvent] = [EventsStart(self._scope.chat_id), *map(started_event, start.running)]
        frames = [self._sources.encode(event, beginning) for event in events[:-1]]
        return b"".join((*frames, self._sources.encode(events[-1], self._turns.cursor())))

    async def _resume(self, after: EventsCursor) -> None:
        if not after.turns:
            return
        moments = tuple(turn.moment for turn in after.turns)
        found = await self._sources.store.read(TurnsAt(scope=self._scope, moments=moments))
        for moment, seq, generation in after.turns:
            if (announcement := found.get(moment)) is not None:
                await self._follow(announcement, seq, generation)

    async def _next_announcements(self) -> bytes:
        """Return the frames of the next announcements. A turn that begins is followed from then on."""
        self._has_announcements = False
        items = await self._read_announcements()
        frames: list[bytes] = []
        for index, item in enumerate(items):
            if isinstance(item, TurnAnnouncement):
                if len(self._turns) >= MAX_TURNS or not await self._try_to_follow(item, frames):
                    self._has_announcements = True
                    break
            elif item.kind == "deleted":
                for turn in [turn for turn in self._turns if turn.chat_id == item.chat_id]:
                    self._drop(turn)
            follows = items[index + 1 : index + 2]
            self._turns.move_to(item.moment, is_half=bool(follows) and follows[0].moment == item.moment)
            frames.append(self._sources.encode(event_of(item), self._turns.cursor()))
            if (
                self._scope.chat_id is not None
                and isinstance(item, ChatAnnouncement)
                and item.kind == "deleted"
            ):
                frames.append(self._end("chat_deleted"))
        return b"".join(frames)

    async def _read_announcements(self) -> Sequence[ChatAnnouncement | TurnAnnouncement]:
        """Return the next announcements. Raises StoreError."""
        turns = self._turns
        page = await self._sources.changes.after(self._scope, turns.moment - turns.is_half)
        self._has_announcements = self._has_announcements or page.more
        if not turns.is_half:
            return page.items
        items = [
            item for item in page.items if isinstance(item, TurnAnnouncement) or item.moment > turns.moment
        ]
        if not items or items[0].moment != turns.moment:  # the turn is deleted
            turns.move_to(turns.moment)
        return items

    async def _try_to_follow(self, announcement: TurnAnnouncement, before: Sequence[bytes]) -> bool:
        """Follow a turn. Return False if it cannot be read, but the frames in `before` can be sent first.

        Raises StoreError if it cannot be read and `before` is empty.
        """
        try:
            await self._follow(announcement)
        except StoreError:
            if not before:
                raise
            return False
        return True

    def _end(self, code: EndCode) -> bytes:
        """End the stream, and return its last frame."""
        self._ended = True
        return self._sources.encode(EventsEnd(code), self._turns.cursor() if self._begun else b"")

    # -- turns -----------------------------------------------------------------------------------------------

    async def _follow(
        self, announcement: TurnAnnouncement, seq: int = 0, generation: int | None = None
    ) -> None:
        """Follow a turn after a position. Ignore a turn that is deleted, or whose end was sent."""
        after = Cursor(first_generation(announcement.turn_id) if generation is None else generation, seq)
        try:
            subscription = await self._sources.watching.subscribe(
                self._scope.owner, announcement.turn_id, after=after, patience=0.0
            )
        except NotFound:
            return
        if subscription.at_end or self._closed:
            return
        self._attach(JoinedTurn(announcement, subscription, self._on_append))

    def _attach(self, turn: JoinedTurn) -> None:
        self._turns.add(turn)
        self._ready[turn] = None

    def _drop(self, turn: JoinedTurn) -> None:
        self._turns.remove(turn)
        self._ready.pop(turn, None)

    async def _frames_of(self, turn: JoinedTurn) -> bytes | memoryview:
        """Return a turn's next frames. Raises StoreError."""
        frames = await turn.subscription.ready()
        if frames is Pause.WAIT or turn not in self._turns:
            return b""
        if frames is Pause.END:
            await self._rejoin(turn)
            return b""
        prefix = self._turns.prefix_of(turn)
        self._ready[turn] = None
        if turn.subscription.at_end:
            self._drop(turn)
        if len(frames) <= _LARGE or frames.count(_ID) > 1:
            return frames.replace(_ID, _ID + prefix)
        end = frames.rindex(_ID) + len(_ID)
        self._rest = prefix + frames[end:]
        return memoryview(frames)[:end]

    async def _rejoin(self, turn: JoinedTurn) -> None:
        """Follow a turn again after its log was closed because its task died. Raises StoreError.

        `subscribe` ends such a turn before it returns.
        """
        at = turn.subscription.cursor
        try:
            subscription = await self._sources.watching.subscribe(
                self._scope.owner, turn.turn_id, after=at, patience=0.0
            )
        except NotFound:
            subscription = None
        if subscription is not None and subscription.log.closed and not subscription.at_end:
            raise StoreError(f"turn {turn.turn_id} has no writer")
        if turn not in self._turns:
            return
        self._drop(turn)
        if subscription is not None and not subscription.at_end:
            turn.subscription = subscription
            self._attach(turn)

    # -- waiting ---------------------------------------------------------------------------------------------

    async def _wait(self, sink: Sink | None) -> bool:
        """Wait until there is more to return. Return False after a nudge."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiter, self._sink = waiter, sink
        try:
            return await waiter
        finally:
            self._waiter = self._sink = None

    def _stop_waiting(self, *, has_more: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(has_more)

    def _on_change(self) -> None:
        """Note that a chat of the owner has changed, or that the streams end."""
        self._has_announcements = True
        self._stop_waiting(has_more=True)

    def _on_append(self, turn: JoinedTurn) -> None:
        """Write a turn's new frames at once if the task waits. Otherwise note that the turn has some."""
        waiter, sink = self._waiter, self._sink
        if waiter is not None and not waiter.done() and sink is not None:
            prefix = _ID + self._turns.prefix_of(turn)
            if turn.subscription.offer(lambda data: sink(data.replace(_ID, prefix))):
                return
        self._ready[turn] = None
        self._stop_waiting(has_more=True)
