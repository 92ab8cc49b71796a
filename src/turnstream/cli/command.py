"""What a subcommand is: each module of this package that is one has a `COMMAND` of this shape."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
    """`summary` is one line. `examples` are shown below the help, as they would be typed. `run` returns the exit
    code, and raises TurnstreamError."""

    name: str
    summary: str
    examples: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


def add_config(parser: ArgumentParser) -> None:
    """`--config`, for every command that reads the settings."""
    parser.add_argument(
        "--config", metavar="FILE", help="the settings (default: TURNSTREAM_CONFIG, else ./turnstream.toml)"
    )


def add_database(parser: ArgumentParser, what: str) -> None:
    """`--database-url`."""
    parser.add_argument("--database-url", metavar="sqlite:///PATH", help=what)
