"""Errors of Gemini, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnstream.core.stream_events import StreamError
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
from turnstream.wires.gemini.wire import WIRE

# --- errors -------------------------------------------------------------------------------------------------


def failed(code: int, status: str, message: str = "no", *details: Any) -> bytes:
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return json.dumps({"error": error}).encode()


CONTEXT = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
ERRORS: list[tuple[int, bytes, type[ProviderError]]] = [
    (401, failed(401, "UNAUTHENTICATED"), AuthenticationFailed),
    (
        400,
        failed(400, "INVALID_ARGUMENT", "API key not valid.", {"reason": "API_KEY_INVALID"}),
        AuthenticationFailed,
    ),
    (403, failed(403, "PERMISSION_DENIED"), PermissionDenied),
    (404, failed(404, "NOT_FOUND"), ModelNotFound),
    (400, failed(400, "INVALID_ARGUMENT", "bad field"), InvalidModelRequest),
    (400, failed(400, "INVALID_ARGUMENT", CONTEXT), ContextLengthExceeded),
    (400, failed(400, "FAILED_PRECONDITION"), InvalidModelRequest),
    (429, failed(429, "RESOURCE_EXHAUSTED"), RateLimited),
    (503, failed(503, "UNAVAILABLE", "The model is overloaded."), Overloaded),
    (500, failed(500, "INTERNAL"), ProviderFailed),
    (504, failed(504, "DEADLINE_EXCEEDED"), ProviderTimeout),
    (499, failed(499, "CANCELLED"), ProviderFailed),
    (503, b"<html>", Overloaded),
    (418, b"", InvalidModelRequest),
    (502, b"\xff", ProviderFailed),
    (500, b'{"error": "words"}', ProviderFailed),
]


@pytest.mark.requirement("D4", "J2")
@pytest.mark.parametrize(("status", "body", "kind"), ERRORS)
def test_http_errors(status: int, body: bytes, kind: type[ProviderError]) -> None:
    for given in (body, b"[" + body + b"]") if body.startswith(b"{") else (body,):
        error = WIRE.decode_error(status, {}, given)
        assert type(error) is kind
        assert error.provider_status == status
    assert "no" not in error.message.split()


@pytest.mark.requirement("J2")
def test_the_time_to_wait() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"}
    quota = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{}]}
    body = failed(429, "RESOURCE_EXHAUSTED", "quota", quota, info)
    assert WIRE.decode_error(429, {"Retry-After": "3"}, body).retry_after == 37.5
    assert WIRE.decode_error(429, {"Retry-After": "3"}, b"{}").retry_after == 3
    assert WIRE.decode_error(429, {"Retry-After": "soon"}, b"{}").retry_after is None


@pytest.mark.requirement("J2")
@pytest.mark.parametrize(
    "kind", sorted({kind for _, _, kind in ERRORS}, key=str), ids=lambda kind: kind.__name__
)
def test_errors_are_written_as_they_are_read(kind: type[ProviderError]) -> None:
    error = kind("no", retry_after=2.5)
    status, body = WIRE.encode_error(error)
    again = WIRE.decode_error(status, {}, body)
    assert (type(again), again.retry_after) == (kind, 2.5)
    assert json.loads(body)["error"]["code"] == status
    encoder = WIRE.encoder(model="m", message_id="i")
    said_in_stream = encoder.feed([StreamError("validation", kind.code, "no")]) + encoder.close()
    decoder = WIRE.decoder()
    (event,) = [*decoder.feed(said_in_stream), *decoder.close()]
    assert isinstance(event, StreamError)
    assert event.code == kind.code


def test_a_filter_is_a_bad_request_here() -> None:
    assert WIRE.encode_error(ContentFiltered("no"))[0] == 400
