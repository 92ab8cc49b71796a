"""The examples of the page on base URLs, run with the clients that they import."""

from __future__ import annotations

import asyncio
import os
import re
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from tests.cli.programs import Program, listening
from tests.clients.running import PROJECT, SECONDS, python_of
from tests.docs import pages

ENVIRONMENTS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "ollama": "ollama",
    "litellm": "litellm",
    "langchain_openai": "libraries",
}
"""Environment of each client, by the name of its package."""
EXAMPLES = pages.programs(pages.HOW_TO / "change-the-base-url.md")


def client_of(example: pages.Program) -> str:
    found = re.match(r"(?:from|import) (\w+)", example.source.text)
    assert found is not None
    return found[1]


def test_each_client_has_an_example() -> None:
    assert {client_of(example) for example in EXAMPLES} == set(ENVIRONMENTS)


@pytest.mark.requirement("N5", "N6", "N7", "F1")
@pytest.mark.parametrize("example", EXAMPLES, ids=client_of)
async def test_an_example_prints_what_is_shown(example: pages.Program, tmp_path: Path) -> None:
    serve = ("serve", "--database-url", f"sqlite:///{tmp_path / 'page.sqlite'}", "--port", "0")
    async with Program(*serve, cwd=tmp_path, environ={"PYTHONPATH": str(PROJECT)}) as server:
        found = re.search(r"http://[\d.]+:\d+", await listening(server))
        assert found is not None
        file = tmp_path / "program.py"
        file.write_text(example.source.text.replace("http://127.0.0.1:8089", found[0]))
        process = await asyncio.create_subprocess_exec(
            python_of(ENVIRONMENTS[client_of(example)]),
            file,
            stdout=PIPE,
            stderr=STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        )
        try:
            async with asyncio.timeout(SECONDS):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, output.decode()
    assert example.output is not None
    assert output.decode().endswith(example.output), output.decode()
