"""Ollama's errors: `{"error": "…"}`, in a body or as a line of a stream.

An error is a text, with an HTTP status outside of streams. Some servers add the status to the line.
"""

from __future__ import annotations

from turnstream.core.stream_events import StreamError
from turnstream.errors import (
    AuthenticationFailed,
    ContentFiltered,
    InvalidModelRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.shared.error_engine import ErrorTable, WrittenError
from turnstream.wires.shared.json_values import JsonObject


def _body(_written: WrittenError, message: str, _wait: float | None) -> JsonObject:
    return {"error": message}


def dump_error(error: StreamError) -> JsonObject:
    """Return the JSON of the line with which a stream fails.

    A status is added if the text does not show the kind.
    """
    written = ERRORS.written_as(error.code)
    status = {} if written is _FAILED else {"status": written.status}
    return {**ERRORS.dump_error(error), **status}


_FAILED = WrittenError(500)
ERRORS = ErrorTable(
    body=_body,
    name_fields=(),
    too_long="context length exceeded:",
    words=(
        ("timed out", ProviderTimeout),
        ("does not support", InvalidModelRequest),
        ("not found", ModelNotFound),
        ("invalid", InvalidModelRequest),
    ),
    written={
        AuthenticationFailed.code: WrittenError(401),
        PermissionDenied.code: WrittenError(403),
        ModelNotFound.code: WrittenError(404),
        InvalidModelRequest.code: WrittenError(400),
        ContentFiltered.code: WrittenError(400),
        RateLimited.code: WrittenError(429),
        Overloaded.code: WrittenError(503),
        ProviderTimeout.code: WrittenError(504),
        ProviderFailed.code: _FAILED,
    },
)
