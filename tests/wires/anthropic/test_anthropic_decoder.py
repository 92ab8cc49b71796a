"""Anthropic Messages from bytes to events, beyond the recordings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.anthropic.events import STOP, block_start, decode, delta, frame, start, text
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import MalformedEvent
from turnstream.llm.assembly import MessageAssembler
from turnstream.wires.anthropic.wire import WIRE
from turnstream.wires.recording import decode_pieces


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


@pytest.mark.requirement("E1", "I1")
def test_events_may_hold_the_least_that_says_something() -> None:
    """A gateway may leave out the fields that its own client does not read."""
    least = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 45}}},
        {"type": "content_block_start", "index": 0},
        text("Two"),
        text(" words"),
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3}},
        STOP,
    ]
    assembler = MessageAssembler(wire="anthropic")
    for event in least:
        assembler.feed_bytes(frame(event))
    assembler.close()
    message = assembler.current_message
    assert (message.text, message.complete, message.usage) == ("Two words", True, Usage(45, 3))
    stopped = [*least[:2], {"type": "content_block_stop", "index": 0}, STOP]
    assert not [event for event in decode(*stopped) if type(event) is ContentBlockStart]


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
    """The event looks like a plain delta. The bytes after it in the same read must not be taken."""
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
