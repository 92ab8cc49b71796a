"""The command line as a whole, and the small commands."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.cli.programs import Program, listening, run
from turnstream.cli.main import COMMANDS, build_parser
from turnstream.store.migrations import NEWEST

KEYS = {"OPENAI_API_KEY": "sk-test-0123456789"}


def test_every_example_of_the_help_is_understood():
    """Return each example line, parsed like a shell."""
    parser = build_parser()
    for command in COMMANDS:
        for line in command.examples.strip().splitlines():
            words = shlex.split(line.split("|")[-1].split(">")[0])
            arguments = words[words.index("turnstream") + 1 :]
            assert parser.parse_args(arguments).run is command.run, line


async def test_without_a_command_the_help_is_shown(tmp_path: Path):
    ended = await run(cwd=tmp_path)
    assert ended.code == 2
    assert all(re.search(rf"\n    {command.name}\s", ended.output) for command in COMMANDS)
    assert (await run("--version", cwd=tmp_path)).output.startswith("turnstream 0.")


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
async def test_each_command_explains_itself(command: str, tmp_path: Path):
    ended = await run(command, "--help", cwd=tmp_path)
    assert ended.code == 0
    assert "examples:\n  " in ended.output
    assert "--debug" in ended.output


async def test_an_error_is_one_line_and_with_debug_its_traceback(tmp_path: Path):
    (tmp_path / "turnstream.toml").write_text("[server]\nprot = 1\n")
    ended = await run("models", cwd=tmp_path)
    assert ended.code == 2
    assert (
        ended.errors
        == "turnstream: turnstream.toml: server.prot: there is no such setting; did you mean port?\n"
    )
    assert "Traceback" in (await run("models", "--debug", cwd=tmp_path)).errors


async def test_models_are_listed_with_what_they_need(tmp_path: Path):
    (tmp_path / "turnstream.toml").write_text(
        '[providers.local]\nwire = "openai-chat"\nbase_url = "http://127.0.0.1:1/v1"\nmodels = ["small", "large"]\n'
        '[providers.far]\nwire = "anthropic"\nbase_url = "https://far.example"\napi_key_env = "FAR_KEY"\nmodels = ["m"]\n'
    )
    ended = await run("models", cwd=tmp_path, environ=KEYS)
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in ended.output.splitlines()}
    assert ended.code == 0
    assert lines["local/small"] == "openai-chat default"
    assert lines["local/large"] == "openai-chat ready"
    assert lines["far/m"] == "anthropic needs FAR_KEY"
    assert lines["sim/demo"] == "anthropic ready, simulated"
    assert any(name.startswith("openai/") and note.endswith("ready") for name, note in lines.items())
    assert any(note == "anthropic needs ANTHROPIC_API_KEY" for note in lines.values())
    assert KEYS["OPENAI_API_KEY"] not in ended.output


async def test_the_source_of_each_address_is_listed(tmp_path: Path):
    environ = {**KEYS, "OPENAI_BASE_URL": "https://gate.example/v1"}
    (tmp_path / "turnstream.toml").write_text(
        '[providers.near]\nwire = "openai-chat"\nbase_url = "http://127.0.0.1:1/v1"\n'
    )
    lines = (await run("models", cwd=tmp_path, environ=environ)).output.splitlines()
    assert lines[0].split() == ["MODEL", "WIRE", "STATE"]
    found = {line.split()[0]: line.split()[1:] for line in lines}
    assert found["PROVIDER"] == ["ADDRESS", "FROM", "KEY"]
    assert found["openai"] == ["https://gate.example/v1", "OPENAI_BASE_URL", "OPENAI_API_KEY,", "set"]
    assert found["near"] == ["http://127.0.0.1:1/v1", "settings", "none"]
    assert found["anthropic"][1:] == ["built", "in", "ANTHROPIC_API_KEY,", "not", "set"]


async def test_models_are_listed_for_programs(tmp_path: Path):
    ended = await run("models", "--json", cwd=tmp_path, environ=KEYS)
    listed = json.loads(ended.output)
    assert [model["id"] for model in listed["models"] if model["default"]] == ["openai/gpt-6.1-sol"]
    needs = {model["id"]: model["needs"] for model in listed["models"]}
    assert needs["sim/demo"] is None
    assert "ANTHROPIC_API_KEY" in needs["anthropic/claude-sonnet-5-5"]
    (openai,) = (provider for provider in listed["providers"] if provider["name"] == "openai")
    assert (openai["url_from"], openai["key_is_set"]) == ("built in", True)
    assert KEYS["OPENAI_API_KEY"] not in ended.output


async def test_names_of_models_and_providers_without_a_list_are_listed_too(tmp_path: Path):
    (tmp_path / "turnstream.toml").write_text(
        '[models.fast]\nmodel = "near/small"\n[models."near/small"]\nfallbacks = []\n'
        '[providers.near]\nwire = "openai-chat"\nbase_url = "http://127.0.0.1:1/v1"\n'
        '[providers.far]\nwire = "gemini"\nbase_url = "https://far.example"\napi_key_env = "FAR_KEY"\n'
    )
    ended = await run("models", cwd=tmp_path)
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in ended.output.splitlines()}
    assert lines["fast"] == "openai-chat alias of near/small"
    assert lines["near/…"] == "openai-chat ready: any model, by its name"
    assert lines["far/…"] == "gemini needs FAR_KEY"
    assert "near/small" not in lines


async def test_the_database_is_made_and_then_found_up_to_date(tmp_path: Path):
    url = "sqlite:///deep/turns.sqlite"
    made = await run("db", "upgrade", "--database-url", url, cwd=tmp_path)
    assert (made.code, made.output) == (0, f"{tmp_path}/deep/turns.sqlite made, at revision {NEWEST}\n")
    again = await run("db", "upgrade", "--database-url", url, cwd=tmp_path)
    assert (
        again.output == f"{tmp_path}/deep/turns.sqlite is at revision {NEWEST}, the newest: nothing to do\n"
    )


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "turnstream.sqlite").write_bytes(b"this is text, and long enough to be looked at " * 20)
    ended = await run("db", "upgrade", cwd=tmp_path)
    assert ended.code == 1
    assert "cannot be used as a database" in ended.errors
    assert "Traceback" not in ended.errors


async def test_the_simulator_answers_until_it_is_stopped(tmp_path: Path):
    async with Program("simulate", "--port", "0", "--verbose", cwd=tmp_path) as program:
        url = await listening(program)
        body = {"model": "echo:pace=0", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/v1/chat/completions", json=body) as response,
        ):
            assert response.status == 200
            assert "Hello" in await response.text()
        await program.until("POST /v1/chat/completions model=echo:pace=0")
        program.signal(signal.SIGINT)
        ended = await program.ended()
    assert (ended.code, ended.errors) == (0, "")
    assert f'base_url = "{url}"' in ended.output


async def test_a_taken_port_is_named(tmp_path: Path):
    async with Program("simulate", "--port", "0", cwd=tmp_path) as program:
        port = (await listening(program)).rpartition(":")[2]
        for command in ("simulate", "serve"):
            ended = await run(command, "--port", port, cwd=tmp_path)
            assert ended.code == 2
            assert f"cannot listen on 127.0.0.1:{port}" in ended.errors
            assert len(ended.errors.splitlines()) == 1
