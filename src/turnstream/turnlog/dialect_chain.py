"""Several turns as one stream of a dialect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from turnstream.core.cursor import Cursor
from turnstream.core.turn_events import TurnEvent
from turnstream.turnlog.base import Sink
from turnstream.turnlog.dialect_subscription import DialectSubscription

NextSubscription: TypeAlias = Callable[[object], Awaitable[DialectSubscription]]
"""Makes the subscription to the next turn, from the encoder's state after the turn before it."""


class DialectChain:
    """One watcher of a chain of turns: each turn continues where the turn before it ended.

    Args:
        first: The subscription to the first turn.
        rest: Makes the subscriptions to the other turns, each when it is needed.
    """

    __slots__ = ("_closed", "_now", "_rest")

    def __init__(self, first: DialectSubscription, rest: Sequence[NextSubscription]) -> None:
        self._now = first
        self._rest = [*reversed(rest)]
        self._closed = False

    @property
    def label(self) -> str:
        """Name of the turn whose events come next, for log lines."""
        return self._now.label

    @property
    def cursor(self) -> Cursor:
        """Cursor in the turn whose events come next."""
        return self._now.cursor

    @property
    def at_end(self) -> bool:
        """True if the stream has ended. Nothing follows."""
        return self._now.at_end

    @property
    def lag(self) -> int:
        """Number of events of the turn in `cursor` that have not been returned yet."""
        return self._now.lag

    async def next(self, sink: Sink | None = None) -> bytes | None:
        """Return the next frames. See `Subscription.next`. Raises NotFound if a turn was deleted."""
        while (data := await self._now.next(sink)) is None and self._rest and not self._closed:
            if not self._now.has_all:
                return None
            self._now = await self._rest.pop()(self._now.state)
        return data

    def frame(self, event: TurnEvent) -> bytes:
        """Return the frames of an event for this watcher only."""
        return self._now.frame(event)

    def unreadable(self) -> bytes:
        """Return the frames that tell the client that the events cannot be read."""
        return self._now.unreadable()

    def stopping(self) -> bytes:
        """Return the frames that tell the client that the server stops."""
        return self._now.stopping()

    def nudge(self) -> None:
        """Make a waiting `next` return b""."""
        self._now.nudge()

    def close(self) -> None:
        """Make `next` return None from now on."""
        self._closed = True
        self._now.close()
