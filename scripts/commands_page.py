"""Writes docs/reference/commands.md: all commands and their options, as `--help` explains them.

Run `python scripts/commands_page.py` after a change of a command.
"""

from __future__ import annotations

from argparse import Action, ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from turnstream.cli.command import Command
from turnstream.cli.main import COMMANDS

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "commands.md"
_BEGINNING = """\
# Commands

`turnstream COMMAND --help` shows the same, with examples. Each command also takes `--debug`, which shows
tracebacks and the full texts of providers' errors. [Use it in scripts](../how-to/use-it-in-scripts.md)
explains `ask`.

## Exit codes

| code | meaning |
|---|---|
| 0 | Success. For `ask`: the answer is complete. |
| 1 | A failure: of the answer, of the server, of the output. The last line of standard error says why. |
| 2 | Wrong usage, a wrong setting, or a wrong file of the user. Nothing was done. |
| 128 + N | Signal N ended the command: 130 is Ctrl-C, 143 SIGTERM. `ask` has printed and stored what had arrived. |
| 141 | The reader of the output has closed its pipe. |

## Files of the user

Only the user can read these files. The folders follow the XDG base directories.

| file | content |
|---|---|
| `$XDG_DATA_HOME/turnstream/chats.sqlite` (`~/.local/share`) | Chats of `ask` without a server. |
| `$XDG_STATE_HOME/turnstream/last-asked.json` (`~/.local/state`) | The last turn at each server and database, for `ask -c`. |
| `$XDG_CONFIG_HOME/turnstream/keys.json` (`~/.config`) | Keys of providers, from `turnstream keys`. |
| `$XDG_CONFIG_HOME/turnstream/templates/NAME.toml` (`~/.config`) | Templates of `ask -t`. |
"""


def page() -> str:
    """Return the whole page."""
    return _BEGINNING + "".join(f"\n{section}" for section in map(_section, COMMANDS))


def _section(command: Command) -> str:
    parser = ArgumentParser(add_help=False)
    command.add_arguments(parser)
    rows = [f"| {_names(action)} | {_meaning(action)} |" for action in parser._actions]  # noqa: SLF001
    return "\n".join(
        [
            f"## {command.name}",
            "",
            _sentence(command.summary),
            "",
            "| argument | meaning |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _names(action: Action) -> str:
    return ", ".join(f"`{name}`" for name in _spellings(action)).replace("|", "\\|")


def _spellings(action: Action) -> Iterator[str]:
    choices = "|".join(str(choice) for choice in action.choices or ())
    if not action.option_strings:
        yield choices or str(action.metavar or action.dest).upper()
        return
    value = "" if action.nargs == 0 else f" {choices or action.metavar or action.dest.upper()}"
    *others, last = action.option_strings
    yield from others
    yield last + value


def _meaning(action: Action) -> str:
    return _sentence((action.help or "") % vars(action)).replace("|", "\\|")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
