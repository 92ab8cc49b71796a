"""Events to Anthropic Messages bytes, and back."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.accumulator import Accumulator
from turnstream.core.answers import Answer
from turnstream.core.blocks import Block
from turnstream.core.sse import SseDecoder
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    RedactContent,
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import StreamIncomplete
from turnstream.wires.anthropic.answers import encode_answer
from turnstream.wires.anthropic.encoder import AnthropicEncoder
from turnstream.wires.anthropic.wire import WIRE

any_text = st.text(st.characters(codec=None), max_size=12)
whole_text = st.text(max_size=12)
counts = st.integers(1, 10**6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | whole_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(whole_text, inner, max_size=3),
    max_leaves=5,
)
callers = st.fixed_dictionaries({"caller": st.fixed_dictionaries({"type": st.just("direct")})})


def tool_use(index: int) -> st.SearchStrategy[list[StreamEvent]]:
    shared: dict[str, Any] = {"tool_use_id": whole_text, "tool_name": whole_text}
    given_input = {"input": st.dictionaries(whole_text, json_values, min_size=1, max_size=2)}
    client = st.fixed_dictionaries(shared, optional={**given_input, "provider_metadata": callers})
    metadata = st.sampled_from([{"type": "server_tool_use"}, {"type": "mcp_tool_use", "server_name": "s"}])
    server = st.fixed_dictionaries(
        {**shared, "provider_executed": st.just(value=True), "provider_metadata": metadata},
        optional=given_input,
    )
    return block(index, "tool_use", client | server, any_text.map(lambda t: ToolInputDelta(index, t)))


def tool_result(index: int) -> st.SearchStrategy[list[StreamEvent]]:
    failure = st.fixed_dictionaries({"type": st.just("web_search_tool_result_error")})
    metadata = {"type": "web_search_tool_result"}

    def content(tool_use_id: str, value: Any) -> dict[str, Any]:
        is_error = isinstance(value, dict) and value.get("type") == "web_search_tool_result_error"
        fields = {"tool_use_id": tool_use_id, "content": value, "is_error": is_error}
        return {**fields, "provider_executed": True, "provider_metadata": metadata}

    return block(index, "tool_result", st.builds(content, whole_text, failure | json_values), st.nothing())


def block(
    index: int, block_type: Any, content: st.SearchStrategy[Any], delta: st.SearchStrategy[StreamEvent]
) -> st.SearchStrategy[list[StreamEvent]]:
    deltas = st.lists(delta, max_size=4) if not delta.is_empty else st.just([])
    return st.builds(
        lambda content, deltas: [
            ContentBlockStart(index, block_type, content),
            *deltas,
            ContentBlockStop(index),
        ],
        content,
        deltas,
    )


@cache
def any_block(index: int) -> st.SearchStrategy[list[StreamEvent]]:
    citations = st.lists(json_values, min_size=1, max_size=2).map(lambda c: {"citations": c})
    one_citation = json_values.map(lambda c: ContentDelta(index, {"citations": [c]}))
    thinking = any_text.map(lambda t: ThinkingDelta(index, t)) | whole_text.map(
        lambda s: SignatureDelta(index, s)
    )
    redacted = st.builds(lambda data: {"redacted": data}, whole_text)
    compaction = st.just({"type": "compaction", "content": None})
    compacted = st.dictionaries(whole_text.filter(lambda k: k != "type"), json_values, max_size=3)
    return st.one_of(
        block(
            index, "text", st.none() | citations, any_text.map(lambda t: TextDelta(index, t)) | one_citation
        ),
        block(index, "thinking", st.none(), thinking),
        block(index, "thinking", redacted, st.nothing()),
        tool_use(index),
        tool_result(index),
        block(index, "provider", compaction, compacted.map(lambda c: ContentDelta(index, c))),
    )


def metadata_of(raw: dict[str, Any]) -> Metadata:
    return Metadata(
        Usage(raw.get("input_tokens"), raw["output_tokens"], raw.get("cache_read_input_tokens")), raw
    )


@st.composite
def canonical(draw: st.DrawFn) -> list[StreamEvent]:
    """Canonical events: a start with an id, a model and its usage; whole blocks in a row, numbered from 0,
    each with start and stop; the final count of output tokens; a stop reason of this wire. Or the provider's
    error after any of these events."""
    raw = draw(
        st.fixed_dictionaries(
            {"input_tokens": counts, "output_tokens": counts}, optional={"cache_read_input_tokens": counts}
        )
    )
    blocks = [draw(any_block(index)) for index in range(draw(st.integers(0, 3)))]
    stop: Any = draw(
        st.sampled_from(["end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"])
    )
    events: list[StreamEvent] = [
        MessageStart(draw(whole_text.filter(bool)), draw(whole_text.filter(bool))),
        metadata_of(raw),
        *(event for events in blocks for event in events),
        metadata_of({"output_tokens": draw(counts)}),
        MessageStop(stop, stop, draw(st.none() | whole_text.filter(bool))),
    ]
    if draw(st.booleans()):
        return events
    error = draw(
        st.sampled_from(
            [
                StreamError("throttling", "rate_limit_error", "slow"),
                StreamError("validation", "context_length_exceeded", "Prompt is too long"),
                StreamError("model_stream", "brand_new_error", ""),
            ]
        )
    )
    return [*events[: draw(st.integers(2, len(events) - 2))], error]


def encode(events: list[StreamEvent]) -> bytes:
    encoder = WIRE.encoder(model="m", message_id="i")
    return encoder.feed(events) + encoder.close()


def decode(body: bytes) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return [*decoder.feed(body), *decoder.close()]


@pytest.mark.requirement("E1", "E2")
@settings(deadline=None, max_examples=200)
@given(canonical())
def test_canonical_events_decode_to_themselves(events: list[StreamEvent]) -> None:
    assert decode(encode(events)) == events


indexes = st.integers(0, 2)
loose_events = st.one_of(
    st.builds(
        ContentBlockStart,
        indexes,
        st.sampled_from(["text", "thinking", "tool_use", "provider", "tool_result"]),
        st.none(),
    ),
    st.builds(ContentBlockStop, indexes),
    st.builds(TextDelta, indexes, whole_text),
    st.builds(ThinkingDelta, indexes, whole_text),
    st.builds(ToolInputDelta, indexes, whole_text),
    st.builds(SignatureDelta, indexes, whole_text),
    st.just(StreamNotice("code", "message")),
    st.just(RedactContent("user", "x")),
)


@pytest.mark.requirement("B5")
@settings(deadline=None, max_examples=300)
@given(st.lists(loose_events, max_size=14))
def test_loose_events_fold_to_the_same_blocks_after_the_wire(events: list[StreamEvent]) -> None:
    """Blocks that interleave, restart, or lack a start or a stop are encoded as the accumulator folds
    them."""
    assert shapes(fold(decode(encode([*events, MessageStop("end_turn")])))) == shapes(fold(events))


@settings(deadline=None)
@given(st.lists(loose_events, max_size=14))
def test_the_wire_carries_one_block_at_a_time_numbered_from_zero(events: list[StreamEvent]) -> None:
    started = -1
    is_open = False
    for data in frames(encode([*events, MessageStop("end_turn")])):
        match data["type"]:
            case "content_block_start":
                assert not is_open
                is_open, started = True, started + 1
            case "content_block_stop":
                assert is_open
                is_open = False
            case "message_delta":
                assert not is_open
            case _:
                pass
        assert data.get("index", started) == started


def fold(events: list[StreamEvent]) -> list[Block]:
    accumulator = Accumulator()
    blocks: list[Block] = []
    position = accumulator.fold(events)
    ended = False
    while True:
        if accumulator.finished is not None:
            blocks.append(accumulator.finished)
            accumulator.release()
        elif position < len(events):
            position = accumulator.fold(events, position)
        elif not ended:
            ended = True
            accumulator.end()
        else:
            return blocks


def shapes(blocks: list[Block]) -> list[Any]:
    """Return the parts that must survive: kind, text, arguments, signature. Blocks without a vendor gain
    this vendor's shape."""
    return [
        (
            b.block_type,
            b.text_content or "",
            (b.content or {}).get("input_json"),
            (b.content or {}).get("signature"),
        )
        for b in blocks
    ]


def frames(body: bytes) -> list[dict[str, Any]]:
    decoded = SseDecoder(event_limit=1 << 20).feed(body)
    for name, data, _ in decoded:
        assert name == json.loads(data)["type"].encode()
    return [json.loads(data) for _, data, _ in decoded]


def test_the_bytes_are_what_the_api_sends() -> None:
    body = encode([MessageStart(), TextDelta(0, "héllo\n"), MessageStop("end_turn", "stop")])
    assert body.decode() == (
        'event: message_start\ndata: {"type":"message_start","message":{"id":"i","type":"message","role":"assistant",'
        '"model":"m","content":[],"stop_reason":null,"stop_sequence":null,'
        '"usage":{"input_tokens":0,"output_tokens":0}}}\n\n'
        'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        '"content_block":{"type":"text","text":""}}\n\n'
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        '"delta":{"type":"text_delta","text":"héllo\\n"}}\n\n'
        'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        '"usage":{"output_tokens":0}}\n\n'
        'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )


def test_usage_after_the_stop_still_ends_up_in_the_message() -> None:
    events = [
        MessageStart("i", "m"),
        TextDelta(0, "a"),
        MessageStop("end_turn"),
        metadata_of({"output_tokens": 7}),
    ]
    assert frames(encode(events))[-2]["usage"] == {"output_tokens": 7}


def test_another_vendors_words_are_translated() -> None:
    usage = Metadata(
        Usage(1, 2, 3, 4, 5), {"prompt_tokens": 4}, provider_metadata={"system_fingerprint": "x"}
    )
    events = [
        MessageStart(),
        usage,
        TextDelta(0, "a"),
        usage,
        MessageStop("content_filtered", "content_filter"),
    ]
    start, *_, delta, _ = frames(encode(events))
    expected = {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 5},
    }
    assert start["message"]["usage"] == delta["usage"] == expected
    assert "system_fingerprint" not in start["message"]
    assert delta["delta"]["stop_reason"] == "refusal"


@pytest.mark.requirement("P5")
def test_without_its_stop_a_message_has_no_end() -> None:
    encoder = WIRE.encoder(model="m", message_id="i")
    body = encoder.feed([MessageStart(), TextDelta(0, "a")]) + encoder.close()
    decoder = WIRE.decoder()
    assert decoder.feed(body)[-1] == TextDelta(0, "a")
    with pytest.raises(StreamIncomplete):
        decoder.close()


def test_nothing_follows_an_error() -> None:
    error = StreamError("service_unavailable", "overloaded_error", "busy")
    body = encode([error, TextDelta(0, "a"), MessageStop("end_turn")])
    assert [event["type"] for event in frames(body)] == ["message_start", "error"]
    assert decode(body)[-1] == error


@pytest.mark.parametrize(
    ("stop", "named"),
    [
        (MessageStop("stop_sequence"), "END"),
        (MessageStop("stop_sequence", stop_sequence="OWN"), "OWN"),
        (MessageStop("end_turn"), None),
    ],
)
def test_the_only_stop_sequence_is_named_if_the_end_does_not_name_its_own(
    stop: MessageStop, named: str | None
) -> None:
    encoder = AnthropicEncoder(model="m", message_id="i", stop_sequence="END")
    *_, end, _ = SseDecoder(event_limit=1 << 20).feed(encoder.feed((stop,)) + encoder.close())
    assert json.loads(end[1])["delta"]["stop_sequence"] == named
    whole = json.loads(encode_answer(Answer(stop=stop), stop_sequence="END"))
    assert whole["stop_sequence"] == named
