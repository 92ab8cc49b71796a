"""Counters and histograms of the parts of an engine, as plain numbers.

Counting costs an addition. `server/metrics.py` reads the numbers and defines the names and formats of the
metrics. Each part has its own measures, and none is global. Only the event loop's thread changes them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal

SHORT_WAITS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds, in seconds, for the duration of storage operations."""
LONG_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Bounds, in seconds, for the time that a model takes."""
MOST_MODELS = 50
MOST_CODES = 64
OTHER = "other"
"""Name for all models and codes beyond `MOST_MODELS` and `MOST_CODES`.

Their number is not bounded otherwise.
"""


class Histogram:
    """Counts values by range. The last entry of `counts` is for values above all `bounds`."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[float, int]]:
        """Return, for each bound and for infinity, the number of values that are at most the bound."""
        so_far = 0
        found: list[tuple[float, int]] = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            so_far += count
            found.append((bound, so_far))
        return found


class ModelMeasures:
    """Calls, tokens by kind, and cost of one model."""

    __slots__ = ("calls", "cost", "tokens", "unpriced")

    def __init__(self) -> None:
        self.calls = 0
        self.tokens: dict[str, int] = {}
        self.cost = Decimal(0)
        self.unpriced = 0
        """Number of calls whose cost is not known."""


class NodeMeasures:
    """Measures of a process as one of the nodes that share a database."""

    __slots__ = ("feed_lag", "lapses", "recovered")

    def __init__(self) -> None:
        self.lapses = 0
        """Number of times that the node's lease had lapsed before its next heartbeat."""
        self.recovered = 0
        """Number of turns of other nodes that this node has recovered."""
        self.feed_lag = Histogram(SHORT_WAITS)
        """Upper bounds of the seconds from the commit of another node's events to their read here."""


class TurnMeasures:
    """Measures of an engine's turns."""

    __slots__ = ("catch_ups", "coalesced", "ended", "first_token", "gaps", "models", "subscriptions")

    def __init__(self) -> None:
        self.first_token = Histogram(LONG_WAITS)
        self.gaps = Histogram(LONG_WAITS)
        """Seconds between two pieces of a turn's source."""
        self.ended: dict[tuple[str, str], int] = {}
        """Number of ended turns by status and error code."""
        self.models: dict[tuple[str, str], ModelMeasures] = {}
        """Measures by provider and model."""
        self.subscriptions = 0
        self.coalesced = 0
        self.catch_ups = 0
        """Number of catch-ups of logs that no longer exist. Existing logs have their own counters."""

    def count_end(self, status: str, code: str | None) -> None:
        key = (status, code or "")
        if key not in self.ended and len(self.ended) >= MOST_CODES:
            key = (status, OTHER)
        self.ended[key] = self.ended.get(key, 0) + 1

    def of_model(self, name: str | None) -> ModelMeasures:
        """Return the measures of `provider/model`.

        All models beyond `MOST_MODELS` share the measures of `OTHER`.
        """
        provider, _, model = (name or "/").partition("/")
        measures = self.models.get((provider, model))
        if measures is None:
            key = (provider, model) if len(self.models) < MOST_MODELS else (OTHER, OTHER)
            measures = self.models.setdefault(key, ModelMeasures())
        return measures


class StoreMeasures:
    """Measures of a store: seconds from the request to the result, and failures."""

    __slots__ = ("failed_reads", "failed_writes", "reads", "writes")

    def __init__(self) -> None:
        self.writes = Histogram(SHORT_WAITS)
        self.reads = Histogram(SHORT_WAITS)
        self.failed_writes = 0
        self.failed_reads = 0
