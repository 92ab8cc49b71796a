"""`turnstream keys`: stores the keys of providers for the user."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace

from turnstream.cli.command import Command, add_config
from turnstream.errors import ConfigurationError, NotFound

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_SHOWN = 4


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=["set", "list", "remove"],
        help="set: store a key, which is typed or comes from standard input; list: the stored keys, masked; "
        "remove: delete a key",
    )
    parser.add_argument(
        "name", nargs="?", help="the provider, or the variable that holds its key: openai, OPENAI_API_KEY"
    )
    add_config(parser)


def run(arguments: Namespace) -> int:
    from turnstream.stored_keys import keys_file, store_keys, stored_keys

    keys = stored_keys()
    if arguments.action == "list":
        _list(keys)
        return 0
    if arguments.name is None:
        raise ConfigurationError(f"the provider is missing: turnstream keys {arguments.action} NAME")
    variable = _variable_of(arguments)
    if arguments.action == "remove":
        if keys.pop(variable, None) is None:
            raise NotFound(f"no key is stored for {variable}: there are {', '.join(keys) or 'none'}")
    else:
        keys[variable] = _typed_key(variable)
    try:
        store_keys(keys)
    except OSError as error:
        raise ConfigurationError(f"{keys_file()} cannot be written ({error.strerror})") from error
    return 0


def _list(keys: dict[str, str]) -> None:
    import os

    for variable, key in keys.items():
        hidden = f"…{key[-_SHOWN:]}" if len(key) > 4 * _SHOWN else "…"
        note = ", but the environment has another" if os.environ.get(variable, "").strip() else ""
        print(f"{variable}  {hidden}{note}")


def _variable_of(arguments: Namespace) -> str:
    """Return the variable that holds a provider's key. Raises ConfigurationError for an unknown provider."""
    from turnstream.cli.models import key_variable
    from turnstream.config import load_settings
    from turnstream.providers.catalog import BUILT_IN

    name: str = arguments.name
    if _VARIABLE.fullmatch(name):
        return name
    settings = load_settings(arguments.config)
    known = [*settings.providers, *(provider for provider in BUILT_IN if provider not in settings.providers)]
    variable = key_variable(settings, name) if name in known else ""
    if not _VARIABLE.fullmatch(variable):
        raise ConfigurationError(f"{name!r} is not a provider with a key: use one of {', '.join(known)}")
    return variable


def _typed_key(variable: str) -> str:
    """Return the key from standard input. A terminal does not show it."""
    from turnstream.access import check_key

    if sys.stdin.isatty():
        from getpass import getpass

        key = getpass(f"{variable}: ").strip()
    else:
        key = sys.stdin.readline().strip()
    if not key:
        raise ConfigurationError("the key is empty: give it on standard input")
    check_key(key, variable)
    return key


COMMAND = Command(
    "keys",
    "store the keys of providers, for this user only",
    "turnstream keys set anthropic\nturnstream keys set OPENAI_API_KEY\nturnstream keys list\n"
    "turnstream keys remove anthropic",
    add_arguments,
    run,
)
