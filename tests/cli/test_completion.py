"""`turnstream completion`: the scripts know all commands and options, and the shells complete with them."""

from __future__ import annotations

import asyncio
import re
import shutil
from argparse import ArgumentParser
from pathlib import Path

import pytest

from scripts.commands_page import PAGE, page
from tests.cli.programs import run
from tests.cli.terminals import on_terminal
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


TYPED = {"as": "ask", "ask --sch": "ask --schema", "keys r": "keys remove", "ask -a pho": "ask -a photo.png"}
"""Words before the key Tab, and after it."""
INTERACTIVE = {"bash": ("bash", "--norc", "--noprofile", "-i"), "zsh": ("zsh", "-f", "-i")}
"""Shells at a terminal, without the files of their user."""
BEGINNING = {
    "bash": "PROMPT_COMMAND='PS1=\"at$((prompts++))> \"'",
    "zsh": 'autoload -Uz compinit && compinit -u -D; precmd() { PS1="at$((prompts++))> " }',
}
"""Lines before the script of completions. They number the prompts."""


async def completed_by_tab(shell: str, cwd: Path) -> list[str]:
    """Return what a shell at a terminal runs after the key Tab."""
    program = "turnstream() { printf 'ran:%s:\\n' \"$*\"; }"
    script = (cwd / "script").read_text()
    (cwd / "setup").write_text(f"{BEGINNING[shell]}\n{script}\n{program}\n")
    keys = [f"turnstream {words}\t\r".encode() for words in TYPED] + [b"exit\r"]
    shown = await on_terminal(
        cwd=cwd,
        command=INTERACTIVE[shell],
        environ={"PS1": "begin> ", "HISTFILE": ""},
        typed_after={"begin> ": b". ./setup\r"} | {f"at{n}> ": each for n, each in enumerate(keys)},
    )
    return [words.strip() for words in re.findall(r"[\r\n]ran:(.*?):", shown.text)]


async def completed_by_fish(cwd: Path) -> list[str]:
    """Return the completions that fish has for a line."""
    lines = "\n".join(f"complete -C 'turnstream {words}'" for words in TYPED)
    process = await asyncio.create_subprocess_exec(
        "fish", "--no-config", "-c", f"source ./script\n{lines}", cwd=cwd, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    found = [line.split("\t")[0] for line in output.decode().splitlines()]
    return [" ".join([*words.split()[:-1], last]) for words, last in zip(TYPED, found, strict=True)]


@pytest.mark.parametrize("shell", [name for name in ("bash", "zsh", "fish") if shutil.which(name)])
async def test_the_shell_itself_completes(shell: str, tmp_path: Path) -> None:
    """A machine may lack zsh and fish: the automatic run installs them."""
    (tmp_path / "photo.png").touch()
    (tmp_path / "script").write_text((await run("completion", shell, cwd=tmp_path)).output)
    found = await (completed_by_fish(tmp_path) if shell == "fish" else completed_by_tab(shell, tmp_path))
    assert found == list(TYPED.values())


def test_the_reference_has_each_command_and_option() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python scripts/commands_page.py"
