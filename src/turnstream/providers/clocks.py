"""The clocks of a model call: first token, idle and total.

The clocks count seconds of waiting: they run only while a read is pending, so a slow consumer or store does
not look like a silent provider.

- `first_token`: from the request to the first batch with output. Output is any event but message_start,
  metadata, notices and empty deltas.
- `idle`: from then on, between batches with output. Pings, comments, empty deltas and usage do not reset it.
- `total`: all waiting of the call.

After the provider's finish reason, and after its end marker, a short grace replaces `idle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from turnstream.config import Timeouts
from turnstream.core.stream_events import (
    MessageStart,
    Metadata,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.errors import ProviderTimeout
from turnstream.providers.base import Patience

REPLACEABLE_SECONDS = 30.0
"""Longest `first_token` and `idle` of a model that does not think, while another model can take over."""
REPLACEABLE_THINKING_SECONDS = 120.0
"""Longest `first_token`, and `idle`, of a model that thinks, while another model can take over."""
THINKING_IDLE_SECONDS = 240.0
"""Shortest `idle` of a model that thinks and that no other model can replace."""

_EARLY = 0.002
"""Seconds by which a timer may fire too early: event loops count whole milliseconds."""
_CHECK_SECONDS = 1.0
"""Seconds between two looks at a long wait."""
_PRELUDE = frozenset({MessageStart, Metadata, StreamNotice})


def is_output(events: Iterable[object]) -> bool:
    """Return True if any of the events is output of the model."""
    for event in events:  # noqa: SIM110 - a generator takes three times as long
        if type(event) not in _PRELUDE and not _is_empty(event):
            return True
    return False


def _is_empty(event: object) -> bool:
    """Return True for a delta without text. Some providers send it as a sign of life."""
    match event:
        case TextDelta() | ThinkingDelta():
            return not event.text
        case ToolInputDelta():
            return not event.partial_json
        case _:
            return False


class Limits(NamedTuple):
    """Clocks of one call, in seconds. See `config.Timeouts`."""

    first_token: float
    idle: float
    total: float


def limits_of(timeouts: Timeouts, patience: Patience) -> Limits:
    """Return the clocks of a call. Clocks that the settings do not give depend on the model.

    While another model can take over, a watcher sees at most 30 seconds of silence, or 120 if the model
    thinks. A model that no other model can replace gets more time.
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
    """Computes the time that a call may still wait, and the event that it waits for."""

    __slots__ = ("_ending", "_limits", "_until", "output", "quiet", "waited")

    def __init__(self, timeouts: Timeouts, patience: Patience | None = None) -> None:
        # Seconds of finished waits: `waited` in total, `quiet` since the last output.
        self.waited = self.quiet = 0.0
        self.output = False
        self._limits = limits_of(timeouts, patience or Patience())
        self._ending: float | None = None
        self._until: float | None = None

    def output_began(self) -> None:
        """Replace `first_token` by `idle`: the first output has arrived."""
        self.output = True
        self.quiet = 0.0

    def finish_seen(self, grace: float) -> None:
        """Replace `idle` by `grace` seconds: the provider has sent its finish reason."""
        self._ending = grace

    def answer_ended(self, grace: float) -> None:
        """Limit all further waiting to `grace` seconds: the end marker has arrived."""
        self._until = self.waited + grace

    def patience(self) -> float:
        """Return the seconds that a wait may take if it begins now."""
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
        """Return the error of the clock that expires first."""
        limits = self._limits
        if self.patience() >= limits.total - self.waited:
            return ProviderTimeout(f"the answer took longer than {limits.total:g} s", code="total_timeout")
        if self.output:
            return ProviderTimeout(f"the provider was silent for {limits.idle:g} s", code="idle_timeout")
        return ProviderTimeout(
            f"no output arrived within {limits.first_token:g} s", code="first_token_timeout"
        )


class ReadTimer:
    """One timer for all reads of a call.

    Args:
        clocks: The clocks of the call.
        expire: Called with the error of the clock that expired.
        check: Called about once per second of waiting. It may choose another clock.
    """

    __slots__ = ("_check", "_clocks", "_expire", "_handle", "_loop", "_now", "_since")

    # Deadlines only move back, except in `restart` and `check`. So a read does not set a timer: when the
    # pending timer fires, it checks if a read is waiting and for how long it still may, and sets itself
    # again.
    def __init__(
        self, clocks: WaitClocks, expire: Callable[[ProviderTimeout], None], check: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._clocks = clocks
        self._expire = expire
        self._check = check
        self._since: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the clocks for a read, or leave them running if an earlier read has got no event."""
        if self._since is None:
            self._since = self._now()
            if self._handle is None:
                self._set(self._since, self._since + self._clocks.patience())

    @property
    def silence(self) -> float:
        """Seconds of waiting since the last output."""
        return self._clocks.quiet + (0.0 if self._since is None else self._now() - self._since)

    def stop(self) -> None:
        """Stop the clocks: output has arrived."""
        clocks = self._clocks
        clocks.quiet = 0.0
        if self._since is not None:
            clocks.waited += self._now() - self._since
            self._since = None

    def pause(self) -> None:
        """Stop the clocks while a batch without output is read."""
        if self._since is not None:
            took = self._now() - self._since
            self._clocks.waited += took
            self._clocks.quiet += took
            self._since = None

    def tick(self) -> None:
        """Note output while the next read is already waiting."""
        clocks = self._clocks
        clocks.quiet = 0.0
        if self._since is not None:
            now = self._now()
            clocks.waited += now - self._since
            self._since = now

    def restart(self) -> None:
        """Cancel the timer: another clock runs from now on. No read may be waiting for an event."""
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
            self._check()
            self._set(now, min(deadline, self._since + self._clocks.patience()))
        else:
            self._expire(self._clocks.timeout_error())

    def _set(self, now: float, deadline: float) -> None:
        self._handle = self._loop.call_at(min(deadline, now + _CHECK_SECONDS), self._ring)
