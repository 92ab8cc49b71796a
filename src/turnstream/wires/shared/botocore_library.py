"""botocore, which only Amazon Bedrock needs: the extra `bedrock` brings it, and nothing imports it before its first use."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from turnstream.errors import ConfigurationError


def botocore_module(name: str) -> ModuleType:
    """The module `name` of botocore, such as `botocore.auth`. Raises ConfigurationError where botocore is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "botocore":
            raise
        raise _missing() from None


def require_botocore() -> None:
    """Raises ConfigurationError where botocore is missing. Imports nothing."""
    if not is_installed():
        raise _missing()


def is_installed() -> bool:
    """Return True if botocore could be imported. Import nothing."""
    return find_spec("botocore") is not None


def _missing() -> ConfigurationError:
    return ConfigurationError(
        "Amazon Bedrock needs botocore, which is not installed: pip install 'turnstream[bedrock]'"
    )
