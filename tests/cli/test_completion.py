"""`turnstream completion`: the scripts know all commands and options, and bash runs its script."""

from __future__ import annotations

import asyncio
import shutil
from argparse import ArgumentParser
from pathlib import Path

import pytest

from scripts.commands_page import PAGE, page
from tests.cli.programs import run
from turnstream.cli.main import COMMANDS

pytestmark = pytest.mark.requirement("L10")


def options_of(command_name: str) -> set[str]:
    (command,) = (command for command in COMMANDS if command.name == command_name)
    parser = ArgumentParser(add_help=False)
    command.add_arguments(parser)
    return {name for action in parser._actions for name in action.option_strings}


async def completed(words: str, script: str, cwd: Path) -> list[str]:
    """Return the completions that bash finds for the last of `words`."""
    lines = f'''{script}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _turnstream; printf '%s\\n' "${{COMPREPLY[@]}}"'''
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", lines, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert errors == b""
    return output.decode().split()


async def test_bash_completes_commands_options_and_words(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    script = (await run("completion", "bash", cwd=tmp_path)).output
    assert await completed("turnstream as", script, tmp_path) == ["ask"]
    assert await completed("turnstream ask --sch", script, tmp_path) == ["--schema"]
    assert await completed("turnstream keys r", script, tmp_path) == ["remove"]
    assert await completed("turnstream ask -a pho", script, tmp_path) == ["photo.png"]
    for command in COMMANDS:
        found = await completed(f"turnstream {command.name} --", script, tmp_path)
        assert set(found) >= {name for name in options_of(command.name) if name.startswith("--")}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
async def test_other_shells_know_all_commands_and_options(shell: str, tmp_path: Path) -> None:
    script = (await run("completion", shell, cwd=tmp_path)).output
    for command in COMMANDS:
        assert command.name in script
        for name in options_of(command.name):
            assert (name if shell == "zsh" else name.lstrip("-")) in script
    if (program := shutil.which(shell)) is not None:
        (tmp_path / "script").write_text(script)
        process = await asyncio.create_subprocess_exec(program, "-n", str(tmp_path / "script"))
        assert await asyncio.wait_for(process.wait(), 30) == 0


def test_the_reference_has_each_command_and_option() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python scripts/commands_page.py"
