"""`turnstream completion`: prints the completion of the command line for a shell."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import NamedTuple

from turnstream.cli.command import Command


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="the shell")


class _CompletedOption(NamedTuple):
    """An option: its spellings, its help, and the words that may follow. None: it takes no value."""

    names: tuple[str, ...]
    help: str
    values: tuple[str, ...] | None


class _CompletedCommand(NamedTuple):
    name: str
    help: str
    options: list[_CompletedOption]
    words: tuple[str, ...]
    """Words that may be arguments. Without any, arguments are files."""


def run(arguments: Namespace) -> int:
    commands = [_completed(command) for command in arguments.commands]
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell](commands))
    return 0


def _completed(command: Command) -> _CompletedCommand:
    parser = ArgumentParser()
    command.add_arguments(parser)
    options, words = _arguments(parser)
    return _CompletedCommand(command.name, command.summary, options, words)


def _arguments(parser: ArgumentParser) -> tuple[list[_CompletedOption], tuple[str, ...]]:
    options: list[_CompletedOption] = []
    words: list[str] = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list what it knows
        choices = tuple(str(choice) for choice in action.choices or ())
        if action.option_strings:
            values = None if action.nargs == 0 else choices
            help_text = (action.help or "").replace("%(default)s", str(action.default))
            options.append(_CompletedOption(tuple(action.option_strings), help_text, values))
        else:
            words += choices
    return options, tuple(words)


def _bash(commands: list[_CompletedCommand]) -> str:
    cases: list[str] = []
    for command in commands:
        valued = [
            f"      {'|'.join(option.names)})\n"
            f'        COMPREPLY=($(compgen -W "{" ".join(option.values)}" -- "$word")); return;;'
            for option in command.options
            if option.values
        ]
        named = " ".join(name for option in command.options for name in option.names)
        cases.append(
            "\n".join(
                [
                    f"    {command.name})",
                    *(['      case "$before" in', *valued, "      esac"] if valued else []),
                    f'      words="{" ".join(command.words)}"; options="{named}";;',
                ]
            )
        )
    names = " ".join(command.name for command in commands)
    return "\n".join(
        [
            '# Completion of turnstream: eval "$(turnstream completion bash)"',
            "_turnstream() {",
            '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            '  local words="" options=""',
            "  COMPREPLY=()",
            "  if ((COMP_CWORD == 1)); then",
            f'    COMPREPLY=($(compgen -W "{names} --help --version" -- "$word")); return',
            "  fi",
            '  case "${COMP_WORDS[1]}" in',
            *cases,
            "  esac",
            '  if [[ "$word" == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$word"))',
            '  elif [[ -n "$words" ]]; then COMPREPLY=($(compgen -W "$words" -- "$word"))',
            '  else COMPREPLY=($(compgen -f -- "$word")); fi',
            "}",
            "complete -o filenames -F _turnstream turnstream",
        ]
    )


def _zsh(commands: list[_CompletedCommand]) -> str:
    cases: list[str] = []
    for command in commands:
        specs = [_zsh_option(option, name) for option in command.options for name in option.names]
        argument = f"*:argument:({' '.join(command.words)})" if command.words else "*:file:_files"
        lines = " \\\n        ".join([*specs, _quoted(argument)])
        cases.append(f"    {command.name}) _arguments \\\n        {lines};;")
    described = " ".join(_quoted(f"{command.name}:{command.help}") for command in commands)
    return "\n".join(
        [
            "#compdef turnstream",
            '# Completion of turnstream: eval "$(turnstream completion zsh)", after compinit',
            "_turnstream() {",
            "  local -a commands",
            f"  commands=({described})",
            "  if ((CURRENT == 2)); then _describe command commands; return; fi",
            "  local name=${words[2]}",
            "  shift words; ((CURRENT--))",
            "  case $name in",
            *cases,
            "  esac",
            "}",
            "compdef _turnstream turnstream",
        ]
    )


def _zsh_option(option: _CompletedOption, name: str) -> str:
    text = option.help.replace("[", "(").replace("]", ")").replace(":", ",")
    value = ""
    if option.values is not None:
        value = f":value:({' '.join(option.values)})" if option.values else ":value:_files"
    return _quoted(f"*{name}[{text}]{value}")


def _fish(commands: list[_CompletedCommand]) -> str:
    lines = ["# Completion of turnstream: turnstream completion fish | source"]
    lines += [
        f"complete -c turnstream -n __fish_use_subcommand -f -a {command.name} -d {_quoted(command.help)}"
        for command in commands
    ]
    for command in commands:
        begin = f"complete -c turnstream -n '__fish_seen_subcommand_from {command.name}'"
        if command.words:
            lines.append(f"{begin} -f -a {_quoted(' '.join(command.words))}")
        for option in command.options:
            spelt = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
            )
            value = ""
            if option.values is not None:
                value = f" -x -a {_quoted(' '.join(option.values))}" if option.values else " -r"
            lines.append(f"{begin} {spelt}{value} -d {_quoted(option.help)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Return text in single quotes, as bash, zsh and fish read it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "'\\''") + "'"


COMMAND = Command(
    "completion",
    "print the completion of this command for a shell",
    "turnstream completion bash\nturnstream completion zsh > ~/.zfunc/_turnstream\n"
    "turnstream completion fish > ~/.config/fish/completions/turnstream.fish",
    add_arguments,
    run,
)
