"""`GET /metrics`: its values, and its allowed callers (requirements O1, P1)."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.server.live import Answer, Client, Watcher, serving
from turnstream.config import EngineSettings, ServerSettings
from turnstream.core.usage import StepUsage, Usage
from turnstream.engine import Engine
from turnstream.server.auth import key_required
from turnstream.store.base import TurnRecord
from turnstream.turns.ending import count_usage

QUICK = "sim/echo:pace=0"
SECONDS = 20.0


def engine_in(folder: Path, **options: object) -> Engine:
    return Engine(f"sqlite:///{folder}/turns.sqlite", **options)  # type: ignore[arg-type]


def values(text: str) -> dict[str, float]:
    """Return every sample, as `name{label=value,…}` without our prefix."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            name = sample.name.removeprefix("turnstream_")
            found[f"{name}{{{labels}}}" if labels else name] = sample.value
    return found


async def scrape(client: Client, **headers: str) -> Answer:
    return await Client(client.port, prefix="").call("GET", "/metrics", headers=headers)


async def samples(client: Client) -> dict[str, float]:
    answer = await scrape(client)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return values(answer.body.decode())


@pytest.mark.requirement("O1", "P1")
async def test_a_scrape_tells_of_turns_watchers_storage_and_models(tmp_path: Path) -> None:
    async with serving(engine_in(tmp_path).application()) as port:
        client = Client(port)
        before = await samples(client)
        assert before["active_turns"] == before["watchers"] == before["subscriptions_total"] == 0
        done = await client.start("hello there", model=QUICK)
        await Watcher(client, done).watch_to_the_end()
        failed = await client.start("hello", model="sim/story:fault=error-before,status=529")
        await Watcher(client, failed).watch_to_the_end()
        await Watcher(client, failed).watch_to_the_end()  # ended, and still in memory
        after = await samples(client)
    ended = {key: value for key, value in after.items() if key.startswith("turns_total")}
    assert ended["turns_total{code=,status=complete}"] == 1
    assert sum(ended.values()) == 2
    assert any("status=error" in key for key in ended)
    assert after["active_turns"] == after["watchers"] == 0
    assert after["subscriptions_total"] == 3
    assert after["catch_ups_total"] >= 1
    assert after["first_token_seconds_count"] == 1
    assert 0 < after["first_token_seconds_sum"] < SECONDS
    assert after["store_write_seconds_count"] > before["store_write_seconds_count"]
    assert after["store_write_seconds_bucket{le=+Inf}"] == after["store_write_seconds_count"]
    assert after["store_failures_total{operation=write}"] == 0
    of_echo = {key: value for key, value in after.items() if "model=echo:pace=0" in key}
    assert of_echo["model_calls_total{model=echo:pace=0,provider=sim}"] == 1
    assert of_echo["unpriced_calls_total{model=echo:pace=0,provider=sim}"] in {0, 1}
    assert of_echo["tokens_total{kind=output,model=echo:pace=0,provider=sim}"] > 0


async def test_open_streams_and_turns_at_work_are_told_while_they_last(tmp_path: Path) -> None:
    engine = engine_in(tmp_path, settings=EngineSettings(journal_interval=0.01))
    async with serving(engine.application()) as port:
        client = Client(port)
        turn = await client.start("once upon", model="sim/story:events=5000,pace=0.005")
        watcher = Watcher(client, turn)
        watching = asyncio.create_task(watcher.watch_to_the_end())
        async with asyncio.timeout(SECONDS):
            told = await samples(client)
            while told["journal_segments_total"] == 0 or told["watchers"] == 0:
                told = await samples(client)  # a round trip each time
        assert told["active_turns"] == told["watchers"] == 1
        assert told["watchers_behind"] in {0, 1}
        assert told["watcher_lag_events"] >= 0
        assert told["journal_writes_total"] >= 1
        await client.call("POST", f"/turns/{turn}/interrupt")
        async with asyncio.timeout(SECONDS):
            await watching
        assert (await samples(client))["turns_total{code=,status=cancelled}"] == 1


async def test_what_was_merged_and_caught_up_is_still_counted_when_its_turn_is_forgotten(
    tmp_path: Path,
) -> None:
    engine = engine_in(tmp_path)
    async with engine:
        turn = await engine.send("hello", model="sim/story:events=200,pace=0")
        await turn.wait()
        subscription = await engine.subscribe(turn.id)
        while await subscription.next() is not None:
            pass
        before = values(engine.metrics.render()[0].decode())
        assert before["catch_ups_total"] == 1
        engine._registry.forget(turn.id)
        after = values(engine.metrics.render()[0].decode())
        for name in ("catch_ups_total", "coalesced_events_total"):
            assert after[name] == before[name]
        subscription = await engine.subscribe(turn.id)  # from its rows now
        assert values(engine.metrics.render()[0].decode())["catch_ups_total"] == 2


async def test_metrics_ask_for_the_key_that_the_api_asks_for(tmp_path: Path) -> None:
    engine = engine_in(tmp_path, authenticate=key_required("s3cret"))
    async with serving(engine.application()) as port:
        client = Client(port)
        refused = await scrape(client)
        assert refused.status == 401
        assert refused.json["error"]["code"] == "unauthorized"
        assert b"turnstream_" not in refused.body
        assert (await scrape(client, Authorization="Bearer wrong")).status == 401
        assert (await scrape(client, Authorization="Bearer s3cret")).status == 200


@pytest.mark.parametrize(("access", "status"), [("open", 200), ("off", 404)])
async def test_metrics_may_be_open_or_off(tmp_path: Path, access: str, status: int) -> None:
    server = ServerSettings(metrics=access)  # type: ignore[arg-type]
    engine = engine_in(tmp_path, authenticate=key_required("s3cret"), server=server)
    async with serving(engine.application()) as port:
        assert (await scrape(Client(port))).status == status


async def test_local_use_does_not_show_metrics_to_a_rebound_name(tmp_path: Path) -> None:
    async with serving(engine_in(tmp_path).application()) as port:
        assert (await scrape(Client(port), Host="evil.example")).status == 401


async def test_openmetrics_is_given_to_who_asks_for_it(tmp_path: Path) -> None:
    async with serving(engine_in(tmp_path).application()) as port:
        answer = await scrape(Client(port), Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert {family.name for family in parse_openmetrics(answer.body.decode())} >= {"turnstream_watchers"}


async def test_each_engine_has_metrics_of_its_own_and_a_host_may_take_them(tmp_path: Path) -> None:
    one, other = engine_in(tmp_path / "one"), engine_in(tmp_path / "other")
    host = CollectorRegistry()
    host.register(one.metrics)
    async with one, other:
        await (await one.send("hello", model=QUICK)).wait()
        assert host.get_sample_value("turnstream_turns_total", {"status": "complete", "code": ""}) == 1
        assert "turns_total{code=,status=complete}" not in values(other.metrics.render()[0].decode())


@pytest.mark.requirement("I2")
async def test_cost_is_told_by_model_step_by_step(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    steps = (
        StepUsage(0, "acme/one", Usage(45, 12), "0.000315"),
        StepUsage(1, "acme/one", Usage(45, 234), "0.003645"),
        StepUsage(2, "acme/two", Usage(1, 1)),
    )
    turn = TurnRecord(
        id="t",
        chat_id="c",
        owner="o",
        prev_turn_id=None,
        role="assistant",
        status="complete",
        model="acme/one",
        created_at=1,
        generation=1,
        steps=steps,
    )
    count_usage(engine._registry.measures, turn)
    told = values(engine.metrics.render()[0].decode())
    assert Decimal(str(told["cost_dollars_total{model=one,provider=acme}"])) == Decimal("0.00396")
    assert told["tokens_total{kind=output,model=one,provider=acme}"] == 246
    assert told["model_calls_total{model=one,provider=acme}"] == 2
    assert told["unpriced_calls_total{model=two,provider=acme}"] == 1
