"""Errors within streams of chat.completions, and malformed events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.openai_chat.chunks import (
    DONE,
    END,
    FINISH,
    blocks,
    body,
    chunk,
    decode,
    frame,
    outcome,
    text,
)
from turnstream.core.stream_events import (
    StreamError,
    StreamNotice,
    TextDelta,
)
from turnstream.errors import EventTooLarge, MalformedEvent
from turnstream.wires.openai_chat.wire import WIRE
from turnstream.wires.recording import decode_pieces
from turnstream.wires.shared.lenient_json import EVENT_NESTING_LIMIT

# --- errors -------------------------------------------------------------------------------------------------

IN_BAND: dict[str, tuple[bytes, str, str]] = {
    "openai": (frame({"error": {"message": "boom", "type": "server_error", "code": None}}), "api_error", "boom"),
    "by name": (frame({"error": {"message": "boom", "type": "invalid_request_error"}}, "error"), "invalid_request_error", "boom"),
    "by name, bare": (frame({"message": "boom", "type": "rate_limit_error"}, "error"), "rate_limit_error", "boom"),
    "by name, text": (frame(b"boom", "error"), "api_error", "boom"),
    "text": (frame({"error": "boom"}), "api_error", "boom"),
    "with a status": (frame({"error": {"message": "boom", "code": 429}}), "rate_limit_error", "boom"),
    "with a status as text": (frame({"error": {"message": "boom", "code": "503"}}), "overloaded_error", "boom"),
    "anthropic": (frame({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}}), "overloaded_error", "boom"),
    "vllm": (frame({"object": "error", "message": "boom", "type": "BadRequestError", "code": 400}), "invalid_request_error", "boom"),
    "in a list": (frame([{"error": {"message": "boom", "status": 401}}]), "authentication_error", "boom"),
    "dashscope": (frame({"code": "Throttling", "message": "boom", "request_id": "r"}), "rate_limit_error", "boom"),
    "fastapi": (frame({"detail": "boom"}), "api_error", "boom"),
    "openrouter": (
        frame({"id": "c", "error": {"code": 502, "message": "boom"}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}),
        "api_error",
        "boom",
    ),
    "in a choice": (
        frame({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 429, "message": "boom"}}]}),
        "rate_limit_error",
        "boom",
    ),
    "minimax": (frame({"id": "c", "choices": None, "base_resp": {"status_code": 1002, "status_msg": "boom"}}), "api_error", "boom"),
    "tgi": (frame({"error": "boom", "error_type": "overloaded"}), "overloaded_error", "boom"),
    "groq": (frame({"id": "c", "choices": [], "x_groq": {"id": "r", "error": "boom"}}), "api_error", "boom"),
    "no words": (frame({"error": {"code": "context_length_exceeded"}}), "context_length_exceeded", '{"code":"context_length_exceeded"}'),
}  # fmt: skip


@pytest.mark.requirement("E2", "D4", "P5")
@pytest.mark.parametrize("shape", IN_BAND)
def test_errors_in_the_stream(shape: str) -> None:
    error, code, message = IN_BAND[shape]
    decoded = decode_pieces(WIRE, [body(text("so far"), error, text("ignored"), FINISH)])
    assert decoded["complete"] is False
    assert decoded["error"] == {"code": code, "message": message}
    assert [block["text_content"] for block in decoded["blocks"]] == ["so far"]
    assert decoded["stop_reason"] is None


@pytest.mark.requirement("E2")
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "m", "code": 429}, "throttling"),
        ({"message": "m", "type": "server_error"}, "internal_server"),
        ({"message": "m", "code": 503}, "service_unavailable"),
        ({"message": "m", "type": "invalid_request_error"}, "validation"),
        (
            {"message": "m", "type": "invalid_request_error", "code": "tool_use_failed", "status_code": 400},
            "model_stream",
        ),
    ],
)
def test_kinds_of_stream_errors(error: dict[str, Any], kind: str) -> None:
    event = decode(frame({"error": error}))[-1]
    assert isinstance(event, StreamError)
    assert event.kind == kind


@pytest.mark.requirement("P5")
@pytest.mark.parametrize("reason", ["error", "network_error", "insufficient_system_resource", "abort"])
def test_a_finish_reason_that_says_failure_is_one(reason: str) -> None:
    decoded = decode_pieces(WIRE, [body(text("a"), chunk(finish=reason))])
    assert decoded["complete"] is False
    assert decoded["error"]["code"] == ("overloaded_error" if "resource" in reason else "api_error")


@pytest.mark.parametrize(
    "nothing", [{"error": None}, {"error": {}}, {"error": ""}, {"message": "fyi"}, {"code": 0, "data": None}]
)
def test_what_is_no_error(nothing: dict[str, Any]) -> None:
    assert blocks(text("a"), nothing, FINISH) == [("text", "a")]


# --- malformed ----------------------------------------------------------------------------------------------

MALFORMED = [
    b"{",
    b"not json",
    b"[]",
    b"1",
    b'"text"',
    b'{"a":' * 2000,
    b"[" * 100_000,
    b"\xff\xfe",
    b'{"choices":[{"delta":{"content":"\xff"}}]}',
]


@pytest.mark.requirement("E6")
@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data[:12]))
def test_malformed_events_fail_or_are_skipped(data: bytes) -> None:
    decoder = WIRE.decoder()
    assert decoder.feed(body(text("a"), frame(data), text("b"), FINISH))[-1] == TextDelta(0, "a"), (
        "what came before is given"
    )
    with pytest.raises(MalformedEvent):
        decoder.feed(DONE)
    with pytest.raises(MalformedEvent):
        decoder.close()
    decoder = WIRE.decoder(on_malformed="skip")
    events = [*decoder.feed(body(text("a"), frame(data), text("b"), FINISH)), *decoder.close()]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b"]
    assert [event.code for event in events if isinstance(event, StreamNotice)] == ["malformed_event"]
    assert events[-1] == END


@pytest.mark.requirement("E6")
@pytest.mark.parametrize("field", ["extra", "annotations", "reasoning_details", "content"])
def test_absurd_nesting_is_malformed(field: str) -> None:
    deep: Any = "x"
    for _ in range(EVENT_NESTING_LIMIT + 5):
        deep = [deep]
    delta = {field: [{"type": "reasoning.text", "text": "t", "more": deep}]}
    decoder = WIRE.decoder()
    with pytest.raises(MalformedEvent):
        decoder.feed(body(chunk(delta), done=False))
    with pytest.raises(MalformedEvent):
        WIRE.decoder().feed(frame({"id": "c", "choices": [], "usage": {"more": deep}}))


def test_what_is_beside_the_wire_is_ignored() -> None:
    events = [
        frame(b"", None),
        frame({"type": "ping"}, "ping"),
        frame(b"pong", "ping"),
        frame(b"null"),
        b": data: x\n\n",
    ]
    assert blocks(text("a"), *events, text("b"), FINISH) == [("text", "ab")]


@pytest.mark.requirement("E4")
def test_an_event_above_the_limit_is_refused() -> None:
    decoder = WIRE.decoder(event_limit=200)
    decoder.feed(body(text("a"), done=False))
    with pytest.raises(EventTooLarge):
        decoder.feed(frame(text("b" * 200)))


@pytest.mark.requirement("B4")
def test_a_surrogate_pair_halved_over_two_events() -> None:
    halves = [
        rb'{"id":"c","model":"m","choices":[{"index":0,"delta":{"%b":"%b"}}]}' % (name, half)
        for name in (b"content", b"reasoning")
        for half in (rb"a\ud83d", rb"\ude00b")
    ]
    assert blocks(*halves, FINISH) == [("text", "a😀b"), ("thinking", "a😀b")]
    fragments = [
        rb'{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"i","function":{"name":"f","arguments":"%b"}}]}}]}'
        % part
        for part in (rb"{\"x\":\"\ud83d", rb"\ude00\"}")
    ]
    assert blocks(*fragments, FINISH) == [("f", "i", '{"x":"😀"}')]
    strange = rb'{"id":"\ud83d","model":"m","choices":[{"index":0,"delta":{"content":"a","foo":"\ud83d"}}],"usage":{"x":"\udc00"},"provider":"\ud800"}'
    decoded = decode_pieces(WIRE, [body(strange, FINISH)])
    json.dumps(decoded, ensure_ascii=False).encode()


@pytest.mark.fault(18)
@pytest.mark.parametrize("index", [1, True, 3])
def test_text_that_waited_for_its_choice_comes_before_the_error(index: int) -> None:
    chunk = {"error": {"message": "boom"}, "choices": [{"index": index, "delta": {"content": "0"}}]}
    events, _ = outcome([frame(chunk)], "fail")
    assert [type(event).__name__ for event in events[-2:]] == ["TextDelta", "StreamError"]
