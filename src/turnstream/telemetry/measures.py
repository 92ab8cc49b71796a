"""What the parts of an engine count, as plain numbers: a metrics system reads them when it asks.

Counting costs an addition, and knows nothing of who will read: names and formats are the reader's business
(`server/metrics.py`). Each part has measures of its own; nothing is global. They are written on the event loop only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal

SHORT_WAITS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: what storage takes."""
LONG_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds: what a model lets wait for."""
MOST_MODELS = 50
MOST_CODES = 64
OTHER = "other"
"""Stands for everything beyond the most that are told apart: names come from outside, and there is no end to them."""


class Histogram:
    """How often a value fell into which range. `counts` has one more place than `bounds`: what is above them all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[float, int]]:
        """For each bound, and infinity at last, how many values were at most that."""
        so_far = 0
        found: list[tuple[float, int]] = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            so_far += count
            found.append((bound, so_far))
        return found


class ModelMeasures:
    """What one model was used for; tokens by kind."""

    __slots__ = ("calls", "cost", "tokens", "unpriced")

    def __init__(self) -> None:
        self.calls = 0
        self.tokens: dict[str, int] = {}
        self.cost = Decimal(0)
        self.unpriced = 0
        """Calls whose cost is not known."""


class TurnMeasures:
    """What the executors of an engine count."""

    __slots__ = ("catch_ups", "coalesced", "ended", "first_token", "gaps", "models", "subscriptions")

    def __init__(self) -> None:
        self.first_token = Histogram(LONG_WAITS)
        self.gaps = Histogram(LONG_WAITS)
        """Between two pieces that a turn's source brought."""
        self.ended: dict[tuple[str, str], int] = {}
        """By status and error code."""
        self.models: dict[tuple[str, str], ModelMeasures] = {}
        """By provider and model."""
        self.subscriptions = 0
        self.coalesced = 0
        self.catch_ups = 0
        """Of logs that are gone; those that are not tell their own."""

    def count_end(self, status: str, code: str | None) -> None:
        key = (status, code or "")
        if key not in self.ended and len(self.ended) >= MOST_CODES:
            key = (status, OTHER)
        self.ended[key] = self.ended.get(key, 0) + 1

    def of_model(self, name: str | None) -> ModelMeasures:
        """The measures of `provider/model`; beyond MOST_MODELS those of all the rest."""
        provider, _, model = (name or "/").partition("/")
        measures = self.models.get((provider, model))
        if measures is None:
            key = (provider, model) if len(self.models) < MOST_MODELS else (OTHER, OTHER)
            measures = self.models.setdefault(key, ModelMeasures())
        return measures


class StoreMeasures:
    """What a store counts: seconds from asking to having, and what failed."""

    __slots__ = ("failed_reads", "failed_writes", "reads", "writes")

    def __init__(self) -> None:
        self.writes = Histogram(SHORT_WAITS)
        self.reads = Histogram(SHORT_WAITS)
        self.failed_writes = 0
        self.failed_reads = 0
