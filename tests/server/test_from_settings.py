"""`Engine.from_settings` gives a host application the engine that `turnstream serve` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.live import Client, serving
from turnstream import ConfigurationError, Engine, Principal, load_settings
from turnstream.config import Settings

FILE = """\
[store]
url = "sqlite:///{folder}/turns.sqlite"

[engine]
default_model = "mine/small"
fallbacks = ["sim/demo"]
max_active_turns = 7

[server]
debug = true

[tools]
builtin = true
rounds = 3

[models.quick]
model = "sim/demo"

[providers.mine]
wire = "anthropic"
base_url = "http://127.0.0.1:9"
models = ["small"]

[prices]
"mine/small" = {{ input_per_million = 1, output_per_million = 2 }}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "turnstream.toml"
    file.write_text(FILE.format(folder=tmp_path), encoding="utf-8")
    return load_settings(file, environ={})


async def test_every_table_of_the_file_reaches_the_engine(settings: Settings, tmp_path: Path) -> None:
    async with Engine.from_settings(settings) as engine:
        assert (tmp_path / "turns.sqlite").exists()
        assert engine.settings.max_active_turns == 7
        listed = {model.id: model for model in engine.commands.models()}
        assert listed["mine/small"].default
        assert "quick" in {name.partition("/")[0] for name in listed}
        assert set(engine.commands.tools.tools) == {"calculator", "clock"}
        assert engine.commands.tools.limits.rounds == 3
        turn = await engine.send("hi", model="quick")
        assert (await turn.wait()).turn.status == "complete"


async def test_arguments_win_over_the_settings(settings: Settings, tmp_path: Path) -> None:
    def mine() -> str:
        """Return a word."""
        return "word"

    url = f"sqlite:///{tmp_path}/other.sqlite"
    async with Engine.from_settings(settings, store_url=url, tools=[mine]) as engine:
        assert (tmp_path / "other.sqlite").exists()
        assert not (tmp_path / "turns.sqlite").exists()
        assert set(engine.commands.tools.tools) == {"mine"}


@pytest.mark.parametrize("key", [None, "k3y"])
async def test_the_key_of_the_environment_is_required(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    if key is not None:
        monkeypatch.setenv("TURNSTREAM_API_KEY", key)
    async with serving(Engine.from_settings(settings).application()) as port:
        answer = await Client(port, {}).call("GET", "/chats")
        assert answer.status == (200 if key is None else 401)
        answer = await Client(port, {"Authorization": "Bearer k3y"}).call("GET", "/chats")
        assert answer.status == 200


async def test_a_hook_of_the_host_takes_the_place_of_the_key(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNSTREAM_API_KEY", "k3y")
    engine = Engine.from_settings(settings, authenticate=lambda _request: Principal("ada"))
    async with serving(engine.application()) as port:
        assert (await Client(port, {}).call("GET", "/chats")).status == 200


def test_a_key_that_no_header_carries_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTREAM_API_KEY", "schlüssel")
    with pytest.raises(ConfigurationError, match="TURNSTREAM_API_KEY"):
        Engine.from_settings(settings)
