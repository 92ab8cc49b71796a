"""Error table of OpenAI-like providers, shared by the wires `openai-chat` and `openai-responses`."""

from __future__ import annotations

from turnstream.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidModelRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.shared.error_engine import ErrorTable, WrittenError
from turnstream.wires.shared.failure_words import QUOTA_CODE
from turnstream.wires.shared.json_values import JsonObject


def _body(written: WrittenError, message: str, _wait: float | None) -> JsonObject:
    return {"error": {"message": message, "type": written.type, "param": None, "code": written.code}}


ERRORS = ErrorTable(
    body=_body,
    coded=True,
    passes_codes=True,
    model_failures=frozenset({"tool_use_failed"}),
    quota_words=("quota", "billing", "insufficient_balance"),
    names={
        "tokens": RateLimited,
        "requests": RateLimited,
        "tokens_limit_reached": ContextLengthExceeded,
        "data_inspection_failed": ContentFiltered,
        "insufficient_system_resource": Overloaded,
        "network_error": ProviderFailed,
        "sensitive": ContentFiltered,
        "bio_policy": ContentFiltered,
        "misalignment_policy_violation": ContentFiltered,
    },
    parts=(
        ("context_length", ContextLengthExceeded),
        ("context_window", ContextLengthExceeded),
        ("context_size", ContextLengthExceeded),
        ("max_prompt_tokens_exceeded", ContextLengthExceeded),
        ("content_filter", ContentFiltered),
        ("content_policy", ContentFiltered),
        ("api_key", AuthenticationFailed),
        ("authentication", AuthenticationFailed),
        ("unauthorized", AuthenticationFailed),
        ("permission", PermissionDenied),
        ("forbidden", PermissionDenied),
        ("access_denied", PermissionDenied),
        ("not_found", ModelNotFound),
        ("rate_limit", RateLimited),
        ("too_many_requests", RateLimited),
        ("quota", RateLimited),
        ("billing", RateLimited),
        ("insufficient_balance", RateLimited),
        ("throttl", RateLimited),
        ("overloaded", Overloaded),
        ("unavailable", Overloaded),
        ("timeout", ProviderTimeout),
        ("invalid", InvalidModelRequest),
        ("bad_request", InvalidModelRequest),
        ("badrequest", InvalidModelRequest),
        ("validation", InvalidModelRequest),
        ("unsupported", InvalidModelRequest),
        ("server_error", ProviderFailed),
        ("internal", ProviderFailed),
        ("upstream", ProviderFailed),
    ),
    written={
        AuthenticationFailed.code: WrittenError(401, "invalid_request_error", "invalid_api_key"),
        PermissionDenied.code: WrittenError(403, "permission_error", "permission_denied"),
        ModelNotFound.code: WrittenError(404, "invalid_request_error", "model_not_found"),
        ContextLengthExceeded.code: WrittenError(400, "invalid_request_error", "context_length_exceeded"),
        InvalidModelRequest.code: WrittenError(400, "invalid_request_error"),
        ContentFiltered.code: WrittenError(400, "invalid_request_error", "content_filter"),
        RateLimited.code: WrittenError(429, "rate_limit_error", "rate_limit_exceeded"),
        QUOTA_CODE: WrittenError(429, QUOTA_CODE, QUOTA_CODE),
        Overloaded.code: WrittenError(503, "overloaded_error", "overloaded"),
        ProviderTimeout.code: WrittenError(504, "timeout_error", "timeout"),
        ProviderFailed.code: WrittenError(500, "server_error"),
    },
)
