"""Loads settings from the file, the environment and flags. Each source overrides the previous one.

`port = 8090` in the table `[server]` of `turnstream.toml` is `TURNSTREAM_SERVER__PORT=8090` in the
environment and `server.port` as a flag. Only variables with a double underscore are settings, because
container platforms set names such as TURNSTREAM_PORT. API keys are never settings: a setting names the
variable that holds the key.
"""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from turnstream.config.sections import MODEL_PATTERN, ProviderSettings, Settings
from turnstream.errors import ConfigurationError

logger = logging.getLogger(__name__)

DEFAULT_FILE = "turnstream.toml"
FILE_VARIABLE = "TURNSTREAM_CONFIG"
PREFIX = "TURNSTREAM_"
SEPARATOR = "__"


def load_settings(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Return the settings.

    Args:
        path: The settings file, as given by `--config`. None: the file that TURNSTREAM_CONFIG names, else
            `turnstream.toml` in the working directory, if it exists.
        environ: The environment variables. None: `os.environ`.
        flags: Values by `section.key`. A value of None means that the flag was not given.

    Raises ConfigurationError, which names the source, the key and the remedy, if a setting is invalid.
    """
    environ = os.environ if environ is None else environ
    for words in misspelt_variables(environ):
        logger.warning("%s", words)
    values = _Values()
    if (file := _find_file(path, environ)) is not None:
        values.add_table((), _read_file(file), str(file))
    for name in sorted(environ):
        if name.startswith(PREFIX) and SEPARATOR in name and environ[name]:
            key = tuple(name.removeprefix(PREFIX).lower().split(SEPARATOR))
            values.add(key, environ[name], f"environment variable {name}")
    for name, value in (flags or {}).items():
        if value is not None:
            values.add(tuple(name.split(".")), value, f"flag {name}")
    try:
        return Settings.model_validate(values.tree)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, values.origins)) from None


def read_provider(name: str, given: Mapping[str, Any]) -> ProviderSettings:
    """Return the settings of a provider from a mapping.

    Raises ConfigurationError, as `load_settings` does.
    """
    try:
        return Settings.model_validate({"providers": {name: dict(given)}}).providers[name]
    except ValidationError as error:
        raise ConfigurationError(_explain(error, {("providers",): "the argument providers"})) from None


class _Values:
    """The merged values of all sources, and the source of each value."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self.origins: dict[tuple[str, ...], str] = {}

    def add_table(self, key: tuple[str, ...], table: Mapping[str, Any], origin: str) -> None:
        for name, value in table.items():
            if isinstance(value, dict):
                self.add((*key, name), {}, origin)
                self.add_table((*key, name), cast("dict[str, Any]", value), origin)
            else:
                self.add((*key, name), value, origin)

    def add(self, key: tuple[str, ...], value: object, origin: str) -> None:
        branch = self.tree
        for depth, name in enumerate(key[:-1], 1):
            self.origins.setdefault(key[:depth], origin)
            inner: object = branch.get(name)
            if not isinstance(inner, dict):
                inner = branch[name] = {}
            branch = cast("dict[str, Any]", inner)
        branch[key[-1]] = value
        self.origins[key] = origin


def _find_file(path: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return _existing(Path(path), "the argument")
    if named := environ.get(FILE_VARIABLE):
        return _existing(Path(named), FILE_VARIABLE)
    default = Path(DEFAULT_FILE)
    return default if default.is_file() else None


def _existing(file: Path, source: str) -> Path:
    if not file.is_file():
        raise ConfigurationError(
            f"{source} names {file}, which is not a file: correct the path, or leave it out"
        )
    return file


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be read ({error.strerror}): make it readable, or give another file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}; correct that line") from error


def _explain(error: ValidationError, origins: Mapping[tuple[str, ...], str]) -> str:
    """Return one line per mistake. Values are not shown: a user may have put a key in place of its name."""
    lines: list[str] = []
    for details in error.errors(include_url=False, include_input=False, include_context=False):
        key = tuple(str(name) for name in details["loc"] if name != "[key]")
        origin = next(
            (origins[key[:end]] for end in range(len(key), 0, -1) if key[:end] in origins), "settings"
        )
        lines.append(f"{origin}: {'.'.join(key)}: {_advice(details['type'], details['msg'], key)}")
    return "\n".join(lines)


def _advice(kind: str, message: str, key: tuple[str, ...]) -> str:
    if kind == "string_pattern_mismatch" and MODEL_PATTERN in message:
        return f"write provider/model, such as anthropic/claude-sonnet-5-5 (pattern {MODEL_PATTERN})"
    if kind != "extra_forbidden":
        return message[:1].lower() + message[1:]
    known = _known_names(key[:-1])
    if close := difflib.get_close_matches(key[-1], known, n=1, cutoff=0.5):
        return f"there is no such setting; did you mean {close[0]}?"
    return f"there is no such setting; the settings here are: {', '.join(sorted(known))}"


def _known_names(section: Iterable[str]) -> list[str]:
    model: type[BaseModel] = Settings
    names = iter(section)
    for name in names:
        kind = model.model_fields[name].annotation
        arguments = get_args(kind)
        if arguments:
            next(names, None)
            kind = arguments[-1]
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    return list(model.model_fields)


def misspelt_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable that lacks a second underscore, such as TURNSTREAM_SERVER_PORT.

    Variables that container platforms set (`tcp://10.0.0.1:80`) are ignored.
    """
    for name in sorted(environ):
        section, _, field = name.removeprefix(PREFIX).lower().partition("_")
        if not name.startswith(PREFIX) or SEPARATOR in name or "://" in environ[name]:
            continue
        if section in Settings.model_fields and field in _known_names([section]):
            setting = f"{PREFIX}{section.upper()}{SEPARATOR}{field.upper()}"
            yield (
                f"the variable {name} is ignored, because it does not name a setting: did you mean {setting}?"
            )
