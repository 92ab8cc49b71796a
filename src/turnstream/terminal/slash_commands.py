"""The commands that begin with `/`. It does no I/O: a line in, a command and its argument out."""

from __future__ import annotations

from typing import NamedTuple


class SlashCommand(NamedTuple):
    """A command of the prompt. `argument`: its form, or empty if it has none."""

    name: str
    argument: str
    summary: str


COMMANDS = (
    SlashCommand("model", "[PROVIDER/MODEL]", "choose the model of the next answers"),
    SlashCommand("system", "[TEXT]", "set the system prompt; without text, the server's"),
    SlashCommand("params", "[NAME=VALUE …]", "set params of the model, such as temperature=0.2"),
    SlashCommand("attach", "FILE|URL", "send a file with the next question"),
    SlashCommand("tools", "[NAME …|none|all]", "choose the tools that the model may call"),
    SlashCommand("retry", "", "ask for another answer"),
    SlashCommand("export", "FILE", "write the shown branch to a file, as Markdown"),
    SlashCommand("new", "", "begin a new chat"),
    SlashCommand("chats", "", "open another chat"),
    SlashCommand("help", "", "show the keys and the commands"),
    SlashCommand("quit", "", "close the window; a running answer continues"),
)


class GivenCommand(NamedTuple):
    """A command as it was typed. `name`: empty if no command has this name."""

    name: str
    argument: str


def parse(line: str) -> GivenCommand | None:
    """Return the command of a line, or None if the line is a question.

    A line with `//` at its beginning, or with a path such as `/etc/hosts`, is a question.
    """
    if not line.startswith("/") or line.startswith("//"):
        return None
    word, _, argument = line[1:].partition(" ")
    if not word.isalpha():
        return None
    known = {command.name for command in COMMANDS}
    return GivenCommand(word if word in known else "", argument.strip())


def completions(line: str, choices: dict[str, list[str]]) -> list[str]:
    """Return the lines that `line` may become: names of commands, then the arguments of one.

    Args:
        line: The text of the prompt.
        choices: Arguments by the name of their command.
    """
    if not line.startswith("/") or "\n" in line:
        return []
    word, space, argument = line[1:].partition(" ")
    if not space:
        return [f"/{command.name}" for command in COMMANDS if command.name.startswith(word)]
    *before, last = argument.split(" ") or [""]
    start = " ".join([f"/{word}", *before])
    return [f"{start} {choice}" for choice in choices.get(word, ()) if choice.startswith(last)][:50]


def parsed_params(argument: str) -> dict[str, object]:
    """Return the params of `name=value` pairs. A value is JSON, or else text. Raises ValueError."""
    import json  # noqa: PLC0415 - rarely used

    params: dict[str, object] = {}
    for pair in argument.split():
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise ValueError(f"{pair!r} is not NAME=VALUE")
        try:
            params[name] = json.loads(value)
        except ValueError:
            params[name] = value
    return params
