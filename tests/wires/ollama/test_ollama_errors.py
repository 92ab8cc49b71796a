"""Errors of Ollama's protocol, by status and within streams, and malformed lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.ollama.lines import decode, done, message_of, text
from turnstream.core.stream_events import (
    StreamError,
    StreamNotice,
    TextDelta,
)
from turnstream.errors import (
    AuthenticationFailed,
    ContextLengthExceeded,
    EventTooLarge,
    InvalidModelRequest,
    MalformedEvent,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.ollama.wire import WIRE
from turnstream.wires.recording import decode_pieces


@pytest.mark.requirement("D4", "E2")
@pytest.mark.parametrize(
    ("fields", "code", "kind"),
    [
        ({"error": "an error was encountered while running the model"}, "api_error", "internal_server"),
        ({"error": "model 'x' not found, try pulling it first"}, "not_found_error", "validation"),
        ({"error": "the input length exceeds the context length"}, "context_length_exceeded", "validation"),
        ({"error": "slow down", "status": 429}, "rate_limit_error", "throttling"),
        ({"error": {"message": "server busy"}, "StatusCode": 503}, "overloaded_error", "service_unavailable"),
    ],
)
def test_an_error_in_the_stream_is_its_last_event(fields: dict[str, Any], code: str, kind: str) -> None:
    events = decode(text("a") + json.dumps(fields).encode() + b"\n" + text("b") + done())
    assert isinstance(events[-1], StreamError)
    assert (events[-1].code, events[-1].kind) == (code, kind)
    assert message_of(text("a") + json.dumps(fields).encode())["complete"] is False


@pytest.mark.requirement("D4", "J1", "J2")
@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (400, "registry.ollama.ai/library/x does not support tools", InvalidModelRequest),
        (400, "prompt is too long for the context window", ContextLengthExceeded),
        (401, "unauthorized", AuthenticationFailed),
        (403, "this model requires a subscription", PermissionDenied),
        (404, "model 'x' not found", ModelNotFound),
        (429, "you've reached your hourly usage limit", RateLimited),
        (500, "llama runner process has terminated", ProviderFailed),
        (502, "", ProviderFailed),
        (503, "server busy, please try again", Overloaded),
        (504, "", ProviderTimeout),
    ],
)
def test_errors_by_status_come_back_as_they_went(status: int, words: str, kind: type[ProviderError]) -> None:
    error = WIRE.decode_error(status, {"Retry-After": "3"}, json.dumps({"error": words}).encode())
    assert type(error) is kind
    assert (error.provider_status, error.retry_after) == (status, 3.0)
    assert words in (error.detail or "")
    assert words not in error.message or not words
    again = WIRE.decode_error(*flipped(WIRE.encode_error(error)))
    assert type(again) is kind
    assert type(WIRE.decode_error(status, {}, b"<html>nothing here</html>")) is not None


def flipped(encoded: tuple[int, bytes]) -> tuple[int, dict[str, str], bytes]:
    return encoded[0], {}, encoded[1]


@pytest.mark.requirement("E6")
@pytest.mark.parametrize("bad", [b"{\n", b"[1]\n", b"\xff\n", b'{"a":' + b"[" * 200 + b"]" * 200 + b"}\n"])
def test_a_malformed_line_fails_or_is_skipped(bad: bytes) -> None:
    decoder = WIRE.decoder()
    assert decoder.feed(text("a") + bad + text("b"))[-1] == TextDelta(0, "a")
    with pytest.raises(MalformedEvent):
        decoder.feed(b"")
    decoder = WIRE.decoder(on_malformed="skip")
    events = decoder.feed(text("a") + bad + text("b") + done())
    assert [event.code for event in events if isinstance(event, StreamNotice)] == ["malformed_event"]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b"]


@pytest.mark.requirement("E4")
def test_a_line_has_a_limit_wherever_it_is_cut() -> None:
    long = text("x" * 500)
    fitting = len(long) - 1
    assert WIRE.decoder(event_limit=fitting).feed(long)
    for size in (1, 7, len(long)):
        decoder = WIRE.decoder(event_limit=fitting - 1)
        feed_all = [long[at : at + size] for at in range(0, len(long), size)]
        with pytest.raises(EventTooLarge) as refused:
            list(map(decoder.feed, feed_all))
        assert not refused.value.retryable
    large = text("y" * 3_000_000) + done()
    assert len(texts_of_once(large)) == 3_000_000


def texts_of_once(body: bytes) -> str:
    return decode_pieces(WIRE, [body])["blocks"][0]["text_content"]
