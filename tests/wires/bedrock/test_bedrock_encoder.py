"""Events to Bedrock's messages, and back; whole answers likewise."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.answers import fold_answer
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
from turnstream.errors import MalformedEvent, StreamIncomplete
from turnstream.wires import WIRES
from turnstream.wires.shared.event_stream import MessageDecoder

WIRE: Any = WIRES["bedrock"]


any_text = st.text(st.characters(codec=None), max_size=12)
whole_text = st.text(max_size=12)
counts = st.integers(0, 10**6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | whole_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(whole_text, inner, max_size=3),
    max_leaves=5,
)
blobs = st.binary(min_size=1, max_size=9).map(lambda data: base64.b64encode(data).decode())
objects = st.dictionaries(whole_text, json_values, min_size=1, max_size=2)


@cache
def any_block(index: int) -> st.SearchStrategy[list[StreamEvent]]:
    """A whole block with its start and stop. Text and thinking have at least one delta."""
    texts = any_text.map(lambda t: TextDelta(index, t))
    citations = objects.map(lambda c: ContentDelta(index, {"citations": [c]}))
    thoughts = any_text.map(lambda t: ThinkingDelta(index, t))
    signatures = whole_text.map(lambda s: SignatureDelta(index, s))
    inputs = any_text.map(lambda t: ToolInputDelta(index, t))
    call = {"tool_use_id": whole_text, "tool_name": whole_text}
    server = {
        "provider_executed": st.just(value=True),
        "provider_metadata": st.just({"toolUse": {"type": "server_tool_use"}}),
    }
    parts = st.lists(st.fixed_dictionaries({"text": whole_text}), min_size=1, max_size=2)
    results = parts.map(lambda content: ContentDelta(index, {"content": content}))
    raw = st.dictionaries(st.sampled_from(["guardContent", "hologram"]), objects, min_size=1, max_size=1)
    return st.one_of(
        block(index, "text", None, st.lists(texts | citations, min_size=1, max_size=4)),
        block(index, "thinking", None, st.lists(thoughts | signatures, min_size=1, max_size=4)),
        block(index, "thinking", None, blobs.map(lambda data: [ContentDelta(index, {"redacted": data})])),
        block(index, "tool_use", st.fixed_dictionaries(call), st.lists(inputs, max_size=4)),
        block(index, "tool_use", st.fixed_dictionaries(call | server), st.lists(inputs, max_size=2)),
        block(index, "tool_result", st.builds(server_result, whole_text, st.booleans()), st.lists(results, max_size=2)),
        block(index, "image", st.just({"media_type": "image/webp"}), blobs.map(lambda data: [ContentDelta(index, {"data": data})])),
        block(index, "provider", raw, st.lists(objects.map(lambda delta: ContentDelta(index, {"deltas": [delta]})), max_size=2)),
    )  # fmt: skip


def block(
    index: int, block_type: Any, content: st.SearchStrategy[Any] | None, deltas: st.SearchStrategy[Any]
) -> st.SearchStrategy[list[StreamEvent]]:
    return st.builds(
        lambda content, deltas: [
            ContentBlockStart(index, block_type, content),
            *deltas,
            ContentBlockStop(index),
        ],
        st.none() if content is None else content,
        deltas,
    )


def server_result(tool_use_id: str, failed: bool) -> dict[str, Any]:
    kept = {"status": "error" if failed else "success", "type": "nova_grounding_result"}
    return {
        "tool_use_id": tool_use_id,
        "content": [],
        "is_error": failed,
        "provider_executed": True,
        "provider_metadata": {"toolResult": kept},
    }


@st.composite
def canonical(draw: st.DrawFn) -> list[StreamEvent]:
    """Canonical events: a start without id and model; whole blocks, numbered from 0; a stop reason of this
    wire, followed by the model's additional fields; usage, latency and trace. Or an exception after any of
    these events."""
    raw = draw(
        st.fixed_dictionaries(
            {"inputTokens": counts, "outputTokens": counts, "totalTokens": counts},
            optional={"cacheReadInputTokens": counts, "cacheWriteInputTokens": counts},
        )
    )
    usage = Usage(
        raw["inputTokens"],
        raw["outputTokens"],
        raw.get("cacheReadInputTokens"),
        raw.get("cacheWriteInputTokens"),
    )
    reason: Any = draw(
        st.sampled_from(
            [
                "end_turn",
                "max_tokens",
                "stop_sequence",
                "tool_use",
                "guardrail_intervened",
                "content_filtered",
            ]
        )
    )
    sequence = draw(st.none() | whole_text)
    additional = {"additionalModelResponseFields": {"stop_sequence": sequence}}
    told = draw(st.none() | st.just({"serviceTier": {"type": "flex"}}))
    events: list[StreamEvent] = [
        MessageStart(),
        *(event for index in range(draw(st.integers(0, 3))) for event in draw(any_block(index))),
        MessageStop(reason, reason, sequence),
        *([Metadata(provider_metadata=additional)] if sequence is not None else []),
        Metadata(usage, raw, draw(counts), draw(st.none() | objects), told),
    ]
    if draw(st.booleans()):
        return events
    error = draw(
        st.sampled_from(
            [
                StreamError("throttling", "rate_limit_error", "slow"),
                StreamError("validation", "context_length_exceeded", "Input is too long"),
                StreamError("model_stream", "api_error", "broken", 500),
            ]
        )
    )
    end = next(place for place, event in enumerate(events) if isinstance(event, MessageStop))
    cut = draw(st.integers(1, end))
    while isinstance(start := events[cut - 1], ContentBlockStart) and start.block_type in (
        "text",
        "thinking",
    ):
        cut -= 1  # the protocol has no word for it before its first delta
    return [*events[:cut], error]


def encode(events: list[StreamEvent]) -> bytes:
    encoder = WIRE.encoder(model="m", message_id="i")
    return encoder.feed(events) + encoder.close()


def decode(body: bytes, size: int = 1_000_000) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()


def messages_of(body: bytes) -> list[tuple[str, Any]]:
    messages = MessageDecoder(limit=len(body))
    messages.add(body)
    return [
        (headers.get(":event-type") or headers[":exception-type"], json.loads(payload))
        for headers, payload in iter(messages.take, None)
    ]


@pytest.mark.requirement("E1", "E2")
@settings(max_examples=150, deadline=None)
@given(events=canonical(), size=st.integers(1, 200))
def test_what_is_encoded_decodes_to_the_same_events(events, size):
    assert decode(encode(events), size) == events


@settings(max_examples=60, deadline=None)
@given(events=canonical())
def test_one_by_one_or_all_at_once(events):
    encoder = WIRE.encoder(model="m", message_id="i")
    assert b"".join(encoder.feed([event]) for event in events) + encoder.close() == encode(events)


def test_events_without_starts_and_stops():
    body = encode(
        [
            TextDelta(0, "a"),
            ToolInputDelta(0, "{}"),
            ThinkingDelta(5, "hm"),
            ContentBlockStart(7, "text"),
            ContentBlockStart(9, "thinking"),
            MessageStop("end_turn"),
        ]
    )
    answer = fold_answer(decode(body))
    assert [block.block_type for block in answer.blocks] == [
        "text", "tool_use", "thinking", "text", "thinking",
    ]  # fmt: skip
    indexes = [
        fields["contentBlockIndex"] for name, fields in messages_of(body) if name == "contentBlockStop"
    ]
    assert sorted(indexes) == [0, 1, 2, 3, 4]


def test_what_has_no_place_is_left_out():
    events = [
        ContentBlockStart(0, "provider", {"type": "compaction", "content": "x"}),
        ContentDelta(0, {"content": "y"}),
        ContentBlockStop(0),
        StreamNotice("a", "b"),
        RedactContent("user", "c"),
        ContentBlockStart(1, "document", {"text": "d"}),
        ContentBlockStop(1),
        TextDelta(2, "e"),
        Metadata(Usage(1, 2, reasoning_tokens=3), {"prompt_tokens": 1}, provider_metadata={"id": "x"}),
        MessageStop("refusal", "refusal"),
    ]
    names = [name for name, _ in messages_of(encode(events))]
    assert names == ["messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]
    told = dict(messages_of(encode(events)))
    assert told["messageStop"] == {"stopReason": "refusal"}
    assert told["metadata"]["usage"] == {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}


def test_redactions_of_another_vendor_are_made_bytes():
    events = [
        ContentBlockStart(0, "thinking", {"redacted": "not base64!"}),
        ContentBlockStop(0),
        MessageStop("end_turn"),
    ]
    ((_, fields),) = [message for message in messages_of(encode(events)) if message[0] == "contentBlockDelta"]
    data = fields["delta"]["reasoningContent"]["redactedContent"]
    assert base64.b64decode(data) == b"not base64!"


@pytest.mark.requirement("P5")
def test_without_a_stop_nothing_ends_the_message():
    body = encode([MessageStart(), TextDelta(0, "a"), Metadata(Usage(1, 2))])
    with pytest.raises(StreamIncomplete):
        decode(body)


class TestWholeAnswers:
    @settings(max_examples=80, deadline=None)
    @given(events=canonical())
    def test_an_answer_is_what_its_stream_was(self, events):
        answer = fold_answer(events)
        if answer.error is not None:
            return
        wire = WIRE
        again = fold_answer(wire.decode_answer(wire.encode_answer(answer)))
        said = [block for block in answer.blocks if is_returned(block.block_type, block)]
        assert [(b.block_type, b.text_content) for b in again.blocks] == [
            (b.block_type, b.text_content) for b in said
        ]
        assert (again.usage, again.stop and again.stop.stop_reason) == (
            answer.usage,
            answer.stop and answer.stop.stop_reason,
        )

    def test_converses_own(self):
        body = {
            "output": {
                "message": {
                    "role": "assistant",
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                        {"text": "hi"},
                        {"citationsContent": {"content": [{"text": "it"}], "citations": [{"title": "t"}]}},
                        {"toolUse": {"toolUseId": "1", "name": "f", "input": {"a": 1}}},
                        {"hologram": {}},
                    ],
                }
            },
            "stopReason": "tool_use",
            "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7},
            "metrics": {"latencyMs": 5},
            "additionalModelResponseFields": {"stop_sequence": "x"},
        }
        events = WIRE.decode_answer(json.dumps(body).encode())
        answer = fold_answer(events)
        assert [(b.block_type, b.text_content, b.content) for b in answer.blocks] == [
            ("thinking", "hm", {"signature": "s"}),
            ("text", "hi", None),
            ("text", "it", {"citations": [{"title": "t"}]}),
            (
                "tool_use",
                None,
                {"tool_use_id": "1", "tool_name": "f", "input": {"a": 1}, "input_json": '{"a":1}'},
            ),
            ("provider", None, {"hologram": {}}),
        ]
        assert answer.stop == MessageStop("tool_use", "tool_use", "x")
        assert answer.usage == Usage(3, 4)
        assert events[-1] == Metadata(Usage(3, 4), body["usage"], 5)

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"[]", b"{}", b"not json", b'{"stopReason":"end_turn"}', b'{"message":"no"}',
            b'{"stopReason":"end_turn","output":{"message":{"content":[1]}}}',
            b'{"stopReason":"end_turn","output":{"message":{"content":[{"toolUse":{"toolUseId":1}}]}}}',
            b"[" * 100_000,
        ],
    )  # fmt: skip
    def test_what_is_no_answer(self, body):
        with pytest.raises(MalformedEvent):
            WIRE.decode_answer(body)


def is_returned(block_type: str, block: Any) -> bool:
    """Return True if Converse's whole answer can hold a block."""
    if block_type == "text":
        return bool((block.text_content or "").strip())
    return block_type != "provider" or set(block.content) == {"guardContent"}
