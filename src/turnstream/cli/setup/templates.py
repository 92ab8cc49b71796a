"""`turnstream templates`: lists, shows and edits the templates of questions."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from turnstream.cli.command import Command
from turnstream.errors import ConfigurationError


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=["list", "show", "edit", "path"],
        help="list: the names; show: print a template; edit: open it in $VISUAL or $EDITOR; path: print its "
        "file, or the folder",
    )
    parser.add_argument("name", nargs="?", help="the template")


def run(arguments: Namespace) -> int:
    from turnstream.cli.question import templates

    if arguments.action == "list":
        for name in templates.names():
            print(name)
        return 0
    if arguments.action == "path" and arguments.name is None:
        print(templates.templates_folder())
        return 0
    if arguments.name is None:
        raise ConfigurationError(f"the name is missing: turnstream templates {arguments.action} NAME")
    file = templates.file_of(arguments.name)
    if arguments.action == "path":
        print(file)
    elif arguments.action == "edit":
        return _edit(arguments.name)
    else:
        templates.read(arguments.name)  # raises if it is missing or not valid
        sys.stdout.write(file.read_text(encoding="utf-8"))
    return 0


def _edit(name: str) -> int:
    """Open a template in the user's editor, and check it after that."""
    import os
    import shlex
    import subprocess

    from turnstream.cli.question import templates
    from turnstream.user_folders import write_private

    editor = shlex.split(os.environ.get("VISUAL", "") or os.environ.get("EDITOR", ""))
    file = templates.file_of(name)
    if not editor:
        raise ConfigurationError(f"set EDITOR to your editor, or write {file} yourself")
    if not file.exists():
        write_private(file, templates.EXAMPLE.encode())
    try:
        code = subprocess.run([*editor, str(file)], check=False).returncode  # noqa: S603 - the user's editor
    except OSError as error:
        raise ConfigurationError(f"{editor[0]} cannot be run ({error.strerror}): correct EDITOR") from error
    templates.read(name)
    return code


COMMAND = Command(
    "templates",
    "list, show and edit the templates of questions",
    "turnstream templates edit summary\nturnstream templates list\nturnstream templates show summary",
    add_arguments,
    run,
)
