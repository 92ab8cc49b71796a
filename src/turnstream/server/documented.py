"""Additions to the OpenAPI document that the framework cannot find by itself: errors, ids, cursors, and the shapes of blocks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

from fastapi import Query
from pydantic import BaseModel, WithJsonSchema

from turnstream.core.identifiers import ID_PATTERN
from turnstream.server.attachments import LONGEST_TITLE, LONGEST_URL, MEDIA_TYPES, URL_PATTERN

Responses: TypeAlias = dict[int | str, dict[str, Any]]


class ErrorDetail(BaseModel):
    code: str
    message: str


class ErrorView(BaseModel):
    error: ErrorDetail


_ERRORS = {
    400: "The request is malformed: an id, a cursor, a header or the body.",
    401: "The caller is not known.",
    404: "There is no such chat or turn for this caller.",
    408: "The body did not arrive in time. The connection closes.",
    409: "Another state of the chat or turn forbids it, or the Idempotency-Key was used for another request.",
    413: "The body is too large. The connection closes.",
    502: "The model that was asked for cannot be called: its key is missing.",
    503: "The server is being stopped, is full, or was not started: try again after `Retry-After` seconds.",
}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}


def errors(*statuses: int) -> Responses:
    """Return the documented responses of a route that answers these errors. `default` stands for the others, which have the
    same shape."""
    described: Responses = {
        status: {"model": ErrorView, "description": _ERRORS[status]} for status in statuses
    }
    if 503 in described:
        described[503]["headers"] = _RETRY_AFTER
    return {**described, "default": {"model": ErrorView, "description": "Any other error."}}


_ID_SCHEMA = {"type": "string", "format": "uuid", "pattern": f"^{ID_PATTERN}$", "description": "a UUIDv7"}
_CURSOR = {
    "type": "string",
    "pattern": "^[1-9][0-9]{0,11}-[1-9][0-9]{0,15}$",
    "description": "an event's id",
    "examples": ["1342357987-42"],
}
CURSOR_SCHEMA = {"anyOf": [_CURSOR, {"type": "string", "enum": ["", "0"]}]}
POSITION_SCHEMA = {
    "type": "string",
    "pattern": f"^[0-9]{{1,17}}:{ID_PATTERN}$",
    "description": "a page's `next`",
}
KEY_SCHEMA = {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"}

Identifier: TypeAlias = Annotated[str, WithJsonSchema(_ID_SCHEMA)]
"""An id in the document. `context.checked_id` checks it, with an error of its own."""
Position: TypeAlias = Annotated[str | None, WithJsonSchema(POSITION_SCHEMA)]
OptionalIdentifier: TypeAlias = Annotated[str | None, WithJsonSchema(_ID_SCHEMA)]
"""An id in a query, where null cannot be written."""
MAX_PAGE = 200
"""Chats, or turns, of one page."""
Limit: TypeAlias = Annotated[int | None, Query(ge=1, le=MAX_PAGE)]
"""The greatest number of turns of a page. None: all."""

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
_TITLE = {"type": "string", "maxLength": LONGEST_TITLE}


def _media_type(block_type: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^({MEDIA_TYPES[block_type].pattern})$"}


def _object(
    required: dict[str, Any], optional: dict[str, Any] | None = None, *, closed: bool = True
) -> dict[str, Any]:
    described: dict[str, Any] = {"type": "object", "properties": {**required, **(optional or {})}}
    if required:
        described["required"] = list(required)
    if closed:
        described["additionalProperties"] = False
    return described


_CONTENTS: dict[str, dict[str, Any]] = {
    "image": {
        "oneOf": [
            _object({"media_type": _media_type("image"), "data": _BASE64}),
            _object({"url": {"anyOf": [_URL, _DATA_URL]}}),
        ]
    },
    "document": {
        "oneOf": [
            _object({"media_type": _media_type("document"), "data": _BASE64}, {"title": _TITLE}),
            _object({"url": _URL}, {"media_type": _media_type("document"), "title": _TITLE}),
            _object({"text": _TEXT}, {"title": _TITLE}),
        ]
    },
    "tool_result": _object(
        {"tool_use_id": {"type": "string"}}, {"content": {}, "is_error": {"type": "boolean"}}, closed=False
    ),
}


SENDABLE: dict[str, Any] = {
    "contains": {
        "type": "object",
        "properties": {"block_type": {"enum": ["text", "image", "document", "tool_result"]}},
        "required": ["block_type"],
    }
}
"""A turn needs a block that can be sent to a model: a reference alone cannot."""


def describe_block(schema: dict[str, Any]) -> None:
    """Put in place of a user block's schema one for each type of block."""
    anything = {"anyOf": [{"type": "object"}, {"type": "null"}]}
    any_text = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    title, description = schema["title"], schema.get("description", "")
    kinds = schema["properties"]["block_type"]["enum"]
    schema.clear()
    schema.update(title=title, description=description, oneOf=[])
    for kind in kinds:
        named = {"type": "string", "const": kind}
        if kind == "text":
            shape = _object({"block_type": named, "text_content": _TEXT}, {"content": anything})
        elif kind in _CONTENTS:
            shape = _object({"block_type": named, "content": _CONTENTS[kind]}, {"text_content": any_text})
        else:
            shape = _object({"block_type": named}, {"content": anything, "text_content": any_text})
        schema["oneOf"].append(shape)


def name_models(
    document: dict[str, Any], *, providers: Sequence[str], names: Sequence[str], tools: Sequence[str]
) -> None:
    """Say in an OpenAPI document which models and tools a turn may name here.

    `providers`: those that are ready, for `provider/model`. `names`: the settings' own names of models.
    """
    prefixes = "|".join(re.escape(provider) for provider in providers)
    model = {
        "type": "string",
        "maxLength": 300,
        "pattern": "|".join([f"^({prefixes})/.", *(f"^{re.escape(n)}$" for n in names)]),
    }
    tool = [{"type": "string", "enum": list(tools)}] if tools else []
    for body in ("CallBody", "TurnBody"):
        fields = document["components"]["schemas"][body]["properties"]
        fields["model"]["anyOf"][0] = model
        fields["fallbacks"]["anyOf"][0]["items"] = model
        listed = fields["tools"]["anyOf"][0]
        listed["items"]["anyOf"] = [*tool, listed["items"]["anyOf"][-1]]
