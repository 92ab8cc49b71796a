"""Parts of the OpenAPI document that the framework cannot derive: errors, ids and cursors."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import Query
from pydantic import BaseModel, WithJsonSchema

from turnstream.core.identifiers import ID_PATTERN
from turnstream.limits import MAX_EVENTS_CURSOR, MAX_MODEL, MAX_PAGE
from turnstream.turns.commands import Commands

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
    503: "The server is being stopped, is full, reads too many large bodies, or was not started: "
    "try again after `Retry-After` seconds.",
}
_OTHER = "Any other error: 405 for a method that is not possible, 431 for headers that are too large, 500."
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}


def errors(*statuses: int) -> Responses:
    """Return the documented responses of a route that may answer these error statuses.

    The entry `default` covers all other errors, which have the same shape.
    """
    described: Responses = {
        status: {"model": ErrorView, "description": _ERRORS[status]} for status in statuses
    }
    if 503 in described:
        described[503]["headers"] = _RETRY_AFTER
    return {**described, "default": {"model": ErrorView, "description": _OTHER}}


_ID_SCHEMA = {"type": "string", "format": "uuid", "pattern": f"^{ID_PATTERN}$", "description": "a UUIDv7"}
_CURSOR = {
    "type": "string",
    "pattern": "^[1-9][0-9]{0,11}-[1-9][0-9]{0,15}$",
    "description": "an event's id",
    "examples": ["1342357987-42"],
}
CURSOR_SCHEMA = {"anyOf": [_CURSOR, {"type": "string", "enum": ["", "0"]}]}
EVENTS_CURSOR_SCHEMA = {
    "type": "string",
    "maxLength": MAX_EVENTS_CURSOR,
    "description": "an `id` of this stream; see PROTOCOL.md",
    "examples": ["5f3a21c0-64a1f0e2b9c40.3c1f0a:1342357987-42"],
}
POSITION_SCHEMA = {
    "type": "string",
    "pattern": f"^[0-9]{{1,17}}:{ID_PATTERN}$",
    "description": "a page's `next`",
}
KEY_SCHEMA = {
    "type": "string",
    "pattern": r"^[!-~\x80-\xff]([\t -~\x80-\xff]{0,253}[!-~\x80-\xff])?$",
    "description": "1 to 255 characters of Latin-1",
}

Identifier: TypeAlias = Annotated[str, WithJsonSchema(_ID_SCHEMA)]
"""An id in the document. The schema does not validate: `context.checked_id` does, with its own error."""
Position: TypeAlias = Annotated[str | None, WithJsonSchema(POSITION_SCHEMA)]
OptionalIdentifier: TypeAlias = Annotated[str | None, WithJsonSchema(_ID_SCHEMA)]
"""An optional id in a query. Its schema has no null, which a query cannot express."""
Media: TypeAlias = Literal["data", "omit"]
"""omit: the data of images and documents is left out. Their blocks have a `size` in place of it."""
Limit: TypeAlias = Annotated[int | None, Query(ge=1, le=MAX_PAGE)]
"""Largest number of turns in a page. None: all."""


def name_models(commands: Commands, document: dict[str, Any]) -> None:
    """Add the models and tools that a turn may name to an OpenAPI document.

    Args:
        commands: The commands of the engine, with its models and tools.
        document: The document, which is changed.
    """
    catalog = commands.catalog
    # The models of a ready provider are written `provider/model`. The others have a name in the settings.
    prefixes = "|".join(re.escape(name) for name in catalog.names if catalog.is_ready(name))
    names = [model.id for model in commands.models() if model.id.partition("/")[0] not in catalog.names]
    tools = list(commands.tools.tools)
    model = {
        "type": "string",
        "maxLength": MAX_MODEL,
        "pattern": "|".join([f"^({prefixes})/.", *(f"^{re.escape(n)}$" for n in names)]),
    }
    tool = [{"type": "string", "enum": tools}] if tools else []
    for body in ("CallBody", "TurnBody", "AlternativeBody"):
        fields = document["components"]["schemas"][body]["properties"]
        fields["model"]["anyOf"][0] = model
        fields["fallbacks"]["anyOf"][0]["items"] = model
        listed = fields["tools"]["anyOf"][0]
        listed["items"]["anyOf"] = [*tool, listed["items"]["anyOf"][-1]]
