"""Python functions that the settings name."""

from __future__ import annotations

import importlib
from typing import Any

from turnstream.errors import ConfigurationError


def load_function(name: str, kind: str) -> Any:
    """Return the function that is named `package.module:function`. Raises ConfigurationError.

    Args:
        kind: Words for the function in errors, such as `the tool`.
    """
    module_name, separator, path = name.partition(":")
    if not (module_name and separator and path):
        raise ConfigurationError(f"{kind} {name} cannot be found: write package.module:function")
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(
            f"the module of {kind} {name} cannot be imported ({error}): add its folder to PYTHONPATH"
        ) from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigurationError(
            f"{kind} {name} cannot be found: {module_name} has no function {path}: correct it"
        )
    return found
