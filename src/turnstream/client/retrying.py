"""How long the client waits, and for what: connections, silence, and the time between two attempts."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from turnstream.errors import ConfigurationError, TurnstreamError

_LONGEST_EXPONENT = 30


class Retry(NamedTuple):
    """All the client's waits, in seconds.

    `first_delay`: before the second attempt, about; each further one doubles it, up to `max_delay`, and each is drawn
    between half of that and all of it. News from the server starts it anew.
    `budget`: how long the server may be away, all attempts and pauses since the last news together; 0 means one
    attempt only. A `Retry-After` is honoured where the budget allows it.
    `connect`: for one connection. `idle`: without a byte, after which a stream's connection counts as lost; the server
    sends a comment every 15. `request`: for one whole answer that is no stream.
    """

    first_delay: float = 0.1
    max_delay: float = 5.0
    budget: float = 300.0
    connect: float = 10.0
    idle: float = 45.0
    request: float = 30.0

    def check(self) -> None:
        """Raises ConfigurationError for waits that cannot be."""
        if not all(seconds > 0 for seconds in (self.first_delay, self.connect, self.idle, self.request)):
            raise ConfigurationError("retry: first_delay, connect, idle and request must be above 0 seconds")
        if self.max_delay < self.first_delay or not self.budget >= 0:
            raise ConfigurationError("retry: max_delay must not be below first_delay, nor budget below 0")


class Backoff:
    """The pauses between attempts at one thing."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._attempts = 0
        self._spent = 0.0
        self._delay = 0.0
        self._given_up: TurnstreamError | None = None

    def succeeded(self) -> None:
        """There is news: the budget is whole again."""
        self._attempts = 0
        self._spent = 0.0
        self._given_up = None

    def give_up(self, failure: TurnstreamError) -> None:
        """Let the next `pause` raise `failure`, whatever is left of the budget."""
        self._given_up = failure

    def failed(self, failure: TurnstreamError, *, seconds: float, retry_after: float | None = None) -> None:
        """An attempt took `seconds` and came to nothing. See `pause`, which waits or raises `failure`."""
        retry = self._retry
        longest = min(retry.first_delay * 2 ** min(self._attempts, _LONGEST_EXPONENT), retry.max_delay)
        delay = random.uniform(longest / 2, longest)  # noqa: S311  spreading clients out needs no secrets
        if retry_after is not None:
            delay = max(delay, retry_after * random.uniform(1.0, 1.1))  # noqa: S311
        self._attempts += 1
        self._delay = delay
        self._spent += seconds + delay
        if self._spent > retry.budget:
            self._given_up = failure

    async def pause(self) -> None:
        """Wait as long as the last failure asks for; raises it once the budget is spent, with a new one to follow."""
        if self._given_up is not None:
            failure, self._given_up = self._given_up, None
            self._delay = 0.0
            self.succeeded()
            raise failure
        delay, self._delay = self._delay, 0.0
        if delay:
            await asyncio.sleep(delay)


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """What a `Retry-After` header asks for, in seconds: a number, or a date. None where it cannot be read."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal() and len(value) < 10:
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
