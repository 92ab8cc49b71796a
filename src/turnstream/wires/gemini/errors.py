"""Errors of the Gemini API: `{"error": {"code", "message", "status", "details"}}`.

The object is a body, an event, or the only element of a list. `code` is the HTTP status and `status` the name
of a `google.rpc.Code`. The details may have a `RetryInfo` with the time to wait, and an `ErrorInfo` with a
reason.
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


def _body(written: WrittenError, message: str, wait: float | None) -> JsonObject:
    error: JsonObject = {"code": written.status, "message": message, "status": written.type}
    if wait is not None:
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait:g}s"}
        error["details"] = [retry]
    return {"error": error}


def dump_error(error: StreamError) -> JsonObject:
    """Return the JSON of the event with which a stream fails.

    It has the provider's status if that is known.
    """
    body = ERRORS.dump_error(error)
    body["error"]["code"] = error.provider_status or body["error"]["code"]
    return body


ERRORS = ErrorTable(
    body=_body,
    means_statuses=True,
    name_fields=("status", "reason"),
    too_long="the input token count exceeds the maximum number of tokens allowed:",
    names={
        "unauthenticated": AuthenticationFailed,
        "permission_denied": PermissionDenied,
        "not_found": ModelNotFound,
        "invalid_argument": InvalidModelRequest,
        "failed_precondition": InvalidModelRequest,
        "out_of_range": InvalidModelRequest,
        "unimplemented": InvalidModelRequest,
        "already_exists": InvalidModelRequest,
        "resource_exhausted": RateLimited,
        "unavailable": Overloaded,
        "deadline_exceeded": ProviderTimeout,
        "internal": ProviderFailed,
        "unknown": ProviderFailed,
        "aborted": ProviderFailed,
        "cancelled": ProviderFailed,
        "data_loss": ProviderFailed,
        "api_key_invalid": AuthenticationFailed,
        "api_key_service_blocked": AuthenticationFailed,
        "access_token_expired": AuthenticationFailed,
    },
    written={
        AuthenticationFailed.code: WrittenError(401, "UNAUTHENTICATED"),
        PermissionDenied.code: WrittenError(403, "PERMISSION_DENIED"),
        ModelNotFound.code: WrittenError(404, "NOT_FOUND"),
        InvalidModelRequest.code: WrittenError(400, "INVALID_ARGUMENT"),
        ContentFiltered.code: WrittenError(400, "INVALID_ARGUMENT"),
        RateLimited.code: WrittenError(429, "RESOURCE_EXHAUSTED"),
        Overloaded.code: WrittenError(503, "UNAVAILABLE"),
        ProviderTimeout.code: WrittenError(504, "DEADLINE_EXCEEDED"),
        ProviderFailed.code: WrittenError(500, "INTERNAL"),
    },
)
