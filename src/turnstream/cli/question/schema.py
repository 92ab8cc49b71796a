"""The format of a JSON answer, as `--schema`: a JSON Schema, a file with one, or one line.

    name, age int, tags str[]
    [name: the person's full name, age int]

One line names the fields of an object. A field is a name, a type (`str` unless it is given; `int`, `float`,
`bool`, each with `[]` for a list) and, after a colon, a description. Brackets around the line ask for a list
of such objects.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from turnstream.errors import ConfigurationError

LIST_FIELD = "items"
"""Field of the answer's object that holds the list."""
_TYPES = {
    "str": "string", "string": "string", "text": "string",
    "int": "integer", "integer": "integer",
    "float": "number", "number": "number",
    "bool": "boolean", "boolean": "boolean",
}  # fmt: skip
_FIELD = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:\s+(?P<type>[a-z]+)(?P<list>\[\])?)?", re.ASCII)
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(?P<inner>.*?)\n?```\s*", re.DOTALL)
_LONGEST = 256 * 1024


def response_format(text: str) -> dict[str, Any]:
    """Return the param `response_format` for the value of `--schema`.

    Raises ConfigurationError if the value is neither a schema, nor a file with one, nor one line of fields.
    """
    written = text.strip()
    if not written.startswith(("{", "[")) and (found := _of_file(written)) is not None:
        written = found
    if written.startswith("{"):
        return {"type": "json_schema", "name": "answer", "schema": _json_schema(written)}
    is_list = written.startswith("[") and written.endswith("]")
    schema = _fields(written[1:-1] if is_list else written)
    if is_list:
        schema = _object({LIST_FIELD: {"type": "array", "items": schema}})
    return {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}


def read_answer(text: str, schema: dict[str, Any]) -> object:
    """Return the value of an answer in the format of a schema. Raises ValueError, which names the fault."""
    if (fenced := _FENCE.fullmatch(text)) is not None:
        text = fenced["inner"]
    value: object = json.loads(text)
    if schema.get("type") != "object":
        return value
    if not isinstance(value, dict):
        raise ValueError(f"it is {type(value).__name__}, not an object")
    fields = cast("dict[str, Any]", value)
    required: list[str] = schema.get("required", [])
    if missing := [name for name in required if name not in fields]:
        raise ValueError(f"the field {missing[0]!r} is missing")
    return fields


def _of_file(name: str) -> str | None:
    """Return the text of a file, or None if there is none of this name."""
    try:
        file = Path(name)
        if not file.is_file():
            return None
        if file.stat().st_size > _LONGEST:
            raise ConfigurationError(
                f"--schema {name}: the file is larger than {_LONGEST // 1024} KiB: give a smaller schema"
            )
        return file.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise ConfigurationError(
            f"--schema {name}: the file cannot be read ({error.strerror}): correct the path"
        ) from error
    except ValueError:  # not UTF-8, or a name with a zero byte
        raise ConfigurationError(
            f"--schema {name!r} is not a text file with a JSON Schema: give another file"
        ) from None


def _json_schema(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--schema is not valid JSON ({error}): correct it") from None


def _fields(line: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for part in re.split(r"[,\n]", line):
        if not part.strip():
            continue
        declared, _, description = (piece.strip() for piece in part.partition(":"))
        field = _FIELD.fullmatch(declared)
        kind = _TYPES.get(field["type"] or "str") if field is not None else None
        if field is None or kind is None:
            raise ConfigurationError(
                f"--schema: {part.strip()!r} is not a field: write 'name, age int, tags str[]', JSON, or the "
                "path of a file; types are str, int, float, bool"
            )
        shape: dict[str, Any] = {"type": kind}
        if field["list"]:
            shape = {"type": "array", "items": shape}
        if description:
            shape["description"] = description
        properties[field["name"]] = shape
    if not properties:
        raise ConfigurationError("--schema has no fields: write 'name, age int'")
    return _object(properties)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
