"""The definition of a subcommand. Each module that implements one has a constant `COMMAND`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import NamedTuple

SERVER_KEY = "TURNSTREAM_API_KEY"
"""The environment variable with the key of a server, unless `--api-key-env` names another."""
FAILED = 1
"""Exit code of a failure."""
SIGNALLED = 128
"""Base of the exit code after a signal, as in shells. The signal's number is added."""


class Command(NamedTuple):
    """A subcommand.

    Args:
        name: The word on the command line.
        summary: One line for the help.
        examples: Command lines that are shown below the help.
        add_arguments: Adds the subcommand's arguments to its parser.
        run: Runs the subcommand and returns the exit code. Raises TurnstreamError if it fails.
    """

    name: str
    summary: str
    examples: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


def add_server(parser: ArgumentParser, what: str) -> None:
    """Add the options that name a server and its key. `what`: the help text of `--url`."""
    parser.add_argument("--url", help=what)
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        default=SERVER_KEY,
        help="the environment variable with the server's key (default: %(default)s)",
    )


def add_config(parser: ArgumentParser) -> None:
    """Add the option `--config`, for commands that read the settings."""
    parser.add_argument(
        "--config", metavar="FILE", help="the settings (default: TURNSTREAM_CONFIG, else ./turnstream.toml)"
    )


def add_database(parser: ArgumentParser, what: str) -> None:
    """Add the option `--database-url` with the help text `what`, which ends with the default."""
    place, default = what.rsplit(" (default: ", 1)
    forms = "sqlite:///PATH, or postgresql://USER@HOST/NAME"
    parser.add_argument("--database-url", metavar="URL", help=f"{place}: {forms} (default: {default}")
