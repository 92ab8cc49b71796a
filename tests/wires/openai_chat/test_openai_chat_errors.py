"""Errors of chat.completions, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnstream.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidModelRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.openai_chat.wire import WIRE

# --- errors -------------------------------------------------------------------------------------------------


def answer(message: str = "words", **fields: Any) -> bytes:
    return json.dumps({"error": {"message": message, **fields}}).encode()


@pytest.mark.requirement("D4", "J1", "J2")
@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (401, answer(type="invalid_request_error", code="invalid_api_key"), AuthenticationFailed, "authentication_error"),
        (401, b"<html>no</html>", AuthenticationFailed, "authentication_error"),
        (403, answer(), PermissionDenied, "permission_error"),
        (404, answer(code="model_not_found"), ModelNotFound, "not_found_error"),
        (400, answer(type="invalid_request_error"), InvalidModelRequest, "invalid_request_error"),
        (400, answer(code="context_length_exceeded"), ContextLengthExceeded, "context_length_exceeded"),
        (400, answer("This model's maximum context length is 8192 tokens"), ContextLengthExceeded, "context_length_exceeded"),
        (413, answer("prompt is too long: 9 > 8"), ContextLengthExceeded, "context_length_exceeded"),
        (400, answer(code="content_filter"), ContentFiltered, "content_filtered"),
        (422, b'{"detail":[{"loc":["body"],"msg":"field required"}]}', InvalidModelRequest, "invalid_request_error"),
        (429, answer(type="requests", code="rate_limit_exceeded"), RateLimited, "rate_limit_error"),
        (429, answer(type="insufficient_quota", code="insufficient_quota"), RateLimited, "insufficient_quota"),
        (402, answer(code=402), RateLimited, "insufficient_quota"),
        (500, answer(type="server_error"), ProviderFailed, "api_error"),
        (502, b"", ProviderFailed, "api_error"),
        (503, answer(), Overloaded, "overloaded_error"),
        (529, b"overloaded", Overloaded, "overloaded_error"),
        (504, b"", ProviderTimeout, "timeout_error"),
        (418, answer(), InvalidModelRequest, "invalid_request_error"),
        (400, b'{"object":"error","message":"words","type":"BadRequestError","code":400}', InvalidModelRequest, "invalid_request_error"),
    ],
)  # fmt: skip
def test_errors_by_status_and_code(
    status: int, body: bytes, expected: type[ProviderError], code: str
) -> None:
    error = WIRE.decode_error(status, {}, body)
    assert type(error) is expected
    assert error.code == code
    assert error.provider_status == status
    assert error.retryable is (False if code == "insufficient_quota" else expected.retryable)
    assert "words" not in error.message, "the provider's words are for debugging only"


def test_the_provider_s_words_are_the_detail() -> None:
    assert WIRE.decode_error(400, {}, answer("words")).detail == "words"
    assert WIRE.decode_error(400, {}, b"plain").detail == "plain"
    assert len(WIRE.decode_error(400, {}, b"x" * 10**6).detail or "") < 5000
    assert WIRE.decode_error(500, {}, b"[" * 10**5).code == "api_error"


@pytest.mark.requirement("J1")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.5", "Retry-After-Ms": "250"}, 0.25),
        ({"RETRY-AFTER": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert WIRE.decode_error(429, headers, b"").retry_after == seconds


@pytest.mark.requirement("K3")
@pytest.mark.parametrize(
    "kind",
    [
        AuthenticationFailed,
        PermissionDenied,
        ModelNotFound,
        InvalidModelRequest,
        ContextLengthExceeded,
        ContentFiltered,
        RateLimited,
        Overloaded,
        ProviderFailed,
        ProviderTimeout,
    ],
)
def test_an_error_decodes_to_itself(kind: type[ProviderError]) -> None:
    status, body = WIRE.encode_error(kind("for people", detail="the provider's own"))
    assert b"the provider's own" not in body
    again = WIRE.decode_error(status, {}, body)
    assert (type(again), again.detail) == (kind, "for people")
    spent = WIRE.encode_error(RateLimited("spent", code="insufficient_quota", retryable=False))
    assert WIRE.decode_error(spent[0], {}, spent[1]).code == "insufficient_quota"
