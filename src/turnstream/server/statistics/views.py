"""JSON answers with statistics. The fields are those of `core.statistics.records`."""

from __future__ import annotations

from typing import Annotated, Self, TypeAlias

import msgspec
from pydantic import BaseModel, WithJsonSchema

from turnstream.core.statistics.records import UsageStatistics

Day: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "format": "date"})]


class PercentilesView(BaseModel):
    """Percentiles by nearest rank. `calls`: number of calls with a value."""

    calls: int
    p50: float
    p95: float
    p99: float


class ModelStatisticsView(BaseModel):
    """The calls of one model in the whole range."""

    model: str
    """`provider/model`, or `other` for all models beyond the 50 with the most calls."""
    calls: int
    errors: int
    """Calls that failed."""
    cancelled: int
    fallbacks: int
    """Failed calls after which another model was called."""
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost: str
    """US dollars, a decimal number with six places: the sum of the known costs."""
    unpriced: int
    """Calls with usage whose cost is not known."""
    estimated: int
    """Calls whose tokens and cost are estimates."""
    first_output: PercentilesView | None
    """Seconds from a call to its first output."""
    speed: PercentilesView | None
    """Output tokens per second of complete calls, from the first output on."""


class DayStatisticsView(ModelStatisticsView):
    """The calls of one model on one day, in UTC. A call belongs to the day on which its turn was created."""

    day: Day


class ErrorCountView(BaseModel):
    """Failed calls of one model with one error code."""

    model: str
    code: str
    calls: int


class TurnCountsView(BaseModel):
    """Number of answers by their end. `unfinished`: those that run or wait."""

    complete: int
    error: int
    cancelled: int
    unfinished: int


class StatisticsView(BaseModel):
    first_day: Day
    last_day: Day
    turns: TurnCountsView
    models: list[ModelStatisticsView]
    """The model with the most calls comes first."""
    days: list[DayStatisticsView]
    """Each model on each day with calls, in the order of the days."""
    errors: list[ErrorCountView]
    """The most frequent errors, at most 100."""

    @classmethod
    def of(cls, statistics: UsageStatistics) -> Self:
        """Return the answer."""
        return cls.model_validate(msgspec.to_builtins(statistics))
