"""Errors of the anthropic wire, both ways."""

from __future__ import annotations

import json

import pytest

from turnstream.core.stream_events import ContentBlockStart, StreamNotice
from turnstream.errors import (
    AuthenticationFailed,
    ContextLengthExceeded,
    InvalidModelRequest,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.anthropic.wire import WIRE


@pytest.mark.requirement("D4", "J1", "J2")
@pytest.mark.parametrize(
    ("status", "kind", "message", "error_class"),
    [
        (400, "invalid_request_error", "bad", InvalidModelRequest),
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", ContextLengthExceeded),
        (401, "authentication_error", "invalid x-api-key", AuthenticationFailed),
        (402, "billing_error", "your credit", PermissionDenied),
        (403, "permission_error", "not for you", PermissionDenied),
        (404, "not_found_error", "model: x", ModelNotFound),
        (413, "request_too_large", "big", InvalidModelRequest),
        (429, "rate_limit_error", "slow", RateLimited),
        (500, "api_error", "oops", ProviderFailed),
        (504, "timeout_error", "late", ProviderTimeout),
        (529, "overloaded_error", "busy", Overloaded),
        (503, "brand_new_error", "?", ProviderFailed),
        (418, "brand_new_error", "?", InvalidModelRequest),
    ],
)
def test_errors_of_the_api(status: int, kind: str, message: str, error_class: type[ProviderError]) -> None:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    error = WIRE.decode_error(status, {"Retry-After": "7"}, body)
    assert type(error) is error_class
    assert (error.provider_status, error.detail, error.retry_after) == (status, message, 7.0)
    assert error.code == error_class.code
    assert message not in error.message, "the provider's words are for debugging only"


@pytest.mark.requirement("D4")
@pytest.mark.parametrize(
    ("status", "body", "error_class"),
    [
        (401, b"", AuthenticationFailed),
        (429, b"<html>slow</html>", RateLimited),
        (502, b"\xff\xfe", ProviderFailed),
        (529, b'{"error": "busy"}', Overloaded),
        (400, b"[" * 100_000, InvalidModelRequest),
        (404, b'{"message": "no such model"}', ModelNotFound),
    ],
)
def test_errors_of_another_shape_are_typed_by_status(
    status: int, body: bytes, error_class: type[ProviderError]
) -> None:
    error = WIRE.decode_error(status, {"retry-after": "soon"}, body)
    assert type(error) is error_class
    assert error.retry_after is None
    assert len(error.detail or "") <= 2000


@pytest.mark.parametrize("depth", range(840, 1010, 10))
def test_nesting_at_the_interpreters_limit_is_no_crash(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    assert type(WIRE.decode_error(400, {}, b'{"error":%b}' % nested)) is InvalidModelRequest
    events = WIRE.decoder(on_malformed="skip").feed(b'event: error\ndata: {"error":%b}\n\n' % nested)
    assert len(events) == 1
    (event,) = WIRE.decoder(on_malformed="skip").feed(
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"new","value":%b}}\n\n'
        % nested
    )
    assert isinstance(event, StreamNotice | ContentBlockStart)
    try:
        WIRE.decode_request("", b'{"model":"m","messages":[],"metadata":%b}' % nested)
    except InvalidRequest:
        pass


@pytest.mark.requirement("K3")
@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailed("a", detail="secret"),
        ContextLengthExceeded("long"),
        ModelNotFound("a"),
        RateLimited("a"),
        ProviderFailed("a"),
        ProviderTimeout("a"),
        Overloaded("a"),
        InvalidModelRequest("a"),
    ],
)
def test_errors_are_written_as_the_api_writes_them(error: ProviderError) -> None:
    status, body = WIRE.encode_error(error)
    assert b"secret" not in body
    assert type(WIRE.decode_error(status, {}, body)) is type(error)


def test_an_error_that_the_api_does_not_know_is_its_own_failure() -> None:
    status, body = WIRE.encode_error(ProviderError("broken", code="stream_incomplete"))
    assert (status, json.loads(body)) == (
        500,
        {"type": "error", "error": {"type": "api_error", "message": "broken"}},
    )
