"""Anthropic's errors, in a body or in a stream's event `error`.

An error is `{"type": "error", "error": {"type", "message"}}`.

turnstream's error codes are Anthropic's types. So a type, known or unknown, is the code of a stream's error.
"""

from __future__ import annotations

from turnstream.errors import (
    AuthenticationFailed,
    InvalidModelRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.shared.error_engine import STATUSES, ErrorTable, WrittenError
from turnstream.wires.shared.failure_words import QUOTA_CODE
from turnstream.wires.shared.json_values import JsonObject


def _body(written: WrittenError, message: str, _wait: float | None) -> JsonObject:
    return {"type": "error", "error": {"type": written.type, "message": message}}


_NAMES = {
    "invalid_request_error": InvalidModelRequest,
    "authentication_error": AuthenticationFailed,
    "billing_error": PermissionDenied,
    "permission_error": PermissionDenied,
    "not_found_error": ModelNotFound,
    "request_too_large": InvalidModelRequest,
    "rate_limit_error": RateLimited,
    "api_error": ProviderFailed,
    "timeout_error": ProviderTimeout,
    "overloaded_error": Overloaded,
}
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
ERRORS = ErrorTable(
    body=_body,
    means_statuses=True,
    names=_NAMES,
    names_are_codes=True,
    passes_codes=True,
    unknown="model_stream",
    statuses={**STATUSES, 503: ProviderFailed},
    too_long="prompt is too long:",
    written={name: WrittenError(status, name) for name, status in _STATUSES.items()}
    | {QUOTA_CODE: WrittenError(402, "billing_error")},
)
