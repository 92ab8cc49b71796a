"""Reads statistics of calls: by model over a range of days, and by model and day.

    index of answers ─► turns of the range ─► their calls ─┬► sums by day, model, outcome ─┬► CallGroups
                                                           └► values in ascending order ───┘

The statements read only the answers of their range, so their time does not depend on the number of other
turns. Values are read one by one: memory holds groups, not calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    Row,
    Select,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    select,
)

from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.core.statistics.day_range import DayRange
from turnstream.core.statistics.records import TurnCounts, UsageStatistics
from turnstream.core.usage import Usage
from turnstream.store.base import Query
from turnstream.store.expressions import JoinRowByRow, MicroDollars
from turnstream.store.schema import ANSWERS, attempts, turns
from turnstream.store.statistics.grouping import EPOCH, CallGroups

DAY = 86_400_000_000
"""Microseconds of a day."""

_Statement: TypeAlias = Select[*tuple[Any, ...]]

_IN_RANGE = (
    turns.c.owner == bindparam("owner"),
    ANSWERS,
    turns.c.created_at >= bindparam("since"),
    turns.c.created_at < bindparam("until"),
)
_TURNS = select(turns.c.status, func.count().label("turns")).where(*_IN_RANGE).group_by(turns.c.status)
_CALLS = JoinRowByRow(turns, attempts, attempts.c.turn_id == turns.c.id)
_DAY = (turns.c.created_at // literal(DAY, literal_execute=True)).label("day")
_SECONDS = attempts.c.duration - attempts.c.first_output
# A cast makes a number of any value in a damaged row.
_VALUES = {
    "first_output": cast(attempts.c.first_output, Float),
    "speed": cast(
        case(((attempts.c.outcome == "complete") & (_SECONDS > 0), attempts.c.output_tokens / _SECONDS)),
        Float,
    ),
}
"""Values of a call, by their names in `CallStatistics`. NULL for a call without such a value."""


def _sums() -> _Statement:
    """Return the statement that reads a row for each day, model and outcome."""
    later = attempts.alias("later")
    replaced = exists().where(
        later.c.turn_id == attempts.c.turn_id,
        later.c.step == attempts.c.step,
        later.c.number == attempts.c.number + 1,
        later.c.model != attempts.c.model,
    )
    failed = attempts.c.outcome.not_in(("complete", "cancelled"))
    without_price = attempts.c.cost.is_(None) & attempts.c.input_tokens.is_not(None)
    summed: dict[str, ColumnElement[Any]] = {
        "fallbacks": case((failed, case((replaced, 1), else_=0)), else_=0),
        **{name: attempts.c[name] for name in Usage.__struct_fields__},
        "cost": MicroDollars(attempts.c.cost),
        "unpriced": case((without_price, 1), else_=0),
        "estimated": case((attempts.c.estimated, 1), else_=0),
    }
    counted = [func.count(value).label(name) for name, value in _VALUES.items()]
    sums = [cast(func.coalesce(func.sum(value), 0), BigInteger).label(name) for name, value in summed.items()]
    return (
        select(_DAY, attempts.c.model, attempts.c.outcome, func.count().label("calls"), *sums, *counted)
        .select_from(_CALLS)
        .where(*_IN_RANGE)
        .group_by(_DAY, attempts.c.model, attempts.c.outcome)
    )


def _ascending(value: ColumnElement[Any]) -> _Statement:
    """Return the statement that reads the values of all calls that have one, the smallest first."""
    return (
        select(_DAY, attempts.c.model, value.label("value"))
        .select_from(_CALLS)
        .where(*_IN_RANGE, value.is_not(None))
        .order_by(value)
    )


_SUMS = _sums()
_ASCENDING = {name: _ascending(value) for name, value in _VALUES.items()}


class ReadStatistics(Query[UsageStatistics], frozen=True, kw_only=True):
    """Reads the statistics of an owner's calls.

    `days`: the range.
    """

    owner: str
    days: DayRange

    def fetch(self, connection: Connection) -> UsageStatistics:
        values = {
            "owner": self.owner,
            "since": (self.days.first - EPOCH).days * DAY,
            "until": ((self.days.last - EPOCH).days + 1) * DAY,
        }

        def read(statement: _Statement) -> Iterable[Row[Any]]:
            return connection.execute(statement, values, execution_options={"stream_results": True})

        groups = CallGroups(read(_SUMS))
        found = {name: groups.percentiles(name, read(rows)) for name, rows in _ASCENDING.items()}
        calls = list(groups.statistics(**found))
        return UsageStatistics(
            first_day=self.days.first.isoformat(),
            last_day=self.days.last.isoformat(),
            turns=_turn_counts(read(_TURNS)),
            models=tuple(row for row in calls if row.day is None),
            days=tuple(row for row in calls if row.day is not None),
            errors=groups.errors(),
        )


def _turn_counts(rows: Iterable[Row[Any]]) -> TurnCounts:
    counts = Counter[str]()
    for row in rows:
        counts[row.status if row.status in TERMINAL_STATUSES else "unfinished"] += row.turns
    return TurnCounts(**counts)
