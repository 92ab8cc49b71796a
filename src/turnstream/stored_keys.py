"""Keys of providers that `turnstream keys` stores, in a file that only the user can read.

A variable of the environment wins over the file.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from turnstream.errors import ConfigurationError
from turnstream.user_folders import config_folder, write_private

logger = logging.getLogger(__name__)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyVariables(Mapping[str, str]):
    """The variables of the environment, and the stored keys for those that are missing or empty."""

    def __init__(self, environ: Mapping[str, str], stored: Mapping[str, str]) -> None:
        self._environ = environ
        self._stored = stored

    def __getitem__(self, name: str) -> str:
        if name in self._stored and not self._environ.get(name, "").strip():
            return self._stored[name]
        return self._environ[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._environ
        yield from (name for name in self._stored if name not in self._environ)

    def __len__(self) -> int:
        return len({*self._environ, *self._stored})

    def is_stored(self, name: str) -> bool:
        """Return True if the value of a variable comes from the file."""
        return name in self._stored and not self._environ.get(name, "").strip()


def key_variables(environ: Mapping[str, str] | None = None) -> KeyVariables:
    """Return the variables that may hold keys.

    `environ`: the environment. None: that of the process, and the stored keys.
    """
    return KeyVariables(os.environ, stored_keys()) if environ is None else KeyVariables(environ, {})


def keys_file() -> Path:
    return config_folder() / "keys.json"


def stored_keys() -> dict[str, str]:
    """Return the stored keys by variable.

    Return no keys, and log a warning, if other users can read the file. Raises ConfigurationError if the file
    is not valid.
    """
    file = keys_file()
    try:
        with file.open("rb") as opened:
            if os.name == "posix" and os.fstat(opened.fileno()).st_mode & _OTHERS:
                logger.warning("%s is not used, because other users can read it: chmod 600 it", file)
                return {}
            keys: object = json.loads(opened.read())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file} is not valid JSON ({error}): correct it, or delete it") from None
    if not isinstance(keys, dict):
        raise ConfigurationError(f"{file} is not a JSON object: correct it, or delete it")
    found = cast("dict[str, object]", keys)
    return {name: value for name, value in found.items() if isinstance(value, str)}


def store_keys(keys: Mapping[str, str]) -> None:
    """Replace all stored keys. Raises OSError."""
    write_private(keys_file(), json.dumps(dict(sorted(keys.items())), indent=2).encode() + b"\n")
