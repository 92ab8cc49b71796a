"""Errors that say what to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.programs import run

NOTHING_LISTENS = "http://127.0.0.1:9"
pytestmark = pytest.mark.requirement("R1")


async def test_a_command_that_is_nearly_one_is_asked_about(tmp_path: Path) -> None:
    ended = await run("serv", cwd=tmp_path)
    assert ended.code == 2
    assert "there is no command 'serv'; did you mean serve?" in ended.errors


@pytest.mark.parametrize("command", [("models",), ("ask", "-m", "sim/echo", "hi")])
async def test_a_variable_with_one_underscore_is_reported_once(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    environ = {
        "TURNSTREAM_SERVER_PORT": "1",
        "TURNSTREAM_ENGINE_PORT": "1",
        "TURNSTREAM_SERVER_HOST": "tcp://10.0.0.1:80",
        "TURNSTREAM_PORT_80_TCP": "tcp://10.0.0.1:80",
    }
    ended = await run(*command, cwd=tmp_path, environ=environ)
    assert ended.code == 0
    assert ended.errors.count("did you mean") == 1
    assert (
        "TURNSTREAM_SERVER_PORT is ignored, because it does not name a setting: "
        "did you mean TURNSTREAM_SERVER__PORT?" in ended.errors
    )


async def test_a_default_model_without_a_provider_is_explained(tmp_path: Path) -> None:
    ended = await run("models", cwd=tmp_path, environ={"TURNSTREAM_ENGINE__DEFAULT_MODEL": "claude"})
    assert ended.code == 2
    assert "engine.default_model: write provider/model, such as" in ended.errors


@pytest.mark.parametrize(
    ("model", "reclassified"), [("simm/demo", "sim/demo"), ("opnai/gpt-6", "openai/gpt-6")]
)
async def test_a_provider_that_is_nearly_one_is_asked_about(
    tmp_path: Path, model: str, reclassified: str
) -> None:
    ended = await run("ask", "-m", model, "hi", cwd=tmp_path)
    assert ended.code != 0
    assert f"did you mean {reclassified}?" in ended.errors


async def test_an_ollama_that_cannot_be_reached_is_asked_about(tmp_path: Path) -> None:
    ended = await run("ask", "-m", "ollama/x", "hi", cwd=tmp_path, environ={"OLLAMA_HOST": NOTHING_LISTENS})
    assert ended.code != 0
    assert NOTHING_LISTENS in ended.errors
    assert "is Ollama running?" in ended.errors


async def test_a_server_that_cannot_be_reached_is_asked_about(tmp_path: Path) -> None:
    ended = await run("ask", "--url", NOTHING_LISTENS, "hi", cwd=tmp_path)
    assert ended.code != 0
    assert NOTHING_LISTENS in ended.errors
    assert "does `turnstream serve` run there?" in ended.errors
