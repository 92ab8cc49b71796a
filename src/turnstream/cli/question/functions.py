"""Python functions of a file as tools, as `--functions FILE`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turnstream.errors import ConfigurationError

_NAME = "turnstream_functions"


def functions_of(name: str) -> list[Callable[..., Any]]:
    """Run a Python file, and return the public functions that it defines.

    Functions that the file imports are not tools, and neither are those whose names begin with an underscore.
    Raises ConfigurationError if the file cannot be run or defines no function.
    """
    file = Path(name)
    spec = importlib.util.spec_from_file_location(_NAME, file)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"--functions {name} is not a Python file: its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module  # annotations of its functions are resolved there
    try:
        spec.loader.exec_module(module)
    except OSError as error:
        raise ConfigurationError(
            f"--functions {name}: the file cannot be read ({error.strerror}): correct the path"
        ) from error
    except Exception as error:
        raise ConfigurationError(
            f"--functions {name} failed when it was run ({type(error).__name__}: {error}): correct the file"
        ) from error
    found = [
        function
        for function_name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == _NAME and not function_name.startswith("_")
    ]
    if not found:
        raise ConfigurationError(f"--functions {name} defines no public function: add one")
    return found
