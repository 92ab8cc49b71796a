"""The command `turnstream`: runs a subcommand and reports its failure in one line."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent
from typing import NoReturn

from turnstream.cli import ask, audit, chat, database, decode, models, record, serve, simulate
from turnstream.cli.command import FAILED, SERVER_KEY, Command
from turnstream.cli.history import logs, stats
from turnstream.cli.setup import completion, keys, templates
from turnstream.cli.terminal import OutputFailed
from turnstream.errors import ConfigurationError, TurnstreamError
from turnstream.terminal.printable import printable

COMMANDS: tuple[Command, ...] = (
    serve.COMMAND,
    ask.COMMAND,
    chat.COMMAND,
    logs.COMMAND,
    stats.COMMAND,
    templates.COMMAND,
    keys.COMMAND,
    models.COMMAND,
    decode.COMMAND,
    record.COMMAND,
    simulate.COMMAND,
    database.COMMAND,
    audit.COMMAND,
    completion.COMMAND,
)

MISUSED = 2
INTERRUPTED = 130
"""Exit code of shells for SIGINT: 128 plus the signal's number."""
PIPE_CLOSED = 141
"""Exit code of shells for SIGPIPE."""
_STANDARD_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code.

    The code is 0 for success, 1 for a failure, 2 for wrong usage or settings, 130 for Ctrl-C, and 141 for a
    closed pipe. A subcommand may return other codes.
    """
    _open_closed_streams()
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    if parsed.version:
        return _show_version()
    if "run" not in parsed:
        parser.print_help()
        return MISUSED
    _tolerate_narrow_encodings()
    _report_misspelt_variables()
    try:
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except TurnstreamError as error:
        if parsed.debug:
            traceback.print_exc()
        return _report(error)
    except BrokenPipeError:
        _discard_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _report(error: TurnstreamError) -> int:
    """Write the message of an error, and return the exit code."""
    message = indent(error.message, "  ").lstrip()
    print(f"turnstream: {printable(message) if sys.stderr.isatty() else message}", file=sys.stderr)
    if isinstance(error, OutputFailed):
        _discard_output()
    return MISUSED if isinstance(error, ConfigurationError) else FAILED


def _discard_output() -> None:
    """Discard the rest of the output. Python flushes it at exit, and would report a second error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Open the null device in place of standard streams that the caller has closed.

    Otherwise a file or a socket would get the number of the closed stream.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end


class _Parser(argparse.ArgumentParser):
    """A parser that suggests the closest command if the given one does not exist."""

    def error(self, message: str) -> NoReturn:
        given = re.search(r"invalid choice: '([^']*)'", message)
        names = [command.name for command in COMMANDS]
        if given is not None and (close := difflib.get_close_matches(given[1], names, n=1)):
            message = f"there is no command {given[1]!r}; did you mean {close[0]}?"
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line. It imports no heavy modules."""
    parser = _Parser(
        prog="turnstream",
        description="Durable, resumable LLM streaming: start a turn, watch it from anywhere, lose nothing.",
        epilog="`turnstream COMMAND --help` shows a command's options, with examples.",
    )
    parser.add_argument("--version", action="store_true", help="show the version")
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.summary[:1].upper() + command.summary[1:] + ".",
            epilog="examples:\n" + indent(command.examples.strip(), "  "),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.add_argument(
            "--debug",
            action="store_true",
            help="show tracebacks, and the full texts of providers' errors",
        )
        subparser.set_defaults(run=command.run, commands=COMMANDS)
    return parser


def _show_version() -> int:
    from importlib.metadata import version

    print(f"turnstream {version('turnstream')}")
    return 0


def _report_misspelt_variables() -> None:
    # The settings are loaded for other names only: their import takes most of the time of a command's start.
    unknown = [name for name in os.environ if name.startswith("TURNSTREAM_") and "__" not in name]
    if set(unknown) - {SERVER_KEY, "TURNSTREAM_CONFIG"}:
        from turnstream.config import misspelt_variables

        for words in misspelt_variables(os.environ):
            print(f"turnstream: {words}", file=sys.stderr)


def _tolerate_narrow_encodings() -> None:
    """Replace characters that the terminal cannot show with `?`, and invalid bytes of input with U+FFFD."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
                errors="replace",
            )


if __name__ == "__main__":
    sys.exit(main())
