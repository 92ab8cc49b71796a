"""Options of commands that read chats: the server or the database."""

from __future__ import annotations

from argparse import ArgumentParser

from turnstream.cli.command import add_config, add_database, add_server


def add_place(parser: ArgumentParser) -> None:
    """Add the options that choose a server or a database."""
    add_server(parser, "URL of the server to read; without it, the user's own database")
    add_database(parser, "without --url: the database to read (default: that of `turnstream ask`)")
    add_config(parser)
