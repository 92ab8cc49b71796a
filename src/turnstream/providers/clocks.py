"""The clocks of a model call: first token, idle and total.

They run only while a read is pending, so a slow consumer or store is never taken for a silent provider: what they
measure is seconds of waiting. `first_token` runs from the request to the first batch with an event that is output
(anything but message_start, metadata, notices and empty deltas); from then on `idle` runs between batches with output.
Pings, comments, empty deltas and usage feed neither. `total` is all waiting of the call. After the provider's reason for
the end, and after its end marker, a short grace takes the place of `idle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from turnstream.config import Timeouts
from turnstream.core.stream_events import (
    MessageStart,
    Metadata,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.errors import ProviderTimeout
from turnstream.providers.base import Patience

REPLACEABLE_SECONDS = 30.0
"""`first_token` and `idle` of a model that does not think, while another can take over."""
REPLACEABLE_THINKING_SECONDS = 120.0
"""The same for a model that thinks: it may be silent for as long."""
THINKING_IDLE_SECONDS = 240.0
"""`idle` of a model that thinks and that no other can replace."""

_EARLY = 0.002
"""Seconds by which a timer may fire too soon: loops count whole milliseconds."""
_LOOK_SECONDS = 1.0
"""How often a long wait is looked at."""
_PRELUDE = frozenset({MessageStart, Metadata, StreamNotice})


def is_output(events: Iterable[StreamEvent]) -> bool:
    """Return True if the model says something with these events."""
    return not all(type(event) in _PRELUDE or _is_empty(event) for event in events)


def _is_empty(event: StreamEvent) -> bool:
    """Return True for a delta without text: some providers send it as a sign of life."""
    match event:
        case TextDelta() | ThinkingDelta():
            return not event.text
        case ToolInputDelta():
            return not event.partial_json
        case _:
            return False


class Limits(NamedTuple):
    """The clocks of one call, in seconds; see `config.Timeouts`."""

    first_token: float
    idle: float
    total: float


def limits_of(timeouts: Timeouts, patience: Patience) -> Limits:
    """Return the clocks of a call: those that are set, and for the others what such a call is worth waiting for.

    While another model can take over, nobody watches silence for longer than half a minute, or two minutes if the model
    thinks. A model that no other can replace is waited for longer.
    """
    first_token, idle = timeouts.first_token, timeouts.idle
    if patience.replaceable:
        longest = REPLACEABLE_THINKING_SECONDS if patience.thinks else REPLACEABLE_SECONDS
        first_token = min(first_token, longest)
        idle = longest if patience.thinks else min(idle, longest)
    elif patience.thinks:
        idle = max(idle, THINKING_IDLE_SECONDS)
    given = timeouts.model_fields_set
    return Limits(
        timeouts.first_token if "first_token" in given else first_token,
        timeouts.idle if "idle" in given else idle,
        timeouts.total,
    )


class WaitClocks:
    """Clocks of a call: the time that it may still wait, and for which event.

    `waited`: the seconds of all its waits that are over; `quiet`: of those since the last output.
    """

    __slots__ = ("_ending", "_limits", "_until", "output", "quiet", "waited")

    def __init__(self, timeouts: Timeouts, patience: Patience | None = None) -> None:
        self.waited = self.quiet = 0.0
        self.output = False
        self._limits = limits_of(timeouts, patience or Patience())
        self._ending: float | None = None
        self._until: float | None = None

    def output_began(self) -> None:
        """The first output is there: from now on `idle` runs in place of `first_token`."""
        self.output = True
        self.quiet = 0.0

    def finish_seen(self, grace: float) -> None:
        """The provider has said why the answer ended: `grace` runs in place of `idle`."""
        self._ending = grace

    def answer_ended(self, grace: float) -> None:
        """The end marker is there: all further waiting may take `grace` seconds together."""
        self._until = self.waited + grace

    def patience(self) -> float:
        """Return the seconds that a wait which begins now may take."""
        limits = self._limits
        if self._until is not None:
            clock = self._until - self.waited
        elif self._ending is not None:
            clock = self._ending - self.quiet
        elif self.output:
            clock = limits.idle - self.quiet
        else:
            clock = limits.first_token - self.waited
        return min(clock, limits.total - self.waited)

    def timeout_error(self) -> ProviderTimeout:
        """Return the error of the clock that runs out first."""
        limits = self._limits
        if self.patience() >= limits.total - self.waited:
            return ProviderTimeout(f"the answer took longer than {limits.total:g} s", code="total_timeout")
        if self.output:
            return ProviderTimeout(f"the provider was silent for {limits.idle:g} s", code="idle_timeout")
        return ProviderTimeout(f"no output came within {limits.first_token:g} s", code="first_token_timeout")


class ReadTimer:
    """One timer for all the reads of a call, over its clocks.

    Deadlines only move back (but for `restart` and `look`), so a read sets no timer: the one that is set looks, when it
    fires, whether a read is waiting and how long it still may, and is set again. `look` is called about once a second of
    waiting, and may choose another clock; `expire` is called with the error of the clock that ran out.
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

    @property
    def silence(self) -> float:
        """Seconds of waiting since the last output."""
        return self._clocks.quiet + (0.0 if self._since is None else self._now() - self._since)

    def stop(self) -> None:
        """Output is there."""
        clocks = self._clocks
        clocks.quiet = 0.0
        if self._since is not None:
            clocks.waited += self._now() - self._since
            self._since = None

    def pause(self) -> None:
        """Something came that is no output: the clocks stand still while it is read."""
        if self._since is not None:
            took = self._now() - self._since
            self._clocks.waited += took
            self._clocks.quiet += took
            self._since = None

    def tick(self) -> None:
        """Output is there, and the next is waited for already."""
        clocks = self._clocks
        clocks.quiet = 0.0
        if self._since is not None:
            now = self._now()
            clocks.waited += now - self._since
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
            self._look()
            self._set(now, min(deadline, self._since + self._clocks.patience()))
        else:
            self._expire(self._clocks.timeout_error())

    def _set(self, now: float, deadline: float) -> None:
        self._handle = self._loop.call_at(min(deadline, now + _LOOK_SECONDS), self._ring)
