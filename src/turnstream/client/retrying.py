"""Delays and timeouts of the client: for connections, for silence, and between two attempts."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from turnstream.errors import ConfigurationError, TurnstreamError

_LONGEST_EXPONENT = 30


class Retry(NamedTuple):
    """Delays and timeouts of the client, in seconds.

    Args:
        first_delay: Delay before the second attempt. It doubles for each further attempt, up to `max_delay`.
            The actual delay is random, between half of it and all of it. New data from the server resets it.
        max_delay: Longest delay between two attempts.
        budget: Time of all attempts and delays since the last new data, after which the client gives up.
            0 means one attempt. A `Retry-After` is respected within the budget.
        connect: Timeout for opening a connection.
        idle: Time without a byte after which a stream's connection counts as lost. The server sends a
            comment every 15 s.
        request: Timeout for one complete answer that is not a stream.
    """

    first_delay: float = 0.1
    max_delay: float = 5.0
    budget: float = 300.0
    connect: float = 10.0
    idle: float = 45.0
    request: float = 30.0

    def check(self) -> None:
        """Raise ConfigurationError if a value is not valid."""
        if not all(seconds > 0 for seconds in (self.first_delay, self.connect, self.idle, self.request)):
            raise ConfigurationError("retry: first_delay, connect, idle and request must be above 0 seconds")
        if self.max_delay < self.first_delay or not self.budget >= 0:
            raise ConfigurationError("retry: max_delay must not be below first_delay, nor budget below 0")


class Backoff:
    """Computes and waits the delays between attempts of one operation."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._attempts = 0
        self._spent = 0.0
        self._delay = 0.0
        self._given_up: TurnstreamError | None = None

    def succeeded(self) -> None:
        """Reset the budget and the delay, because new data arrived."""
        self._attempts = 0
        self._spent = 0.0
        self._given_up = None

    def give_up(self, failure: TurnstreamError) -> None:
        """Let the next `pause` raise `failure`, even if the budget is not spent."""
        self._given_up = failure

    def failed(self, failure: TurnstreamError, *, seconds: float, retry_after: float | None = None) -> None:
        """Record a failed attempt. The next `pause` waits, or raises `failure` if the budget is spent.

        Args:
            failure: The error of the attempt.
            seconds: Duration of the attempt.
            retry_after: Shortest delay, in seconds, that the server asks for. None: the server does not ask.
        """
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
        """Wait for the delay after the last failure.

        If the budget is spent, reset it and raise the failure.
        """
        if self._given_up is not None:
            failure, self._given_up = self._given_up, None
            self._delay = 0.0
            self.succeeded()
            raise failure
        delay, self._delay = self._delay, 0.0
        if delay:
            await asyncio.sleep(delay)


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds of a `Retry-After` header, which is a number or a date. None if it is not valid."""
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
