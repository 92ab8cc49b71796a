"""`turnstream db`: upgrades the database manually."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from turnstream.cli.command import Command, add_config, add_database


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=["upgrade"], help="upgrade: change the database to the newest schema"
    )
    add_database(parser, "the database (default: from the settings, else ./turnstream.sqlite)")
    add_config(parser)


def run(arguments: Namespace) -> int:
    from turnstream.config import load_settings
    from turnstream.store.migrations import database_revision, upgrade_database
    from turnstream.store.urls import database_of

    url = load_settings(arguments.config, flags={"store.url": arguments.database_url}).store.url
    path = database_of(url).name
    before = database_revision(url)
    after = upgrade_database(url)
    if before == after:
        print(f"{path} is at revision {after}, the newest: nothing to do")
    elif before is None:
        print(f"{path} made, at revision {after}")
    else:
        print(f"{path} upgraded from revision {before} to {after}")
    return 0


COMMAND = Command(
    "db",
    "upgrade the database by hand (serve does it by itself)",
    """\
turnstream db upgrade
turnstream db upgrade --database-url sqlite:////var/lib/turnstream/turns.sqlite
turnstream db upgrade --database-url postgresql://user@localhost/turnstream""",
    add_arguments,
    run,
)
