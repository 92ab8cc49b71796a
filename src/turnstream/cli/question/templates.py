"""Templates of questions: TOML files in the user's configuration folder.

    prompt = "Summarise in $language: $input"
    system = "You are brief."
    model = "anthropic/claude-sonnet-5-5"
    schema = "title, points str[]"
    tools = ["clock"]
    [params]
    temperature = 0.2
    [defaults]
    language = "English"

`$input` is the question of the command line. Other placeholders come from `-p NAME=VALUE`, else from
`defaults`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from turnstream.errors import ConfigurationError, NotFound
from turnstream.user_folders import config_folder

INPUT = "input"
"""Word of a prompt that the question replaces. Without it the question follows the prompt."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
EXAMPLE = """\
prompt = "Summarise: $input"
# system = "You are brief."
# model = "provider/model"
# schema = "title, points str[]"
# tools = ["clock"]
# [params]
# temperature = 0.2
# [defaults]
# language = "English"
"""


class QuestionTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A template. Options of the command line replace its fields."""

    prompt: str | None = None
    system: str | None = None
    model: str | None = None
    schema: str | None = None
    tools: tuple[str, ...] | None = None
    params: dict[str, Any] = {}
    defaults: dict[str, str] = {}

    def filled(self, question: str, words: Mapping[str, str]) -> str:
        """Return the text of the question. Raises ConfigurationError if a placeholder has no value."""
        if self.prompt is None:
            return question
        values = {**self.defaults, **words, INPUT: question}
        template = Template(self.prompt)
        try:
            text = template.substitute(values)
        except KeyError as error:
            name = error.args[0]
            raise ConfigurationError(f"the template needs {name}: give -p {name}=VALUE") from None
        except ValueError as error:
            raise ConfigurationError(f"the template's prompt is not valid: {error}; write $$ for $") from None
        if INPUT not in template.get_identifiers() and question.strip():
            text = f"{text}\n\n{question}"
        return text


def templates_folder() -> Path:
    return config_folder() / "templates"


def file_of(name: str) -> Path:
    """Return the file of a template, which may not exist. Raises ConfigurationError for an invalid name."""
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot name a template: use letters, digits, '-', '_' and '.', at most 64"
        )
    return templates_folder() / f"{name}.toml"


def names() -> Iterator[str]:
    """Yield the names of all templates, sorted."""
    yield from sorted(file.stem for file in templates_folder().glob("*.toml") if NAME.fullmatch(file.stem))


def read(name: str) -> QuestionTemplate:
    """Return a template.

    Raises NotFound if there is none, and ConfigurationError if its file is not valid.
    """
    file = file_of(name)
    try:
        return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), QuestionTemplate)
    except FileNotFoundError:
        known = ", ".join(names()) or "none"
        raise NotFound(
            f"there is no template {name!r} (there are: {known}): make it with `turnstream templates edit "
            f"{name}`"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{file} is not a valid template ({error}): correct it") from None
