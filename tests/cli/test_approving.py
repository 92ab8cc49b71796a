"""`turnstream ask` and tools that ask first: a question at a terminal, a denial in a pipe."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.cli.programs import Program

SECONDS = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tool that asks first by the settings, and notes its runs."""
    (tmp_path / "files.py").write_text(
        "def delete(path: str) -> str:\n"
        '    """Delete a file."""\n'
        '    open("notes", "a").write(path + "\\n")\n'
        '    return path + " is gone"\n'
    )
    (tmp_path / "turnstream.toml").write_text(
        '[tools]\nfunctions = ["files:delete"]\nask = { delete = "always" }\n'
    )
    return tmp_path


def program(folder: Path) -> Program:
    return Program("ask", "go", "-m", "sim/tools:pace=0", cwd=folder, environ={"PYTHONPATH": str(folder)})


@pytest.mark.requirement("G7")
async def test_in_a_pipe_every_call_is_denied(folder: Path):
    async with program(folder) as running:
        ended = await running.ended()
    assert ended.code == 0
    assert ended.errors.count("denied, there was no terminal for the question") == 2
    assert not (folder / "notes").exists()


@pytest.mark.requirement("G7")
async def test_at_a_terminal_only_yes_approves(folder: Path):
    ours, terminal = os.openpty()
    asked = program(folder)
    try:
        process = await asyncio.create_subprocess_exec(
            *asked.arguments, cwd=folder, env=asked.environ, stdin=terminal, stdout=terminal, stderr=terminal
        )
        os.close(terminal)
        shown = await asyncio.wait_for(asyncio.to_thread(_converse, ours, ["y\n", "\n"]), SECONDS)
        assert await process.wait() == 0
    finally:
        os.close(ours)
    assert "Run delete? [y/N]" in shown
    assert "denied at the terminal" in shown
    assert (folder / "notes").read_text() == "example 1\n"


def _converse(descriptor: int, lines: list[str]) -> str:
    """Type the lines, each after a prompt. Return all that the program shows."""
    shown, seen = "", 0
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # what Linux says when the other side is closed
            return shown
        shown += piece.decode("utf-8", "replace")
        if lines and shown.count("[y/N]") > seen:
            seen += 1
            os.write(descriptor, lines.pop(0).encode())
