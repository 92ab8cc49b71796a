"""Schemas of user blocks for the OpenAPI document.

They do not validate requests: `attachments.checks` and `views.UserBlock` do. Each object inside a block has
its own named schema, because client generators cannot name objects that are nested in alternatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import CoreSchema
from pydantic_core.core_schema import union_schema

from turnstream.limits import LONGEST_TITLE, LONGEST_URL, MAX_BLOCKS
from turnstream.server.attachments.checks import MEDIA_TYPES, URL_PATTERN

_TEXT = {"type": "string", "pattern": r"[^\s\x1c-\x1f\x85]"}
_BASE64 = {
    "type": "string",
    "contentEncoding": "base64",
    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$",
}
_URL = {"type": "string", "maxLength": LONGEST_URL, "pattern": URL_PATTERN}
_DATA_URL = {
    "type": "string",
    "pattern": f"^data:{MEDIA_TYPES['image'].pattern};base64,{_BASE64['pattern'].removeprefix('^')}",
}


def _media_type(block_type: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^({MEDIA_TYPES[block_type].pattern})$"}


_Base64: TypeAlias = Annotated[str, WithJsonSchema(_BASE64)]
_Address: TypeAlias = Annotated[str, WithJsonSchema(_URL)]
_Title: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "maxLength": LONGEST_TITLE})]
_DocumentType: TypeAlias = Annotated[str, WithJsonSchema(_media_type("document"))]


def _without_defaults(schema: dict[str, Any]) -> None:
    """Remove the defaults from a schema: a generated client would send them."""
    for described in schema.get("properties", {}).values():
        described.pop("default", None)


class _ClosedContent(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra=_without_defaults)


class _OpenContent(BaseModel):
    model_config = ConfigDict(extra="allow", json_schema_extra=_without_defaults)


class ImageData(_ClosedContent):
    media_type: Annotated[str, WithJsonSchema(_media_type("image"))]
    data: _Base64


class ImageAddress(_ClosedContent):
    url: Annotated[str, WithJsonSchema({"anyOf": [_URL, _DATA_URL]})]


class DocumentData(_ClosedContent):
    media_type: _DocumentType
    data: _Base64
    title: _Title = ""


class DocumentAddress(_ClosedContent):
    url: _Address
    media_type: _DocumentType = ""
    title: _Title = ""


class DocumentText(_ClosedContent):
    text: Annotated[str, WithJsonSchema(_TEXT)]
    title: _Title = ""


class ToolResult(_OpenContent):
    tool_use_id: str
    content: Any = None
    is_error: bool = False


class OtherContent(_OpenContent):
    """Content that the application defines."""


_SHAPES: Sequence[type[BaseModel]] = (
    ImageData,
    ImageAddress,
    DocumentData,
    DocumentAddress,
    DocumentText,
    ToolResult,
    OtherContent,
)
_CONTENTS: dict[str, Sequence[type[BaseModel]]] = {
    "image": (ImageData, ImageAddress),
    "document": (DocumentData, DocumentAddress, DocumentText),
    "tool_result": (ToolResult,),
}

_CONTAINS: dict[str, Any] = {
    "contains": {
        "type": "object",
        "anyOf": [
            {
                "properties": {"block_type": {"enum": ["text", "image", "document", "tool_result"]}},
                "required": ["block_type"],
            },
            {"properties": {"type": {"const": "text"}}, "required": ["type"]},
        ],
    }
}
PlainText: TypeAlias = Annotated[str, WithJsonSchema(_TEXT)]
SENDABLE = Field(min_length=1, max_length=MAX_BLOCKS, json_schema_extra=_CONTAINS)
"""Schema that requires a block that can be sent to a model. References alone are not enough."""
PLAIN_BLOCK: dict[str, Any] = {
    "title": "PlainTextBlock",
    "type": "object",
    "properties": {"type": {"type": "string", "const": "text"}, "text": _TEXT},
    "required": ["type", "text"],
    "additionalProperties": False,
}
"""Schema of the short form of a text block."""
RIGHT_FORM = '"turn_blocks": "a text", or [{"type": "text", "text": "a text"}]'
"""Right form of a turn's blocks, for error messages."""


def blocks_of_text(given: object) -> object:
    """Return the list of blocks for a plain string. Return any other value unchanged."""
    return [plain_block(given)] if isinstance(given, str) else given


def block_of_short_form(given: object) -> object:
    """Return the text block for `{"type": "text", "text": …}`. Return any other value unchanged."""
    if isinstance(given, dict):
        fields = cast("dict[object, object]", given)
        if fields.keys() == {"type", "text"} and fields["type"] == "text":
            return plain_block(fields["text"])
        return fields
    return given


def plain_block(text: object) -> dict[str, object]:
    return {"block_type": "text", "text_content": text}


def contents_schema() -> CoreSchema:
    """Return a union of the contents that blocks may have."""
    # With a reference, each content becomes its own schema in the document. pydantic inlines a model that is
    # used only once and has none.
    choices: list[CoreSchema | tuple[CoreSchema, str]] = [
        cast(
            "CoreSchema",
            {**shape.__pydantic_core_schema__, "ref": f"{shape.__module__}.{shape.__qualname__}:{number}"},
        )
        for number, shape in enumerate(_SHAPES)
    ]
    return union_schema(choices)


def block_schema(kind: str, contents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of user blocks of type `kind`.

    `contents`: references to the choices of `contents_schema`.
    """
    references = dict(zip(_SHAPES, contents, strict=True))
    name = "".join(word.title() for word in kind.split("_"))
    properties: dict[str, Any] = {"block_type": {"type": "string", "const": kind}}
    if kind in _CONTENTS:
        choices = [references[shape] for shape in _CONTENTS[kind]]
        properties["content"] = choices[0] if len(choices) == 1 else {"oneOf": choices}
    else:
        properties["content"] = {"anyOf": [references[OtherContent], {"type": "null"}]}
    properties["text_content"] = (
        _TEXT if kind == "text" else {"anyOf": [{"type": "string"}, {"type": "null"}]}
    )
    required = ["text_content"] if kind == "text" else ["content"] if kind in _CONTENTS else []
    return {
        "title": f"{name}Block",
        "type": "object",
        "properties": properties,
        "required": ["block_type", *required],
        "additionalProperties": False,
    }
