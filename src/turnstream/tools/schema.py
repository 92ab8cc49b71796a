"""Descriptions of functions for a model: a JSON Schema from the signature and the docstring."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model

from turnstream.errors import ConfigurationError
from turnstream.wires.base import ToolDefinition

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_SECTION = re.compile(r"(args|arguments|parameters|params):\s*", re.IGNORECASE)
_OTHER_SECTION = re.compile(r"[A-Z][A-Za-z ]*:\s*")
_ITEM = re.compile(r"(?P<name>\*{0,2}\w+)\s*(\([^)]*\))?\s*:\s*(?P<text>.*)")
_FIELD = re.compile(r":param\s+(?:[^:]*\s)?(?P<name>\w+)\s*:\s*(?P<text>.*)")
_ANY_FIELD = re.compile(r":\w+[^:]*:.*")


class Arguments:
    """Converts a call's arguments to those of the function."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        self._names = {field: str(info.alias) for field, info in model.model_fields.items()}

    def read(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return keyword arguments in the types of the signature.

        Raises ValueError with a message for the model.
        """
        try:
            model = self._model.model_validate(given)
        except ValidationError as error:
            raise ValueError("; ".join(_faults(error))) from None
        return {self._names[field]: getattr(model, field) for field in model.model_fields_set}


class Description(NamedTuple):
    """A function's description for the model. `context` is the parameter that gets the call's context."""

    definition: ToolDefinition
    arguments: Arguments
    context: str | None


def describe(
    function: Callable[..., Any],
    context_type: type,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Description:
    """Describe `function` for a model. Raises ConfigurationError if a model could not call it."""
    plain = unbound(function)
    name = name or str(getattr(plain, "__name__", type(plain).__name__))
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name} cannot be a tool's name (letters, digits, - and _, at most 64): set @tool(name=…)"
        )
    summary, of_parameters = read_docstring(inspect.getdoc(plain) or "")
    fields: dict[str, Any] = {}
    context: str | None = None
    for parameter, annotation in _parameters(function, name):
        if annotation is context_type:
            context = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        # Fields have names of their own: a parameter may have the name of a method of pydantic models.
        described = Field(default, alias=parameter.name, description=of_parameters.get(parameter.name))
        fields[f"parameter_{len(fields)}"] = (annotation, described)
    try:
        model = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        schema = model.model_json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        raise ConfigurationError(
            f"the tool {name} cannot be described to a model: {error}; use parameters that have a JSON schema"
        ) from error
    definition = ToolDefinition(name, description or summary, _plain(schema))
    return Description(definition, Arguments(model), context)


def unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function without the arguments that `functools.partial` binds."""
    while isinstance(function, functools.partial):
        function = cast("functools.partial[Any]", function).func
    return function


def _bound_names(function: Callable[..., Any]) -> set[str]:
    """Return the names of arguments that partials bind. A signature still contains them."""
    names: set[str] = set()
    while isinstance(function, functools.partial):
        partial = cast("functools.partial[Any]", function)
        names |= partial.keywords.keys()
        function = partial.func
    return names


def _parameters(function: Callable[..., Any], name: str) -> list[tuple[inspect.Parameter, Any]]:
    try:
        signature = inspect.signature(function)
        plain = unbound(function)
        hints = typing.get_type_hints(
            plain if inspect.isroutine(plain) else type(plain).__call__, include_extras=True
        )
    except (NameError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the signature of the tool {name} cannot be read: {error}; wrap the tool"
        ) from error
    bound = _bound_names(function)
    found: list[tuple[inspect.Parameter, Any]] = []
    for parameter in signature.parameters.values():
        if parameter.name in bound:
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(f"the tool {name} takes {parameter}: declare each argument by its name")
        found.append((parameter, hints.get(parameter.name, str)))
    return found


def _plain(schema: Any) -> Any:
    """Return the schema without titles, which repeat the names."""
    if isinstance(schema, list):
        return [_plain(part) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    parts = cast("dict[str, Any]", schema)
    plain: dict[str, Any] = {}
    for key, value in parts.items():
        if key == "title" and isinstance(value, str):
            continue
        if key in ("properties", "$defs"):
            plain[key] = {name: _plain(part) for name, part in value.items()}
        else:
            plain[key] = _plain(value)
    return plain


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the summary of a docstring, and the texts of parameters (`Args:` or `:param name:`)."""
    summary: list[str] = []
    parameters: dict[str, str] = {}
    current: str | None = None
    state = "summary"
    for line in text.splitlines():
        stripped = line.strip()
        if _SECTION.fullmatch(stripped):
            state, current = "parameters", None
        elif (field := _FIELD.fullmatch(stripped)) is not None:
            state, current = "field", str(field["name"])
            parameters[current] = field["text"]
        elif _ANY_FIELD.fullmatch(stripped) or (state != "summary" and _OTHER_SECTION.fullmatch(stripped)):
            state, current = "rest", None
        elif state == "summary":
            summary.append(line)
        elif state == "parameters" and _indent(line) <= 4 and (item := _ITEM.fullmatch(stripped)) is not None:
            current = str(item["name"]).lstrip("*")
            parameters[current] = item["text"]
        elif current is not None and stripped:
            parameters[current] = f"{parameters[current]} {stripped}".strip()
    return "\n".join(summary).strip(), parameters


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _faults(error: ValidationError) -> list[str]:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults[:5]]
