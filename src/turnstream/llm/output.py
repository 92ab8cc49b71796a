"""Typed answers: the schema that the model gets, and the value in the model's text.

The type may be a msgspec Struct, a dataclass, a TypedDict, a pydantic model, or made of these:
`list[Person]`, `int | None`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, get_args

import msgspec
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError

from turnstream.core.partial_json import NOTHING, partial_value
from turnstream.errors import ConfigurationError, InvalidOutput
from turnstream.llm.model_message import OUTPUT_TOOL
from turnstream.wires.base import ToolDefinition

Output = TypeVar("Output")
OutputMode: TypeAlias = Literal["auto", "schema", "tool"]
"""Way to request a value: a JSON Schema, a tool with the value as its arguments, or either (`auto`)."""

_WRAPPED = "value"
_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_FENCE = re.compile(r"\s*```(?:json)?\s*\n?")
_SHOWN = 2000


class OutputFormat(Generic[Output]):
    """The format of a typed answer. Raises ConfigurationError for a type that has no JSON Schema."""

    def __init__(self, kind: type[Output]) -> None:
        self._kind = kind
        self._adapter: TypeAdapter[Output] | None = None
        schema = self._describe()
        self._wrapped = schema.get("type") != "object"
        if self._wrapped:
            definitions = schema.pop("$defs", None)
            schema = {"type": "object", "properties": {_WRAPPED: schema}, "required": [_WRAPPED]}
            if definitions:
                schema["$defs"] = definitions
        self.strict = _close(schema)
        self.schema = schema
        name = getattr(kind, "__name__", None)
        self.name = _NAME.sub("_", name)[:64] if isinstance(name, str) and not self._wrapped else "answer"

    @property
    def response_format(self) -> dict[str, Any]:
        """Value of `params["response_format"]` that makes the model write JSON of this schema."""
        return {"type": "json_schema", "name": self.name, "schema": self.schema, "strict": self.strict}

    @property
    def tool(self) -> ToolDefinition:
        """Tool for models that take no schema. Its arguments are the answer."""
        return ToolDefinition(OUTPUT_TOOL, "Give your answer by calling this.", self.schema)

    def read(self, text: str) -> Output:
        """Return the value in `text`. Raises InvalidOutput."""
        text = _unfenced(text)
        try:
            if self._wrapped:
                text = json.dumps(msgspec.json.decode(text, type=dict[str, Any])[_WRAPPED])
            if self._adapter is not None:
                return self._adapter.validate_json(text)
            return msgspec.json.decode(text, type=self._kind)
        except (
            ValueError,
            KeyError,
            RecursionError,
        ) as error:  # includes the errors of msgspec and pydantic, which are ValueErrors
            raise InvalidOutput(
                f"the answer does not have the requested type: {error}", detail=text[:_SHOWN]
            ) from error

    def read_partial(self, text: str) -> Any:
        """Return the value so far, as plain JSON values, or NOTHING if there is none yet."""
        value = partial_value(_unfenced(text))
        if not self._wrapped or value is NOTHING:
            return value
        return cast("dict[str, Any]", value).get(_WRAPPED, NOTHING) if isinstance(value, dict) else NOTHING

    def _describe(self) -> dict[str, Any]:
        kind = self._kind
        try:
            if _is_pydantic(kind):
                self._adapter = TypeAdapter(kind)
            schema = msgspec.json.schema(kind) if self._adapter is None else self._adapter.json_schema()
        except (TypeError, ValueError, NameError, PydanticUserError) as error:
            raise ConfigurationError(
                f"{kind!r} cannot be described to a model: {error}; use types that have a JSON schema"
            ) from error
        return _with_root(schema)


def _is_pydantic(kind: Any) -> bool:
    """Return True if the type contains a pydantic model. Pydantic reads it then: msgspec cannot."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return True
    if hasattr(cast("Any", kind), "__pydantic_validator__"):
        return True
    return any(map(_is_pydantic, get_args(kind)))


def _with_root(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its root written out, because providers take no reference there."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    definitions: dict[str, Any] = dict(schema["$defs"])
    name = reference.removeprefix("#/$defs/")
    root = dict(definitions[name])
    if not _mentions(definitions, reference):
        del definitions[name]
    return {**root, "$defs": definitions} if definitions else root


def _mentions(part: Any, reference: str) -> bool:
    if isinstance(part, dict):
        parts = cast("dict[str, Any]", part)
        return parts.get("$ref") == reference or any(_mentions(inner, reference) for inner in parts.values())
    return isinstance(part, list) and any(_mentions(inner, reference) for inner in cast("list[Any]", part))


def _close(part: Any) -> bool:
    """Close every object with known properties to other properties.

    Return True if providers can enforce the schema strictly: each property is required, without a default.
    """
    strict = True
    if isinstance(part, list):
        found = [_close(inner) for inner in cast("list[Any]", part)]
        return all(found)
    if not isinstance(part, dict):
        return True
    parts = cast("dict[str, Any]", part)
    if parts.get("type") == "object":
        properties = cast("dict[str, Any]", parts.get("properties", {}))
        if "additionalProperties" not in parts and "properties" in parts:
            parts["additionalProperties"] = False
        strict = parts.get("additionalProperties") is False and set(parts.get("required", ())) == set(
            properties
        )
    for key, inner in parts.items():
        if key in ("properties", "$defs"):
            found = [_close(schema) for schema in inner.values()]
            strict = all(found) and strict
        elif key not in ("required", "enum", "const", "default", "examples"):
            strict = _close(inner) and strict
    return strict and "default" not in parts


def _unfenced(text: str) -> str:
    """Return the text without the ``` that some models put around JSON."""
    if (fence := _FENCE.match(text)) is None:
        return text
    return text[fence.end() :].rstrip().removesuffix("```")
