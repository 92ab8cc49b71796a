"""Anthropic Messages from bytes to events: what the recordings do not show."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import EventTooLarge, MalformedEvent, ProviderError, StreamIncomplete
from turnstream.wires.anthropic.decoder import AnthropicDecoder
from turnstream.wires.anthropic.wire import WIRE
from turnstream.wires.recording import decode_pieces

STOP = {"type": "message_stop"}


def frame(event: Any, name: str | None = None) -> bytes:
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + data + b"\n\n"


def start(usage: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    message = {"id": "m", "model": "c", "role": "assistant", "content": [], **fields}
    return {"type": "message_start", "message": message | ({"usage": usage} if usage is not None else {})}


def block_start(block: Any, index: Any = 0) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(fields: Any, index: Any = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def text(value: str, index: int = 0) -> dict[str, Any]:
    return delta({"type": "text_delta", "text": value}, index)


def decode(*events: Any, on_malformed: Literal["fail", "skip"] = "fail") -> list[StreamEvent]:
    return WIRE.decoder(on_malformed=on_malformed).feed(
        b"".join(e if isinstance(e, bytes) else frame(e) for e in events)
    )


def decode_one(event: Any) -> StreamEvent:
    (decoded,) = decode(event)
    return decoded


@pytest.mark.requirement("E2")
@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (text("a"), TextDelta(0, "a")),
        (delta({"type": "thinking_delta", "thinking": "a", "estimated_tokens": 5}, 2), ThinkingDelta(2, "a")),
        (delta({"type": "input_json_delta", "partial_json": "{"}), ToolInputDelta(0, "{")),
        (delta({"type": "signature_delta", "signature": "s"}), SignatureDelta(0, "s")),
        (
            delta({"type": "citations_delta", "citation": {"type": "x"}}),
            ContentDelta(0, {"citations": [{"type": "x"}]}),
        ),
        (delta({"type": "compaction_delta", "content": "c"}), ContentDelta(0, {"content": "c"})),
        (
            delta({"type": "new_delta", "value": 1}),
            ContentDelta(0, {"deltas": [{"type": "new_delta", "value": 1}]}),
        ),
        (delta({"type": "text_delta", "text": None}), TextDelta(0, "")),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}, TextDelta(0, "a")),
        ({"type": "content_block_stop", "index": 3, "new": 1}, ContentBlockStop(3)),
        (block_start({"type": "text", "text": ""}, 1), ContentBlockStart(1, "text")),
        (block_start({"type": "text", "text": "", "citations": []}), ContentBlockStart(0, "text")),
        (
            block_start({"type": "text", "text": "", "citations": [{"type": "x"}], "new": 1}),
            ContentBlockStart(0, "text", {"citations": [{"type": "x"}], "provider_metadata": {"new": 1}}),
        ),
        (
            block_start({"type": "thinking", "thinking": "", "signature": ""}),
            ContentBlockStart(0, "thinking"),
        ),
        (
            block_start({"type": "redacted_thinking", "data": "x"}),
            ContentBlockStart(0, "thinking", {"redacted": "x"}),
        ),
        (
            block_start(
                {"type": "tool_use", "id": "t", "name": "n", "input": {}, "caller": {"type": "direct"}}
            ),
            ContentBlockStart(
                0,
                "tool_use",
                {"tool_use_id": "t", "tool_name": "n", "provider_metadata": {"caller": {"type": "direct"}}},
            ),
        ),
        (
            block_start(
                {"type": "mcp_tool_use", "id": "t", "name": "n", "input": {"a": 1}, "server_name": "s"}
            ),
            ContentBlockStart(
                0,
                "tool_use",
                {
                    "tool_use_id": "t",
                    "tool_name": "n",
                    "input": {"a": 1},
                    "provider_executed": True,
                    "provider_metadata": {"type": "mcp_tool_use", "server_name": "s"},
                },
            ),
        ),
        (
            block_start(
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "t",
                    "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"},
                }
            ),
            ContentBlockStart(
                0,
                "tool_result",
                {
                    "tool_use_id": "t",
                    "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"},
                    "is_error": True,
                    "provider_executed": True,
                    "provider_metadata": {"type": "web_search_tool_result"},
                },
            ),
        ),
        (
            block_start({"type": "brand_new", "value": [1]}),
            ContentBlockStart(0, "provider", {"type": "brand_new", "value": [1]}),
        ),
    ],
)
def test_events(event: dict[str, Any], expected: StreamEvent) -> None:
    assert decode_one(event) == expected


@pytest.mark.requirement("E2")
@pytest.mark.parametrize(
    "ignored",
    [
        {"type": "ping"},
        {"type": "brand_new_event", "value": 1},
        frame(b"", "ping"),
        frame(b"not JSON", "ping"),
        frame(b"[DONE]"),
        frame(b" "),
        b": comment\n\n",
    ],
)
def test_what_says_nothing_is_no_event(ignored: Any) -> None:
    assert decode(ignored, text("a"), ignored) == [TextDelta(0, "a")]


def test_blocks_may_begin_with_their_content() -> None:
    assert decode(
        block_start({"type": "text", "text": "a"}),
        block_start({"type": "thinking", "thinking": "t", "signature": "s"}, 1),
        block_start({"type": "tool_use", "id": "i", "name": "n", "input": '{"a"'}, 2),
    ) == [
        ContentBlockStart(0, "text"),
        TextDelta(0, "a"),
        ContentBlockStart(1, "thinking"),
        ThinkingDelta(1, "t"),
        SignatureDelta(1, "s"),
        ContentBlockStart(2, "tool_use", {"tool_use_id": "i", "tool_name": "n"}),
        ToolInputDelta(2, '{"a"'),
    ]


def test_a_message_may_begin_with_whole_blocks() -> None:
    content = [
        {"type": "text", "text": ""},
        {"type": "text", "text": "a"},
        {"type": "redacted_thinking", "data": "x"},
    ]
    assert decode(start(content=content)) == [
        MessageStart("m", "c"),
        ContentBlockStart(1, "text"),
        TextDelta(1, "a"),
        ContentBlockStop(1),
        ContentBlockStart(2, "thinking", {"redacted": "x"}),
        ContentBlockStop(2),
    ]


def test_a_repeated_message_start_is_no_second_message() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2}
    metadata = Metadata(Usage(1, 2), usage)
    content = [{"type": "text", "text": "a"}]
    assert decode(start(usage, content=content), start(usage, content=content)) == [
        MessageStart("m", "c"),
        ContentBlockStart(0, "text"),
        TextDelta(0, "a"),
        ContentBlockStop(0),
        metadata,
        metadata,
    ]


@pytest.mark.requirement("B3")
def test_deltas_of_an_unknown_block_stay_raw() -> None:
    raw = {"type": "input_json_delta", "partial_json": "{"}
    events = decode(
        block_start({"type": "brand_new"}),
        delta(raw),
        text("a"),
        {"type": "content_block_stop", "index": 0},
        delta(raw),
    )
    assert events == [
        ContentBlockStart(0, "provider", {"type": "brand_new"}),
        ContentDelta(0, {"deltas": [raw]}),
        TextDelta(0, "a"),
        ContentBlockStop(0),
        ToolInputDelta(0, "{"),
    ]


@pytest.mark.requirement("E4", "E6")
def test_nothing_counts_after_a_malformed_delta_of_a_raw_block() -> None:
    """Its bytes pass for a plain delta until it is kept whole; what follows it in the same read must not be taken."""
    begin = frame(start()) + frame(block_start({"type": "brand_new"}))
    bad = frame(delta({"type": "input_json_delta", "partial_!son": ""})).replace(b"!", b"\x96")
    rest = frame(delta({"type": "input_json_delta", "partial_json": "{"})) + bad.replace(b"\x96", b"\xff")
    found: list[tuple[list[StreamEvent], str]] = []
    for first in (begin + bad + rest, begin):
        decoder, events = WIRE.decoder(), list[StreamEvent]()
        events += decoder.feed(first)
        with pytest.raises(MalformedEvent) as failure:
            decoder.feed(bad)
        found.append((events, str(failure.value)))
    assert found[0] == found[1]
    assert isinstance(found[0][0][-1], ContentBlockStart)


@pytest.mark.requirement("E3")
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("end_turn", "end_turn"),
        ("max_tokens", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("tool_use", "tool_use"),
        ("pause_turn", "pause_turn"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "max_tokens"),
        ("brand_new", "unknown"),
        (None, None),
    ],
)
def test_stop_reasons(raw: str | None, expected: str | None) -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}}
    ended = {"type": "message_delta", "delta": {"stop_reason": raw, "stop_sequence": "###"}}
    assert decode(start, ended, STOP)[2:] == [MessageStop(expected, raw, "###")]  # type: ignore[arg-type]


def test_a_second_stop_is_not_reported_and_late_metadata_is() -> None:
    late = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5}}
    metrics = {"type": "message_stop", "invocation": {"latency": 3}}
    assert decode(STOP, late, metrics) == [
        MessageStop(),
        Metadata(Usage(None, 5), {"output_tokens": 5}),
        Metadata(provider_metadata={"invocation": {"latency": 3}}),
    ]


def test_what_is_said_of_the_whole_message_is_kept() -> None:
    details = {"type": "refusal", "category": "cyber"}
    event = {
        "type": "message_delta",
        "delta": {"stop_details": details, "container": None},
        "context_management": {},
    }
    assert decode(start(container={"id": "c"}), event) == [
        MessageStart("m", "c"),
        Metadata(provider_metadata={"container": {"id": "c"}}),
        Metadata(provider_metadata={"stop_details": details, "context_management": {}}),
    ]


@pytest.mark.requirement("I1")
@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ({"input_tokens": 45, "output_tokens": 1}, {"output_tokens": 12}, (45, 12)),
        ({"input_tokens": 45, "output_tokens": 1}, {"input_tokens": None, "output_tokens": 12}, (45, 12)),
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 45, "output_tokens": 12}, (45, 12)),
        ({"input_tokens": 45, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 12}, (45, 12)),
        ({"input_tokens": 45, "output_tokens": 9}, {"input_tokens": 60, "output_tokens": 0}, (60, 0)),
        ({}, {"output_tokens": 12}, (None, 12)),
        ({"input_tokens": "45", "output_tokens": True}, {"output_tokens": -1}, (None, None)),
    ],
)
def test_usage_is_cumulative(first: dict[str, Any], last: dict[str, Any], expected: tuple[int, int]) -> None:
    events = [start(first), {"type": "message_delta", "delta": {}, "usage": last}, STOP]
    usage = decode_pieces(WIRE, [frame(event) for event in events])["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == expected
    assert len(usage) == 5


def test_null_in_usage_never_hides_what_was_said() -> None:
    usage = {"input_tokens": 5, "output_tokens": 1, "service_tier": None}
    last = {"input_tokens": None, "output_tokens": 9, "server_tool_use": None}
    events = [start(usage), {"type": "message_delta", "delta": {}, "usage": last}, STOP]
    decoded = decode_pieces(WIRE, [frame(event) for event in events])
    assert decoded["raw_usage"] == {
        "input_tokens": 5,
        "output_tokens": 9,
        "service_tier": None,
        "server_tool_use": None,
    }


@pytest.mark.requirement("B4", "E4")
@pytest.mark.parametrize("kind", ["text_delta", "thinking_delta", "input_json_delta"])
def test_a_surrogate_pair_halved_over_two_events_is_joined(kind: str) -> None:
    block, field = {
        "text_delta": ({"type": "text", "text": ""}, "text"),
        "thinking_delta": ({"type": "thinking", "thinking": ""}, "thinking"),
        "input_json_delta": ({"type": "tool_use", "id": "t", "name": "n", "input": {}}, "partial_json"),
    }[kind]
    wrap = ('{"a": "', '"}') if kind == "input_json_delta" else ("<", ">")
    halves = [wrap[0] + "\ud83d", "\ude00" + wrap[1]]
    body = [
        frame(block_start(block)),
        *(frame(delta({"type": kind, field: half})) for half in halves),
        frame(STOP),
    ]
    (decoded,) = decode_pieces(WIRE, body)["blocks"]
    if kind == "input_json_delta":
        assert decoded["content"]["input"] == {"a": "\U0001f600"}
    else:
        assert decoded["text_content"] == "<\U0001f600>"


@pytest.mark.requirement("B4")
def test_lone_surrogates_elsewhere_become_replacement_characters() -> None:
    result = {"type": "web_search_tool_result", "tool_use_id": "t", "content": ["\ud83d"]}
    decoded = decode_one(block_start(result))
    assert isinstance(decoded, ContentBlockStart)
    assert decoded.content is not None
    assert decoded.content["content"] == ["\ufffd"]
    assert decode_one(delta({"type": "signature_delta", "signature": "a\ude00"})) == SignatureDelta(
        0, "a\ufffd"
    )
    for fields in (
        {"type": "citations_delta", "citation": "\ud83d"},
        {"type": "brand_new", "value": "\ud83d"},
    ):
        json.dumps(decode_one(delta(fields)).content, ensure_ascii=False).encode()  # type: ignore[union-attr]


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
        b'{"type": "content_block_start", "index": 0}',
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


words = st.sampled_from(
    ["type", "index", "delta", "text", "content_block", "message", "usage", "content", "error", "id", "citations",
     "content_block_delta", "content_block_start", "content_block_stop", "message_start", "message_delta",
     "message_stop", "text_delta", "input_json_delta", "signature_delta", "tool_use", "web_search_tool_result",
     "input", "partial_json", "signature", "stop_reason", "image", "source", "input_tokens", "\ud83d"]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=5),
    max_leaves=12,
)
event_like = st.fixed_dictionaries(
    {"type": words},
    optional={
        "index": st.integers(-1, 3) | values,
        "delta": st.fixed_dictionaries({"type": words}, optional={"text": values, "partial_json": values}) | values,
        "content_block": st.fixed_dictionaries({"type": words}, optional={"id": values, "input": values, "content": values}) | values,
        "message": st.fixed_dictionaries({}, optional={"content": values, "usage": values, "id": values}) | values,
    },
)  # fmt: skip
bodies = st.lists(
    st.binary(max_size=20)
    | st.builds(frame, event_like | values, st.none() | st.sampled_from(["error", "ping", "message_stop"])),
    max_size=8,
).map(b"".join)


@pytest.mark.requirement("E6")
@settings(deadline=None, max_examples=300)
@given(bodies, st.integers(1, 40), st.sampled_from(["fail", "skip"]))
def test_only_our_errors_escape_and_any_cut_decodes_alike(
    body: bytes, size: int, on_malformed: Literal["fail", "skip"]
) -> None:
    whole = outcome([body], on_malformed)
    assert outcome([body[i : i + size] for i in range(0, len(body), size)], on_malformed) == whole


def outcome(
    pieces: list[bytes], on_malformed: Literal["fail", "skip"]
) -> tuple[list[StreamEvent], str | None]:
    decoder = WIRE.decoder(on_malformed=on_malformed, event_limit=300)
    events: list[StreamEvent] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.close()
    except ProviderError as error:
        return events, error.code
    return events, None


@settings(deadline=None)
@given(
    st.sampled_from(["text_delta", "thinking_delta", "input_json_delta", "signature_delta", "new_delta"]),
    st.dictionaries(
        st.sampled_from(["text", "thinking", "partial_json", "signature", "new"]), values, max_size=4
    ),
    st.integers(0, 2**70) | values,
    st.booleans(),
)
def test_both_ways_to_decode_a_delta_agree(
    kind: str, fields: dict[str, Any], index: Any, in_raw_block: bool
) -> None:
    payload = json.dumps(delta({"type": kind, **fields}, index)).encode()
    opening = frame(block_start({"type": "brand_new"})) if in_raw_block else b""
    fast = AnthropicDecoder(event_limit=1 << 20, on_malformed="skip")
    generic = AnthropicDecoder(event_limit=1 << 20, on_malformed="skip")
    fast.feed(opening)
    generic.feed(opening)
    expected: list[StreamEvent] = []
    generic._decode_other(None, payload, expected)  # pyright: ignore[reportPrivateUsage]
    assert fast.feed(frame(payload)) == expected
