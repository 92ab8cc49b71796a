"""chat.completions from events to bytes. The decoder gives the same events again."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.openai_chat.messages import texts
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
from turnstream.wires.openai_chat.wire import WIRE

START = MessageStart("c", "m")


def encode(*events: StreamEvent) -> bytes:
    encoder = WIRE.encoder(model="model", message_id="id")
    return encoder.feed(events) + encoder.close()


def payloads(data: bytes) -> list[Any]:
    frames = data.decode().split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [frame[6:] if frame.endswith("[DONE]") else json.loads(frame[6:]) for frame in frames]


def deltas(data: bytes) -> list[Any]:
    return [p["choices"][0]["delta"] for p in payloads(data) if isinstance(p, dict) and p.get("choices")]


def decode(data: bytes) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return [*decoder.feed(data), *decoder.close()]


# --- the stream ---------------------------------------------------------------------------------------------


def test_the_encoder_writes_what_openai_writes() -> None:
    data = encode(
        START,
        ContentBlockStart(0, "thinking"),
        ThinkingDelta(0, "hm"),
        SignatureDelta(0, "sig"),
        ContentBlockStop(0),
        ContentBlockStart(1, "text"),
        TextDelta(1, 'He"\n'),
        TextDelta(1, "llo"),
        ContentBlockStop(1),
        ContentBlockStart(2, "tool_use", {"tool_use_id": "a", "tool_name": "f"}),
        ToolInputDelta(2, "{}"),
        ContentBlockStop(2),
        Metadata(Usage(3, 4, reasoning_tokens=1)),
        MessageStop("tool_use"),
    )
    found = payloads(data)
    assert found[-1] == "[DONE]"
    for payload in found[:-1]:
        assert payload["object"] == "chat.completion.chunk"
        assert (payload["id"], payload["model"]) == ("c", "m")
        assert isinstance(payload["created"], int)
    assert deltas(data) == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": 'He"\n'},
        {"content": "llo"},
        {
            "tool_calls": [
                {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert [p["choices"][0]["finish_reason"] for p in found[:-2]] == [None] * 6 + ["tool_calls"]
    assert found[-2]["choices"] == []
    assert found[-2]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def test_without_usage_no_usage_chunk() -> None:
    assert payloads(encode(START, MessageStop("end_turn")))[1:] == [
        {
            **payloads(encode(START))[0],
            "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
        },
        "[DONE]",
    ]


def test_usage_of_another_provider_is_counted_whole() -> None:
    usage = Metadata(Usage(10, 5, 100, 20), {"input_tokens": 10, "cache_read_input_tokens": 100})
    found = payloads(encode(START, usage, MessageStop("end_turn")))[-2]["usage"]
    assert found == {
        "prompt_tokens": 130,
        "completion_tokens": 5,
        "total_tokens": 135,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 20},
    }
    own = Metadata(Usage(10, 5), {"prompt_tokens": 10, "completion_tokens": 5, "cost": 1})
    assert payloads(encode(START, own, MessageStop("end_turn")))[-2]["usage"] == own.raw


@pytest.mark.requirement("D6", "P5")
def test_a_broken_stream_is_not_ended_by_the_encoder() -> None:
    assert b"[DONE]" not in encode(START, TextDelta(0, "a"))
    failed = encode(START, TextDelta(0, "a"), StreamError("throttling", "rate_limit_error", "slow down"))
    assert b"[DONE]" not in failed
    assert payloads(failed)[-1] == {
        "error": {
            "message": "slow down",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
    last = decode(failed)[-1]
    assert isinstance(last, StreamError)
    assert (last.kind, last.code, last.message) == ("throttling", "rate_limit_error", "slow down")


@pytest.mark.parametrize(
    "code",
    [
        "rate_limit_error", "overloaded_error", "authentication_error", "permission_error", "not_found_error",
        "invalid_request_error", "context_length_exceeded", "content_filtered", "api_error", "timeout_error", "insufficient_quota",
    ],
)  # fmt: skip
def test_error_codes_survive_the_wire(code: str) -> None:
    last = decode(encode(StreamError("validation", code, "boom")))[-1]
    assert isinstance(last, StreamError)
    assert (last.code, last.message) == (code, "boom")


def test_what_the_wire_cannot_say_is_left_out() -> None:
    server_tool = {"tool_use_id": "s", "tool_name": "web_search", "provider_executed": True}
    data = encode(
        START,
        ContentBlockStart(0, "tool_use", server_tool),
        ToolInputDelta(0, '{"q":1}'),
        ContentBlockStop(0),
        ContentBlockStart(1, "tool_result", {"tool_use_id": "s", "content": [], "provider_executed": True}),
        ContentBlockStop(1),
        ContentBlockStart(2, "thinking", {"redacted": "xx"}),
        ContentBlockStop(2),
        StreamNotice("n", "m"),
        ContentBlockStart(3, "provider", {"type": "compaction"}),
        ContentBlockStop(3),
        MessageStop("end_turn"),
    )
    assert deltas(data) == [{"role": "assistant", "content": ""}, {}]


def test_input_that_was_known_from_the_start_is_sent() -> None:
    start = ContentBlockStart(0, "tool_use", {"tool_use_id": "a", "tool_name": "f", "input": {"x": 1}})
    data = encode(START, start, ContentBlockStop(0), MessageStop("tool_use"))
    assert deltas(data)[2] == {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":1}'}}]}


def test_a_message_without_its_start_gets_the_given_name() -> None:
    first = payloads(encode(TextDelta(0, "a"), MessageStop("end_turn")))
    assert (first[0]["id"], first[0]["model"]) == ("id", "model")
    assert first[1]["choices"][0]["delta"] == {"content": "a"}


@pytest.mark.requirement("B4")
def test_half_a_surrogate_pair_goes_over_as_it_came() -> None:
    events = [
        START,
        ContentBlockStart(0, "text"),
        TextDelta(0, "a\ud83d"),
        TextDelta(0, "\ude00"),
        ContentBlockStop(0),
        MessageStop("end_turn", "stop"),
    ]
    assert decode(encode(*events)) == events


@st.composite
def text_blocks(draw: st.DrawFn, index: int) -> list[StreamEvent]:
    refusal = draw(st.booleans())
    content = {"provider_metadata": {"refusal": True}} if refusal else None
    events: list[StreamEvent] = [
        TextDelta(index, text) for text in draw(st.lists(texts, min_size=1, max_size=4))
    ]
    if not refusal and draw(st.booleans()):
        events.insert(
            draw(st.integers(1, len(events))), ContentDelta(index, {"citations": [{"url": f"u{index}"}]})
        )
    return [ContentBlockStart(index, "text", content), *events, ContentBlockStop(index)]


@st.composite
def thinking_blocks(draw: st.DrawFn, index: int) -> list[StreamEvent]:
    events: list[StreamEvent] = [
        ThinkingDelta(index, text) for text in draw(st.lists(texts, min_size=1, max_size=4))
    ]
    if draw(st.booleans()):
        signature = draw(texts)
        whole = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
        detail = {
            "type": "reasoning.text",
            "format": "anthropic-claude-v1",
            "index": 0,
            "text": whole,
            "signature": signature,
        }
        events += [
            SignatureDelta(index, signature),
            ContentDelta(index, {"provider_metadata": {"reasoning_details": [detail]}}),
        ]
    return [ContentBlockStart(index, "thinking"), *events, ContentBlockStop(index)]


@st.composite
def call_blocks(draw: st.DrawFn, index: int) -> list[StreamEvent]:
    arguments = json.dumps(draw(st.dictionaries(texts, st.integers() | texts, max_size=3)))
    places = sorted(draw(st.sets(st.integers(1, len(arguments) - 1), max_size=3)))
    bounds = [0, *places, len(arguments)]
    pieces = [ToolInputDelta(index, arguments[a:b]) for a, b in itertools.pairwise(bounds)]
    content = {"tool_use_id": f"call_{index}", "tool_name": draw(texts)}
    return [ContentBlockStart(index, "tool_use", content), *pieces, ContentBlockStop(index)]


@st.composite
def canonical_messages(draw: st.DrawFn) -> list[StreamEvent]:
    kinds: list[str] = []
    for kind in draw(st.lists(st.sampled_from(["text", "thinking", "call"]), max_size=6)):
        if kind == "call" or not kinds or kinds[-1] != kind:
            kinds.append(kind)
    makers = {"text": text_blocks, "thinking": thinking_blocks, "call": call_blocks}
    events: list[StreamEvent] = [START]
    for index, kind in enumerate(kinds):
        events += draw(makers[kind](index))
    if draw(st.booleans()):
        raw = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}}
        place = len(events)
        while is_end_of_a_block(events[place - 1]):
            place -= 1
        events.insert(place, Metadata(Usage(3, 4, 1), raw))
    events.append(draw(ends(refused=any(is_refusal(event) for event in events), called="call" in kinds)))
    if not {"text", "call"} & set(kinds) and events[-1] == MessageStop("unknown", "wibble"):
        events[-1] = MessageStop("max_tokens", "length")  # an answer without content does not end so
    return events


def is_end_of_a_block(event: StreamEvent) -> bool:
    """Metadata that the decoder itself adds at the stop of a block."""
    gathered = isinstance(event, ContentDelta) and "provider_metadata" in event.content
    return gathered or isinstance(event, ContentBlockStop)


def is_refusal(event: StreamEvent) -> bool:
    return isinstance(event, ContentBlockStart) and event.block_type == "text" and event.content is not None


@st.composite
def ends(draw: st.DrawFn, *, refused: bool, called: bool) -> MessageStop:
    plain = "refusal" if refused else "tool_use" if called else "end_turn"
    stops = [
        MessageStop(plain, "stop"),
        MessageStop("max_tokens", "length"),
        MessageStop("tool_use", "tool_calls"),
        MessageStop("content_filtered", "content_filter"),
        MessageStop("unknown", "wibble"),
    ]
    if plain == "end_turn":
        stops.append(MessageStop("stop_sequence", "stop", "END"))
    return draw(st.sampled_from(stops))


@settings(max_examples=300, deadline=None)
@given(canonical_messages())
@pytest.mark.requirement("E1")
def test_what_is_encoded_decodes_to_itself(events: list[StreamEvent]) -> None:
    assert decode(encode(*events)) == events


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, min_size=2, max_size=4), st.data())
@pytest.mark.requirement("B5")
def test_interleaved_calls_survive_the_wire(names: list[str], data: st.DataObject) -> None:
    starts = [
        ContentBlockStart(n, "tool_use", {"tool_use_id": f"c{n}", "tool_name": name})
        for n, name in enumerate(names)
    ]
    opened = [ToolInputDelta(n, '{"x":') for n in range(len(names))]
    order = data.draw(st.permutations(range(len(names))))
    closed = [ToolInputDelta(n, "1}") for n in order]
    stops = [ContentBlockStop(n) for n in range(len(names))]
    events = [
        START,
        *(event for pair in zip(starts, opened, strict=True) for event in pair),
        *closed,
        *stops,
        MessageStop("tool_use", "tool_calls"),
    ]
    assert decode(encode(*events)) == events
