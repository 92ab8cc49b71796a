"""Errors within streams of Anthropic Messages, malformed events, and missing ends."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.wires.anthropic.events import STOP, decode, frame, start, text
from turnstream.core.stream_events import (
    MessageStop,
    StreamError,
    StreamNotice,
    TextDelta,
)
from turnstream.errors import EventTooLarge, MalformedEvent, StreamIncomplete
from turnstream.wires.anthropic.wire import WIRE


@pytest.mark.requirement("D4", "E2")
@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        (
            "error",
            b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "r"}',
            StreamError("service_unavailable", "overloaded_error", "Overloaded"),
        ),
        (
            None,
            b'{"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}',
            StreamError("throttling", "rate_limit_error", "slow down"),
        ),
        (
            None,
            b'{"error": {"type": "authentication_error", "message": "bad key"}}',
            StreamError("validation", "authentication_error", "bad key"),
        ),
        (
            "error",
            b'{"type": "invalid_request_error", "message": "no"}',
            StreamError("validation", "invalid_request_error", "no"),
        ),
        (
            "error",
            b'{"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}',
            StreamError("validation", "context_length_exceeded", "prompt is too long: 9 > 8"),
        ),
        ("error", b'{"type": "error", "error": "gone"}', StreamError("internal_server", "api_error", "gone")),
        ("error", b"upstream timed out", StreamError("internal_server", "api_error", "upstream timed out")),
        ("error", b'"text"', StreamError("internal_server", "api_error", "text")),
        ("error", b"[1]", StreamError("internal_server", "api_error", "[1]")),
        ("error", b"{}", StreamError("internal_server", "api_error", "{}")),
        (
            "error",
            b'{"type": "error", "error": {"type": "brand_new_error", "message": {"a": 1}}}',
            StreamError("model_stream", "brand_new_error", '{"a":1}'),
        ),
    ],
)
def test_errors_in_the_stream(name: str | None, data: bytes, expected: StreamError) -> None:
    decoder = WIRE.decoder()
    assert decoder.feed(frame(text("a")) + frame(data, name) + frame(text("b"))) == [
        TextDelta(0, "a"),
        expected,
    ]
    assert decoder.feed(frame(text("c")) + b"data: {") == []
    assert decoder.close() == []


@pytest.mark.requirement("E6")
@pytest.mark.parametrize(
    "malformed",
    [
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"type": "content_block_delta"}',
        b'{"type": "content_block_delta", "index": "0", "delta": {"type": "text_delta", "text": "a"}}',
        b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 1}}',
        b'{"type": "content_block_start", "index": 0, "content_block": 7}',
        b'{"type": "content_block_start", "index": 0, "content_block": {"type": 1}}',
        b'{"type": "content_block_stop", "index": true}',
        b'{"type": "message_start", "message": []}',
        b'{"type": "message_start", "message": {"id": 5}}',
        b'{"type": "message_start", "message": {"content": [1]}}',
        b'{"type": "message_delta", "delta": []}',
        b'{"type": "message_delta", "delta": {"stop_reason": 5}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type": "x", "value": NaN}',
    ],
)
def test_a_malformed_event_fails_the_stream_or_is_skipped_with_a_notice(malformed: bytes) -> None:
    body = frame(text("a")) + frame(malformed) + frame(text("b"))
    decoder = WIRE.decoder()
    assert decoder.feed(body) == [TextDelta(0, "a")], "what came before it is not lost"
    for call in (lambda: decoder.feed(b""), decoder.close):
        with pytest.raises(MalformedEvent) as failure:
            call()
    assert failure.value.code == "malformed_event"
    with pytest.raises(MalformedEvent):
        WIRE.decoder().feed(frame(malformed))
    before, notice, after = decode(body, on_malformed="skip")
    assert isinstance(notice, StreamNotice)
    assert notice.code == "malformed_event"
    assert [before, after] == [TextDelta(0, "a"), TextDelta(0, "b")]


@pytest.mark.requirement("E6")
def test_garbage_after_the_end_does_not_undo_the_message() -> None:
    (stop, notice) = decode(STOP, b"data: garbage\n\n")
    assert stop == MessageStop()
    assert isinstance(notice, StreamNotice)


@pytest.mark.requirement("D6", "P5")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        frame(start()),
        frame(start()) + frame(text("a")),
        frame(start()) + b'data: {"type": "message_st',
        b"data: {}",
    ],
)
@pytest.mark.parametrize("on_malformed", ["fail", "skip"])
def test_a_stream_without_its_end_marker_is_incomplete(
    body: bytes, on_malformed: Literal["fail", "skip"]
) -> None:
    decoder = WIRE.decoder(on_malformed=on_malformed)
    decoder.feed(body)
    with pytest.raises(StreamIncomplete) as failure:
        decoder.close()
    assert failure.value.code == "stream_incomplete"


@pytest.mark.requirement("E4")
def test_the_end_marker_may_lack_its_line_end() -> None:
    decoder = WIRE.decoder()
    assert decoder.feed(b'event: message_stop\ndata: {"type": "message_stop"}') == []
    assert decoder.close() == [MessageStop()]


@pytest.mark.requirement("E4")
def test_an_event_above_the_limit_is_refused() -> None:
    decoder = WIRE.decoder(event_limit=1000)
    assert decoder.feed(frame(text("a" * 500))) == [TextDelta(0, "a" * 500)]
    with pytest.raises(EventTooLarge):
        decoder.feed(frame(text("a" * 1000)))
