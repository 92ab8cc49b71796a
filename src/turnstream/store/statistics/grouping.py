"""Groups the calls of a range by model, and by model and day: sums, and percentiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import Any, TypeAlias

from sqlalchemy import Row

from turnstream.core.statistics.records import CallStatistics, ErrorCount, Percentiles
from turnstream.core.usage import Usage
from turnstream.telemetry.measures import MOST_MODELS, OTHER

MOST_ERRORS = 100
"""Largest number of pairs of a model and an error code."""
SUMMED = ("fallbacks", *Usage.__struct_fields__, "cost", "unpriced", "estimated", "first_output", "speed")
"""Columns that are added as they are.

The cost is in millionths of a dollar. `first_output` and `speed` are numbers of calls that have such a value.
"""
EPOCH = date(1970, 1, 1)

_PERCENTS = (50, 95, 99)
_NO_FAILURE = frozenset({"complete", "cancelled"})

Group: TypeAlias = tuple[int | None, str]
"""A day, counted from the epoch, and a model. The day is None for the whole range."""


class CallGroups:
    """The groups of a range's calls.

    Args:
        rows: A row for each day, model and outcome: the number of `calls`, and the `SUMMED` columns.
    """

    def __init__(self, rows: Iterable[Row[Any]]) -> None:
        stored = list(rows)
        calls = Counter[str]()
        for row in stored:
            calls[row.model] += row.calls
        self._named = {model for model, _ in calls.most_common(MOST_MODELS)}
        self._sums: dict[Group, Counter[str]] = {}
        self._errors = Counter[tuple[str, str]]()
        for row in stored:
            self._add(row)

    def _add(self, row: Row[Any]) -> None:
        added = {"calls": row.calls, **{name: getattr(row, name) for name in SUMMED}}
        if row.outcome not in _NO_FAILURE:
            added["errors"] = row.calls
            self._errors[self._name(row.model), row.outcome] += row.calls
        elif row.outcome == "cancelled":
            added["cancelled"] = row.calls
        for group in self._groups(row.day, row.model):
            self._sums.setdefault(group, Counter()).update(added)

    def _name(self, model: str) -> str:
        return model if model in self._named else OTHER

    def _groups(self, day: int, model: str) -> tuple[Group, Group]:
        name = self._name(model)
        return (None, name), (day, name)

    def percentiles(self, value: str, rows: Iterable[Any]) -> dict[Group, Percentiles]:
        """Return the percentiles of the groups that have values.

        Args:
            value: Name of the value, one of `SUMMED`.
            rows: Tuples of a day, a model and a value, one for each call with a value, the smallest first.
        """
        ranked = {group: _RankedValues(sums[value]) for group, sums in self._sums.items() if sums[value]}
        for day, model, number in rows:
            for group in self._groups(day, model):
                ranked[group].add(number)
        return {group: values.percentiles() for group, values in ranked.items()}

    def errors(self) -> tuple[ErrorCount, ...]:
        """Return the failed calls by model and code, the most frequent first, at most `MOST_ERRORS`."""
        ordered = sorted(self._errors.items(), key=lambda item: (-item[1], item[0]))
        return tuple(ErrorCount(model, code, calls) for (model, code), calls in ordered[:MOST_ERRORS])

    def statistics(
        self, first_output: dict[Group, Percentiles], speed: dict[Group, Percentiles]
    ) -> Iterator[CallStatistics]:
        """Yield the statistics of all groups: by day, and those of a day by their number of calls.

        The statistics of the whole range come first.
        """
        for group in sorted(self._sums, key=self._order):
            day, model = group
            sums = self._sums[group]
            yield CallStatistics(
                model=model,
                day=None if day is None else (EPOCH + timedelta(days=day)).isoformat(),
                calls=sums["calls"],
                errors=sums["errors"],
                cancelled=sums["cancelled"],
                fallbacks=sums["fallbacks"],
                **{name: sums[name] for name in Usage.__struct_fields__},
                cost=f"{sums['cost'] // 1_000_000}.{sums['cost'] % 1_000_000:06d}",
                unpriced=sums["unpriced"],
                estimated=sums["estimated"],
                first_output=first_output.get(group),
                speed=speed.get(group),
            )

    def _order(self, group: Group) -> tuple[int, int, str]:
        day, model = group
        return -1 if day is None else day, -self._sums[group]["calls"], model


class _RankedValues:
    """Picks percentiles by nearest rank from `count` values that come in ascending order."""

    __slots__ = ("_count", "_found", "_next", "_ranks", "_seen")

    def __init__(self, count: int) -> None:
        self._count = count
        self._seen = 0
        self._found: list[float] = []
        # A rank is rounded up: of 3 values, the second one is the median.
        self._ranks = [-(-count * percent // 100) for percent in _PERCENTS]
        self._next = self._ranks[0]

    def add(self, value: float) -> None:
        self._seen += 1
        while self._seen == self._next:
            self._found.append(round(value, 6))
            self._next = self._ranks[len(self._found)] if len(self._found) < len(self._ranks) else 0

    def percentiles(self) -> Percentiles:
        """Return the percentiles. All values have been added."""
        return Percentiles(self._count, *self._found)
