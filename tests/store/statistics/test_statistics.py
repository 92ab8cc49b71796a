"""Statistics of calls, compared with sums and ranks that the test makes itself from the same calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from math import ceil

import msgspec
import pytest
from sqlalchemy import Connection, text

from tests.store.samples import OWNER, STRANGER
from tests.store.statistics.filling import DAY, Answer, answers, fill
from turnstream.core.statistics.day_range import DayRange
from turnstream.core.statistics.records import (
    CallStatistics,
    ErrorCount,
    Percentiles,
    TurnCounts,
    UsageStatistics,
)
from turnstream.core.usage import CallAttempt, Usage
from turnstream.errors import InvalidRequest
from turnstream.limits import MAX_STATISTICS_DAYS
from turnstream.store.base import Operation
from turnstream.store.sql import SqlStore
from turnstream.store.statistics.query import ReadStatistics
from turnstream.telemetry.measures import MOST_MODELS, OTHER

FIRST = 20_000
DAYS = 7
TODAY = date(2026, 11, 30)


def day(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=number)


def days(first: int = FIRST, last: int = FIRST + DAYS - 1) -> DayRange:
    return DayRange(day(first), day(last))


def expected_percentiles(values: Iterable[float]) -> Percentiles | None:
    ranked = sorted(values)
    if not ranked:
        return None
    return Percentiles(
        len(ranked), *(round(ranked[ceil(len(ranked) * p / 100) - 1], 6) for p in (50, 95, 99))
    )


def speed_of(call: CallAttempt) -> float | None:
    tokens = call.usage.output_tokens
    if call.outcome != "complete" or call.first_output is None or tokens is None:
        return None
    return tokens / (call.duration - call.first_output)


def expected(rows: Sequence[Answer], model: str, of_day: str | None) -> CallStatistics:
    """The statistics of one model, of all rows or of those of one day."""
    calls = [
        (call, made[at + 1 : at + 2])
        for turn, made in rows
        if of_day in {None, day(turn.created_at // DAY).isoformat()}
        for at, call in enumerate(made)
        if call.model == model
    ]
    own = [call for call, _ in calls]
    failed = [pair for pair in calls if pair[0].outcome not in {"complete", "cancelled"}]
    costs = [Decimal(call.cost) for call in own if call.cost is not None]
    return CallStatistics(
        model=model,
        day=of_day,
        calls=len(own),
        errors=len(failed),
        cancelled=sum(call.outcome == "cancelled" for call in own),
        fallbacks=sum(bool(after) and after[0].model != model for _, after in failed),
        **{name: sum(getattr(c.usage, name) or 0 for c in own) for name in Usage.__struct_fields__},
        cost=f"{sum(costs, Decimal(0)):.6f}",
        unpriced=sum(call.cost is None and call.usage.input_tokens is not None for call in own),
        estimated=sum(call.estimated for call in own),
        first_output=expected_percentiles(c.first_output for c in own if c.first_output is not None),
        speed=expected_percentiles(s for c in own if (s := speed_of(c)) is not None),
    )


async def test_sums_and_percentiles_are_those_of_the_stored_calls(store: SqlStore):
    rows = list(answers(1500, first_day=FIRST, days=DAYS, owner=OWNER))
    await fill(store, rows, OWNER)
    found = await store.read(ReadStatistics(owner=OWNER, days=days()))
    models = {call.model for _, made in rows for call in made}
    assert len(models) == 4
    assert {row.model for row in found.models} == models
    for row in (*found.models, *found.days):
        assert row == expected(rows, row.model, row.day)
    assert len(found.days) == len(models) * DAYS
    assert [row.day for row in found.days] == sorted(row.day or "" for row in found.days)
    assert [row.calls for row in found.models] == sorted((r.calls for r in found.models), reverse=True)
    counts = Counter(turn.status for turn, _ in rows)
    assert found.turns == TurnCounts(**counts)
    codes = Counter((c.model, c.outcome) for _, made in rows for c in made)
    failures = {key: n for key, n in codes.items() if key[1] not in {"complete", "cancelled"}}
    assert {(error.model, error.code): error.calls for error in found.errors} == failures
    assert [e.calls for e in found.errors] == sorted((e.calls for e in found.errors), reverse=True)
    assert sum(row.fallbacks for row in found.models) > 0
    assert (found.first_day, found.last_day) == (day(FIRST).isoformat(), day(FIRST + DAYS - 1).isoformat())


async def test_only_the_days_and_the_owner_that_are_asked_for_count(store: SqlStore):
    rows = list(answers(700, first_day=FIRST, days=DAYS, owner=OWNER))
    others = list(answers(300, first_day=FIRST, days=DAYS, owner=STRANGER, seed=2))
    await fill(store, rows, OWNER)
    await fill(store, others, STRANGER)
    middle = days(FIRST + 2, FIRST + 3)
    inside = [row for row in rows if FIRST + 2 <= row[0].created_at // DAY <= FIRST + 3]
    found = await store.read(ReadStatistics(owner=OWNER, days=middle))
    assert 0 < len(inside) < len(rows)
    for row in (*found.models, *found.days):
        assert row == expected(inside, row.model, row.day)
    assert {row.day for row in found.days} == {"2024-10-06", "2024-10-07"}
    strange = await store.read(ReadStatistics(owner=STRANGER, days=days()))
    for row in strange.models:
        assert row == expected(others, row.model, None)


async def test_a_range_without_calls_has_no_rows(store: SqlStore):
    found = await store.read(ReadStatistics(owner=OWNER, days=days()))
    assert found == UsageStatistics(
        first_day="2024-10-04", last_day="2024-10-10", turns=TurnCounts(), models=(), days=(), errors=()
    )


async def test_models_beyond_the_first_are_counted_together(store: SqlStore):
    """The models with the most calls keep their names. All numbers of the others are those of one group."""
    many = MOST_MODELS + 7
    call = CallAttempt(0, 1, "", "complete", 5, 2.0, Usage(3, 10), "0.000002", first_output=1.0)
    rows: list[Answer] = []
    bare = answers(many * (many + 1) // 2, first_day=FIRST, days=1, owner=OWNER)
    for number in range(1, many + 1):
        named = msgspec.structs.replace(call, model=f"acme/{number:03}", first_output=number / many)
        rows += [(next(bare)[0], (named,)) for _ in range(number)]
    await fill(store, rows, OWNER)
    found = await store.read(ReadStatistics(owner=OWNER, days=days()))
    assert len(found.models) == len(found.days) == MOST_MODELS + 1
    assert {row.model for row in found.models} == {
        OTHER,
        *(f"acme/{n:03}" for n in range(many - MOST_MODELS + 1, many + 1)),
    }
    (rest,) = (row for row in found.models if row.model == OTHER)
    values = sorted(number / many for number in range(1, 8) for _ in range(number))
    assert rest.calls == 28
    assert rest.output_tokens == 280
    assert rest.cost == "0.000056"
    assert rest.first_output == expected_percentiles(values)


class _Statement(Operation[None], frozen=True, kw_only=True):
    sql: str

    def apply(self, connection: Connection) -> None:
        connection.execute(text(self.sql))


async def test_a_cost_that_is_not_a_number_counts_as_nothing(store: SqlStore):
    rows = list(answers(40, first_day=FIRST, days=1, owner=OWNER))
    await fill(store, rows, OWNER)
    await store.write(
        _Statement(sql="UPDATE turnstream_attempts SET cost = 'a lot' WHERE model = 'acme/one'")
    )
    found = {row.model: row for row in (await store.read(ReadStatistics(owner=OWNER, days=days()))).models}
    assert found["acme/one"].cost == "0.000000"
    assert found["acme/two"] == expected(rows, "acme/two", None)


async def test_values_of_another_type_count_as_zero(sqlite_store: SqlStore):
    """SQLite takes any value in any column."""
    rows = list(answers(40, first_day=FIRST, days=1, owner=OWNER))
    await fill(sqlite_store, rows, OWNER)
    damage = (
        "UPDATE turnstream_attempts SET first_output = 'soon', input_tokens = 'many' WHERE model = 'acme/one'"
    )
    await sqlite_store.write(_Statement(sql=damage))
    found = await sqlite_store.read(ReadStatistics(owner=OWNER, days=days()))
    damaged = next(row for row in found.models if row.model == "acme/one")
    assert damaged.input_tokens == 0
    assert damaged.first_output == Percentiles(damaged.calls, 0.0, 0.0, 0.0)
    assert {row.model for row in found.models} == {call.model for _, made in rows for call in made}


async def test_errors_are_listed_up_to_a_bound(store: SqlStore):
    failed = CallAttempt(0, 1, "acme/one", "", 5, 1.0)
    bare = answers(121, first_day=FIRST, days=1, owner=OWNER)
    codes = [f"code_{number:03}" for number in range(120)]
    rows = [(next(bare)[0], (msgspec.structs.replace(failed, outcome=c),)) for c in (*codes, "code_077")]
    await fill(store, rows, OWNER)
    found = await store.read(ReadStatistics(owner=OWNER, days=days()))
    assert found.models[0].errors == 121
    assert len(found.errors) == 100
    assert found.errors[0] == ErrorCount("acme/one", "code_077", 2)


RANGES: dict[str, tuple[str | date | None, str | date | None, DayRange]] = {
    "none": (None, None, DayRange(date(2026, 11, 1), TODAY)),
    "last": (None, "2026-01-31", DayRange(date(2026, 1, 2), date(2026, 1, 31))),
    "first": ("2026-11-30", None, DayRange(TODAY, TODAY)),
    "dates": (date(2026, 1, 1), date(2026, 12, 31), DayRange(date(2026, 1, 1), date(2026, 12, 31))),
    "longest": ("2024-01-01", "2024-12-31", DayRange(date(2024, 1, 1), date(2024, 12, 31))),
    "beginning of time": (None, "0001-01-03", DayRange(date.min, date(1, 1, 3))),
}


@pytest.mark.parametrize(("first", "last", "found"), RANGES.values(), ids=RANGES)
def test_a_range_has_defaults(first: str | date | None, last: str | date | None, found: DayRange):
    assert DayRange.of(first, last, today=TODAY) == found


REFUSED: dict[str, tuple[str | None, str | None, str]] = {
    "turned": ("2026-02-01", "2026-01-31", "first_day 2026-02-01 is after last_day 2026-01-31"),
    "too long": (
        "2024-01-01",
        "2025-01-01",
        f"the range has 367 days: ask for at most {MAX_STATISTICS_DAYS}",
    ),
    "no day": ("yesterday", None, "first_day is not a day"),
    "no such day": (None, "2026-02-30", "last_day is not a day"),
    "a time": ("2026-01-31T00:00", None, "first_day is not a day"),
    "a week": ("2026-W05-1", None, "first_day is not a day"),
    "empty": ("", None, "first_day is not a day"),
    "other digits": ("२०२६-०१-३१", None, "first_day is not a day"),
}


@pytest.mark.parametrize(("first", "last", "words"), REFUSED.values(), ids=REFUSED)
def test_a_range_outside_the_bounds_is_refused(first: str | None, last: str | None, words: str):
    with pytest.raises(InvalidRequest, match=words) as refused:
        DayRange.of(first, last, today=TODAY)
    assert refused.value.code == "invalid_range"
