"""The clocks of a model call: first token, idle and total (requirement J5).

They run only while a read is pending, so a slow consumer or store is never taken for a silent provider: what they
measure is seconds of waiting. `first_token` runs from the request to the first batch with an event that is output
(anything but message_start, metadata and notices); from then on `idle` runs between batches. What decodes to no event,
a ping or a comment, feeds neither. `total` is all waiting of the call. After the model's end marker a short grace
takes the place of `idle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from turnstream.config import Timeouts
from turnstream.core.stream_events import MessageStart, Metadata, StreamEvent, StreamNotice
from turnstream.errors import ProviderTimeout

_EARLY = 0.002
"""Seconds by which a timer may fire too soon: loops count whole milliseconds."""
_LOOK_SECONDS = 1.0
"""How often a long wait is looked at."""
_PRELUDE = frozenset({MessageStart, Metadata, StreamNotice})


def is_output(events: Iterable[StreamEvent]) -> bool:
    """Whether the model's answer has begun with these events."""
    return not all(type(event) in _PRELUDE for event in events)


class WaitClocks:
    """How long a call may still wait, and for what. `waited`: the seconds of all its waits that are over."""

    __slots__ = ("_timeouts", "_until", "output", "waited")

    def __init__(self, timeouts: Timeouts) -> None:
        self.waited = 0.0
        self.output = False
        self._timeouts = timeouts
        self._until: float | None = timeouts.first_token

    def output_began(self) -> None:
        """The first output is there: from now on `idle` runs in place of `first_token`."""
        self.output = True
        self._until = None

    def answer_ended(self, grace: float) -> None:
        """The end marker is there: all further waiting may take `grace` seconds together."""
        self._until = self.waited + grace

    def patience(self) -> float:
        """Seconds that a wait which begins now may take."""
        timeouts = self._timeouts
        clock = timeouts.idle if self._until is None else self._until - self.waited
        return min(clock, timeouts.total - self.waited)

    def timeout_error(self) -> ProviderTimeout:
        """The error of the clock that runs out first."""
        timeouts = self._timeouts
        if self.patience() >= timeouts.total - self.waited:
            return ProviderTimeout(f"the answer took longer than {timeouts.total:g} s", code="total_timeout")
        if self._until is None:
            return ProviderTimeout(f"the provider was silent for {timeouts.idle:g} s", code="idle_timeout")
        return ProviderTimeout(
            f"no output came within {timeouts.first_token:g} s", code="first_token_timeout"
        )


class ReadTimer:
    """One timer for all the reads of a call, over its clocks.

    Deadlines only move back (but for `restart`), so a read sets no timer: the one that is set looks, when it fires,
    whether a read is waiting and how long it still may, and is set again. `look` is called about once a second of
    waiting, `expire` with the error of the clock that ran out.
    """

    __slots__ = ("_clocks", "_expire", "_handle", "_look", "_loop", "_now", "_since")

    def __init__(
        self, clocks: WaitClocks, expire: Callable[[ProviderTimeout], None], look: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._clocks = clocks
        self._expire = expire
        self._look = look
        self._since: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """A read waits; if it has waited before without any event, it waits on."""
        if self._since is None:
            self._since = self._now()
            if self._handle is None:
                self._set(self._since, self._since + self._clocks.patience())

    def stop(self) -> None:
        """What was waited for is there."""
        if self._since is not None:
            self._clocks.waited += self._now() - self._since
            self._since = None

    def tick(self) -> None:
        """What was waited for is there, and the next is waited for already."""
        if self._since is not None:
            now = self._now()
            self._clocks.waited += now - self._since
            self._since = now

    def restart(self) -> None:
        """Another clock runs from now on: no read is waiting, or has been told of an event."""
        self._since = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        self._handle = None
        if self._since is None:
            return
        now = self._now()
        deadline = self._since + self._clocks.patience()
        if now + _EARLY < deadline:
            self._set(now, deadline)
            self._look()
        else:
            self._expire(self._clocks.timeout_error())

    def _set(self, now: float, deadline: float) -> None:
        self._handle = self._loop.call_at(min(deadline, now + _LOOK_SECONDS), self._ring)
