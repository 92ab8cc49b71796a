"""Statistics of an owner's model calls."""

from __future__ import annotations

import msgspec


class Percentiles(msgspec.Struct, frozen=True, gc=False):
    """Percentiles by nearest rank: each is one of the measured values.

    `calls`: number of calls with a value.
    """

    calls: int
    p50: float
    p95: float
    p99: float


class CallStatistics(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The calls of one model, on one day or in a whole range.

    A call belongs to the day, in UTC, on which its turn was created.

    Attributes:
        model: `provider/model`, or `other` for all models beyond the 50 with the most calls.
        day: The day, as `2026-01-31`. None for the whole range.
        calls: Number of calls, including failed ones.
        errors: Calls that failed.
        cancelled: Calls that an interrupt ended.
        fallbacks: Failed calls after which another model was called.
        cost: US dollars, a decimal number with six places: the sum of the known costs.
        unpriced: Calls with usage whose cost is not known.
        estimated: Calls whose tokens and cost are estimates.
        first_output: Seconds from a call to its first output. None without a value.
        speed: Output tokens per second of complete calls, from the first output on. None without a value.
    """

    model: str
    day: str | None = None
    calls: int
    errors: int
    cancelled: int
    fallbacks: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost: str
    unpriced: int
    estimated: int
    first_output: Percentiles | None
    speed: Percentiles | None


class ErrorCount(msgspec.Struct, frozen=True, gc=False):
    """Failed calls of one model with one error code."""

    model: str
    code: str
    calls: int


class TurnCounts(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Number of answers by their end. `unfinished`: those that run or wait."""

    complete: int = 0
    error: int = 0
    cancelled: int = 0
    unfinished: int = 0


class UsageStatistics(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Statistics of one owner's calls in a range of days, in UTC.

    Attributes:
        first_day, last_day: The days of the range, both included, as `2026-01-31`.
        turns: The answers of the range.
        models: Each model in the whole range, the model with the most calls first.
        days: Each model on each day with calls, in the order of the days.
        errors: Failed calls by model and code, the most frequent first. At most 100.
    """

    first_day: str
    last_day: str
    turns: TurnCounts
    models: tuple[CallStatistics, ...]
    days: tuple[CallStatistics, ...]
    errors: tuple[ErrorCount, ...]
