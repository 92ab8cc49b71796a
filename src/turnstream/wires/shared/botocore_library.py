"""Imports botocore on first use. Only Amazon Bedrock needs it. The extra `bedrock` installs it."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from turnstream.errors import ConfigurationError


def botocore_module(name: str) -> ModuleType:
    """Return a module of botocore, such as `botocore.auth`. Raises ConfigurationError if botocore is not
    installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "botocore":
            raise
        raise _missing() from None


def require_botocore() -> None:
    """Raise ConfigurationError if botocore is not installed. Does not import it."""
    if not is_installed():
        raise _missing()


def is_installed() -> bool:
    """Return True if botocore is installed. Does not import it."""
    return find_spec("botocore") is not None


def _missing() -> ConfigurationError:
    return ConfigurationError(
        "Amazon Bedrock needs botocore, which is not installed: pip install 'turnstream[bedrock]'"
    )
