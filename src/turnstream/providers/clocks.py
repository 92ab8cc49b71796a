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
_PRELUDE = frozenset({MessageStart, Metadata, StreamNotice})


def is_output(events: Iterable[StreamEvent]) -> bool:
    """Whether the model's answer has begun with these events."""
    return not all(type(event) in _PRELUDE for event in events)


class WaitClocks:
    """How long a call may still wait, and for what. Pure: the caller counts its waits and says what came of them."""

    __slots__ = ("_timeouts", "_until", "_waited", "output")

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._waited = 0.0
        self._until: float | None = timeouts.first_token
        self.output = False

    def waited(self, seconds: float) -> None:
        """A wait of `seconds` is over."""
        self._waited += seconds

    def output_began(self) -> None:
        """The first output is there: from now on `idle` runs in place of `first_token`."""
        self.output = True
        self._until = None

    def answer_ended(self, grace: float) -> None:
        """The end marker is there: all further waiting may take `grace` seconds together."""
        self._until = self._waited + grace

    def patience(self) -> float:
        """Seconds that a wait which begins now may take."""
        timeouts = self._timeouts
        clock = timeouts.idle if self._until is None else self._until - self._waited
        return min(clock, timeouts.total - self._waited)

    def timeout_error(self) -> ProviderTimeout:
        """The error of the clock that runs out first."""
        timeouts = self._timeouts
        if self.patience() >= timeouts.total - self._waited:
            return ProviderTimeout(f"the answer took longer than {timeouts.total:g} s", code="total_timeout")
        if self._until is None:
            return ProviderTimeout(f"the provider was silent for {timeouts.idle:g} s", code="idle_timeout")
        return ProviderTimeout(
            f"no output came within {timeouts.first_token:g} s", code="first_token_timeout"
        )


class ReadTimer:
    """One timer for all the reads of a call, over its clocks.

    Moving the deadline back costs nothing: the timer looks again when it fires. `expire` is called with the error of
    the clock that ran out, once for each `start` at most.
    """

    __slots__ = ("_alarm", "_clocks", "_deadline", "_expire", "_handle", "_loop", "_since")

    def __init__(self, clocks: WaitClocks, expire: Callable[[ProviderTimeout], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._clocks = clocks
        self._expire = expire
        self._since: float | None = None
        self._deadline = 0.0
        self._alarm = 0.0
        self._handle: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        return self._since is not None

    def start(self) -> None:
        """A read begins to wait."""
        now = self._since = self._loop.time()
        deadline = self._deadline = now + self._clocks.patience()
        if self._handle is None or deadline < self._alarm:
            self._arm(deadline)

    def stop(self) -> None:
        """What was waited for is there."""
        if self._since is not None:
            self._clocks.waited(self._loop.time() - self._since)
            self._since = None

    def cancel(self) -> None:
        """Nothing more is waited for."""
        self._since = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, when: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._alarm = when
        self._handle = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._handle = None
        if self._since is None:
            return
        if self._loop.time() + _EARLY < self._deadline:
            self._arm(self._deadline)
        else:
            self._expire(self._clocks.timeout_error())
