"""A stream's settings, from file, environment and code; logging by component."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import turnstream as ts
from turnstream.telemetry.logs import COMPONENTS


@pytest.mark.requirement("F4")
def test_defaults_are_those_that_are_promised() -> None:
    stream = ts.StreamSettings()
    assert stream.enabled
    assert stream.buffer_size == 256
    assert stream.timeout == 60
    assert stream.tool_streaming
    assert (ts.Settings().retry.attempts, ts.Settings().retry.delay) == (3, 1)
    assert stream.fallback_on_error
    assert (stream.update_interval, stream.update_buffer) == (0.1, 50)


@pytest.mark.requirement("F4")
async def test_settings_come_from_file_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        """
        [engine]
        default_model = "sim/story:events=300,pace=0"
        [stream]
        enabled = false
        timeout = 5
        [retry]
        attempts = 2
        [models.quick]
        model = "sim/echo:pace=0"
        fallbacks = ["sim/demo"]
        """
    )
    monkeypatch.setenv("TURNSTREAM_RETRY__DELAY", "0.5")
    monkeypatch.setenv("TURNSTREAM_STREAM__ENABLED", "true")
    llm = ts.LLM(settings=file)
    assert llm.model == "sim/story:events=300,pace=0"
    assert llm.settings.stream.enabled, "the environment wins"
    assert llm.settings.stream.timeout == 5
    assert (llm.settings.retry.attempts, llm.settings.retry.delay) == (2, 0.5)
    async with llm.stream("go") as stream:
        assert await stream.final_text()
    named = ts.LLM("quick", settings=file)
    assert named.models == ("sim/echo:pace=0", "sim/demo")
    assert (await named.collect("x")).text == "x"
    monkeypatch.setenv("TURNSTREAM_CONFIG", str(file))
    assert ts.LLM().model == llm.model
    monkeypatch.setenv("TURNSTREAM_STREAM__TIMEOUT", "soon")
    with pytest.raises(ts.ConfigurationError, match="TURNSTREAM_STREAM__TIMEOUT"):
        ts.LLM()


@pytest.mark.requirement("F4")
async def test_the_time_out_is_the_idle_clock_of_providers_that_set_none(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[stream]\ntimeout = 5\n[providers.other]\nwire = "ollama"\nbase_url = "http://127.0.0.1:1"\n'
    )
    timeouts = {"other": {"wire": "ollama", "base_url": "http://127.0.0.1:1", "timeouts": {"idle": 7}}}
    llm = ts.LLM("ollama/x", settings=file)
    assert await _clocks(llm) == (300, 5)
    assert await _clocks(ts.LLM("other/x", settings=file)) == (300, 5)
    assert await _clocks(ts.LLM("other/x", settings=file, providers=timeouts)) == (300, 7)
    with pytest.raises(ts.ConfigurationError, match="other"):
        ts.LLM("other/x", providers={"other": {"wire": "ollama", "base_url": "nowhere"}})


async def _clocks(llm: ts.LLM) -> tuple[float, float]:
    calling = await llm._callings.get()
    timeouts = calling.catalog.resolve(llm.model).provider.timeouts  # type: ignore[attr-defined]
    return timeouts.first_token, timeouts.idle


@pytest.mark.requirement("F4")
def test_fallbacks_may_be_turned_off() -> None:
    settings = ts.Settings.model_validate({"stream": {"fallback_on_error": False}})
    assert ts.LLM("sim/demo", fallbacks=["sim/echo"], settings=settings).models == ("sim/demo",)
    assert ts.LLM("sim/demo", fallbacks=["sim/echo"], settings=ts.Settings()).models == (
        "sim/demo",
        "sim/echo",
    )


@pytest.mark.requirement("F5")
@pytest.mark.parametrize(
    ("component", "words"),
    [
        ("client", ("answers step 0", "is complete: end_turn")),
        ("accumulator", ("block 0 (text) is whole",)),
        ("events", ("a reader begins after",)),
    ],
)
async def test_each_component_can_be_logged_at_debug_level(
    component: str, words: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"turnstream.{path}" for path in COMPONENTS[component]]
    for name in names:
        caplog.set_level(logging.DEBUG, name)
    async with ts.LLM("sim/demo:pace=0", settings=ts.Settings()).stream("hello") as stream:
        _ = [event async for event in stream]
    for word in words:
        assert word in caplog.text
    assert all(record.name.startswith(tuple(names)) for record in caplog.records)


def test_a_mistake_in_a_provider_is_told_without_its_value() -> None:
    with pytest.raises(ts.ConfigurationError, match="did you mean api_key_env") as told:
        ts.LLM("mine/m", providers={"mine": {"wire": "anthropic", "api_key": "a-secret"}})
    assert "argument providers" in str(told.value)
    assert "a-secret" not in str(told.value)
