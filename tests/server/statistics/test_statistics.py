"""`GET /api/stats` and both Python clients give the statistics of the caller's own calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from tests.server.live import Client, Watcher, serving
from turnstream.client.asynchronous import AsyncClient
from turnstream.client.blocking import Client as BlockingClient
from turnstream.config import PriceSettings
from turnstream.core.statistics.records import UsageStatistics
from turnstream.engine import Engine
from turnstream.errors import InvalidRequest
from turnstream.server.auth import Principal

PRICES = {"sim/*": PriceSettings(input_per_million=Decimal(3), output_per_million=Decimal(15))}
GOOD = "sim/story:events=20,pace=0.002"
BROKEN = "sim/demo:fault=error-before,status=500"
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def by_header(request: Request) -> Principal:
    return Principal(request.headers.get("x-user", "ada"))


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", prices=PRICES, authenticate=by_header)
    async with serving(engine.application()) as port:
        yield Client(port)


async def ended_turn(client: Client, **fields: Any) -> dict[str, Any]:
    turn = await client.start("hello there", **fields)
    await Watcher(client, turn).watch()
    return (await client.call("GET", f"/turns/{turn}")).json


def recent_days() -> str:
    """A range with today, even if midnight passes now."""
    today = datetime.now(UTC).date()
    return f"?first_day={today - timedelta(days=1)}&last_day={today + timedelta(days=1)}"


@pytest.mark.requirement("P1")
async def test_statistics_are_the_sums_of_the_attempts_of_the_turns(client: Client) -> None:
    turns = [await ended_turn(client, model=GOOD) for _ in range(3)]
    turns.append(await ended_turn(client, model=BROKEN, fallbacks=[GOOD]))
    turns.append(await ended_turn(client, model=BROKEN, fallbacks=[]))
    await ended_turn(Client(client.port, {"X-User": "eve"}), model=GOOD)
    found = (await client.call("GET", f"/stats{recent_days()}")).json
    assert found["turns"] == {"complete": 4, "error": 1, "cancelled": 0, "unfinished": 0}
    attempts = [attempt for turn in turns for attempt in turn["attempts"]]
    models = {row["model"]: row for row in found["models"]}
    assert set(models) == {GOOD, BROKEN}
    for name, row in models.items():
        own = [attempt for attempt in attempts if attempt["model"] == name]
        assert row["calls"] == len(own)
        assert row["errors"] == sum(attempt["outcome"] != "complete" for attempt in own)
        assert {key: row[key] for key in TOKENS} == {key: sum(a[key] or 0 for a in own) for key in TOKENS}
        assert Decimal(row["cost"]) == sum(Decimal(attempt["cost"] or 0) for attempt in own)
    assert models[GOOD]["fallbacks"] == 0
    assert models[BROKEN]["fallbacks"] == 1
    firsts = sorted(a["first_output"] for a in attempts if a["model"] == GOOD)
    assert models[GOOD]["first_output"]["calls"] == 4
    assert models[GOOD]["first_output"]["p50"] == firsts[1]
    assert models[GOOD]["first_output"]["p99"] == firsts[3]
    assert 0 < models[GOOD]["speed"]["p50"] <= models[GOOD]["speed"]["p95"]
    assert models[BROKEN]["first_output"] is None
    codes = Counter(a["outcome"] for a in attempts if a["model"] == BROKEN)
    assert {e["code"]: e["calls"] for e in found["errors"]} == codes
    for name in ("calls", "errors", "fallbacks", "output_tokens"):
        assert sum(row[name] for row in found["days"]) == sum(row[name] for row in found["models"])
    for row in found["days"]:
        date.fromisoformat(row["day"])


async def test_the_time_to_the_first_output_is_that_of_the_call(client: Client) -> None:
    """The model waits before each event, so its first output comes after one wait, long before its end."""
    turn = await ended_turn(client, model="sim/story:events=10,pace=0.05")
    (attempt,) = turn["attempts"]
    assert 0.05 <= attempt["first_output"] < attempt["duration"] - 0.2


@pytest.mark.parametrize(
    "query",
    ["?first_day=yesterday", "?first_day=2026-02-02&last_day=2026-02-01", "?first_day=2020-01-01", "?last_day=2026-02-30"],
)  # fmt: skip
async def test_a_range_outside_the_bounds_is_refused(client: Client, query: str) -> None:
    answer = await client.call("GET", f"/stats{query}")
    assert answer.status == 400
    assert answer.json["error"]["code"] == "invalid_range"
    assert "day" in answer.json["error"]["message"]


@pytest.mark.requirement("P1")
async def test_both_clients_read_the_statistics(client: Client) -> None:
    await ended_turn(client, model=GOOD)
    today = datetime.now(UTC).date()
    first, last = today - timedelta(days=1), today + timedelta(days=1)
    answered = (await client.call("GET", f"/stats{recent_days()}")).json
    base = f"http://127.0.0.1:{client.port}"
    async with AsyncClient(base) as asynchronous:
        found = await asynchronous.statistics(first, str(last))
        with pytest.raises(InvalidRequest, match="the range has"):
            await asynchronous.statistics("2020-01-01")
        assert (await asynchronous.statistics()).last_day >= str(today)

    def ask() -> UsageStatistics:
        with BlockingClient(base) as blocking:
            return blocking.statistics(first, last)

    assert found == await asyncio.to_thread(ask) == msgspec.convert(answered, UsageStatistics)
    assert found.models[0].model == GOOD
