"""Statistics read only their range: by an index, and in the same time however many other turns there are."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, event, text

from tests.postgresql import PostgresServer
from tests.store.samples import OWNER
from tests.store.statistics.filling import answers, fill
from turnstream.core.statistics.day_range import DayRange
from turnstream.store.base import Operation, Query
from turnstream.store.sql import SqlStore
from turnstream.store.statistics.query import ReadStatistics

FIRST = 20_000
PER_DAY = 1000
RANGE = DayRange(date(1970, 1, 1) + timedelta(days=FIRST), date(1970, 1, 1) + timedelta(days=FIRST + 1))
PASSES = 7
DEADLINE = 60.0


class _Analyse(Operation[None], frozen=True, kw_only=True):
    """Counts values for the planner, as a server does by itself some time after so many writes."""

    def apply(self, connection: Connection) -> None:
        connection.execute(text("ANALYZE"))


class _Plans(Query[list[str]], frozen=True, kw_only=True):
    """The database's plan of each statement of `query`."""

    query: ReadStatistics

    def fetch(self, connection: Connection) -> list[str]:
        statements: list[tuple[str, Any]] = []

        def note(_: object, __: object, sql: str, values: Any, *___: object) -> None:
            statements.append((sql, values))

        event.listen(connection, "before_cursor_execute", note)
        try:
            self.query.fetch(connection)
        finally:
            event.remove(connection, "before_cursor_execute", note)
        analyse = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        return [
            "\n".join(str(tuple(row)) for row in connection.exec_driver_sql(analyse + sql, values))
            for sql, values in statements
        ]


@pytest.fixture(params=["sqlite", "postgresql"])
def two_urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Two databases of each kind, at the newest schema."""
    if request.param == "sqlite":
        empty: Path = request.getfixturevalue("empty_database")
        small, large = (shutil.copy(empty, tmp_path / name) for name in ("small.db", "large.db"))
        return f"sqlite:///{small}", f"sqlite:///{large}"
    server: PostgresServer = request.getfixturevalue("postgres")
    template = request.getfixturevalue("postgres_template")
    return server.database(template), server.database(template)


async def opened(url: str, turns: int) -> SqlStore:
    store = SqlStore(url)
    await store.open()
    await fill(store, answers(turns, first_day=FIRST, days=turns // PER_DAY, owner=OWNER), OWNER)
    await store.write(_Analyse())
    return store


async def seconds_of(store: SqlStore) -> float:
    began = perf_counter()
    statistics = await store.read(ReadStatistics(owner=OWNER, days=RANGE), seconds=DEADLINE)
    assert sum(msgspec.structs.astuple(statistics.turns)) == 2 * PER_DAY
    return perf_counter() - began


@pytest.mark.requirement("P1")
async def test_a_range_takes_as_long_in_100_000_turns_as_in_10_000(two_urls: tuple[str, str]):
    small, large = await opened(two_urls[0], 10_000), await opened(two_urls[1], 100_000)
    try:
        plans = await large.read(_Plans(query=ReadStatistics(owner=OWNER, days=RANGE)), seconds=DEADLINE)
        assert len(plans) == 4
        for plan in plans:
            assert "ix_turnstream_turns_answers" in plan, plan
            assert not any(words in plan for words in ("SCAN turnstream", "Seq Scan")), plan
        pairs = [(await seconds_of(small), await seconds_of(large)) for _ in range(PASSES)]
        of_small, of_large = (min(times) for times in zip(*pairs, strict=True))
        assert of_large <= 2 * of_small, f"{of_small:.3f} s in 10,000 turns, {of_large:.3f} s in 100,000"
    finally:
        await small.close()
        await large.close()
