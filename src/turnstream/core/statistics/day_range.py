"""The range of days of statistics."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import NamedTuple

from turnstream.errors import InvalidRequest
from turnstream.limits import MAX_STATISTICS_DAYS

DEFAULT_DAYS = 30
"""Days of a range whose first day is not given."""
DAY_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


class DayRange(NamedTuple):
    """Days in UTC, both included."""

    first: date
    last: date

    @classmethod
    def of(cls, first_day: str | date | None, last_day: str | date | None, *, today: date) -> DayRange:
        """Return the range that a caller asks for. Raises InvalidRequest if it is not valid.

        Args:
            first_day: The first day, as a date or as `2026-01-31`. None: `DEFAULT_DAYS` up to the last day.
            last_day: The last day. None: `today`.
            today: The current day in UTC.
        """
        last = today if last_day is None else _day(last_day, "last_day")
        if first_day is None:
            first = last - min(timedelta(days=DEFAULT_DAYS - 1), last - date.min)
        else:
            first = _day(first_day, "first_day")
        if first > last:
            raise InvalidRequest(
                f"first_day {first} is after last_day {last}: give the earlier day first",
                code="invalid_range",
            )
        if (last - first).days >= MAX_STATISTICS_DAYS:
            raise InvalidRequest(
                f"the range has {(last - first).days + 1} days: ask for at most {MAX_STATISTICS_DAYS}",
                code="invalid_range",
            )
        return cls(first, last)


def _day(given: str | date, name: str) -> date:
    if isinstance(given, date):
        return given
    try:
        if re.match(DAY_PATTERN, given, re.ASCII):
            return date.fromisoformat(given)
    except ValueError:
        pass  # such as 2026-02-30
    raise InvalidRequest(
        f"{name} is not a day: give a day of the calendar, as 2026-01-31", code="invalid_range"
    )
