"""Options of commands that read chats: the server or the database."""

from __future__ import annotations

from argparse import ArgumentParser

from turnstream.cli.command import add_config, add_database


def add_place(parser: ArgumentParser) -> None:
    """Add the options that choose a server or a database."""
    parser.add_argument("--url", help="URL of the server to read; without it, the user's own database")
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        default="TURNSTREAM_API_KEY",
        help="the environment variable with the server's key (default: %(default)s)",
    )
    add_database(parser, "without --url: the database to read (default: that of `turnstream ask`)")
    add_config(parser)
