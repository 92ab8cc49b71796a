"""Bedrock's stream, event by event."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from turnstream.core.answers import fold_answer
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    TextDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import MalformedEvent, StreamIncomplete
from turnstream.wires import WIRES
from turnstream.wires.shared.event_stream import encode_chunk, encode_exception, encode_message, frame_line

WIRE: Any = WIRES["bedrock"]


def line(name: str, **fields: Any) -> bytes:
    return frame_line(json.dumps({name: fields}).encode())


def delta(index: int, **said: Any) -> bytes:
    return line("contentBlockDelta", contentBlockIndex=index, delta=said, p="abc")


def stop(index: int) -> bytes:
    return line("contentBlockStop", contentBlockIndex=index)


def message_stop(reason: str, **fields: Any) -> bytes:
    return line("messageStop", stopReason=reason, p="ab", **fields)


def decoded(*messages: bytes) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return [*decoder.feed(b"".join(messages)), *decoder.close()]


@pytest.mark.requirement("B5")
def test_interleaved_blocks_stay_apart():
    events = decoded(
        delta(0, text="a"),
        delta(1, reasoningContent={"text": "x"}),
        delta(0, text="b"),
        delta(1, reasoningContent={"signature": "s"}),
        delta(1, reasoningContent={"signature": "t"}),
        stop(0),
        message_stop("end_turn"),
    )
    one, two = fold_answer(events).blocks
    assert (one.block_type, one.text_content) == ("text", "ab")
    assert (two.block_type, two.text_content, two.content) == ("thinking", "x", {"signature": "st"})


def test_another_kind_of_delta_begins_another_block():
    events = decoded(
        delta(0, reasoningContent={"text": "x"}), delta(0, text="a"), delta(0, toolUse={"input": {"b": 1}}),
        message_stop("end_turn"),
    )  # fmt: skip
    assert [block.block_type for block in fold_answer(events).blocks] == ["thinking", "text", "tool_use"]


@pytest.mark.parametrize("start", [{"start": {}}, {"start": None}, {}])
def test_a_start_that_says_nothing_leaves_the_kind_to_the_deltas(start):
    begin = line("contentBlockStart", contentBlockIndex=0, **start)
    (block,) = fold_answer(
        decoded(begin, delta(0, text="a", toolUse=None), stop(0), message_stop("end_turn"))
    ).blocks
    assert (block.block_type, block.text_content) == ("text", "a")


@pytest.mark.requirement("B3", "E2")
def test_redacted_thinking_and_images_may_come_in_pieces():
    first, second = base64.b64encode(b"one").decode(), base64.b64encode(b"and two").decode()
    events = decoded(
        line("contentBlockStart", contentBlockIndex=0, start={"image": {"format": "png"}}),
        delta(0, image={"source": {"bytes": first}}),
        delta(0, image={"source": {"bytes": second}}),
        stop(0),
        delta(1, reasoningContent={"redactedContent": first}),
        delta(1, reasoningContent={"redactedContent": second}),
        stop(1),
        delta(2, image={"source": {"s3Location": {"uri": "s3://a/b.png", "bucketOwner": "1"}}}),
        stop(2),
        message_stop("end_turn"),
    )
    image, thinking, elsewhere = fold_answer(events).blocks
    whole = base64.b64encode(b"oneand two").decode()
    assert image.content == {"media_type": "image/png", "data": whole}
    assert thinking.content == {"redacted": whole}
    assert elsewhere.content == {"url": "s3://a/b.png", "provider_metadata": {"bucketOwner": "1"}}


def test_bytes_that_are_none():
    decoder = WIRE.decoder()
    decoder.feed(delta(0, image={"source": {"bytes": "QQ=="}}))
    with pytest.raises(MalformedEvent, match="base64"):
        decoder.feed(delta(0, image={"source": {"bytes": "%%"}}))


@pytest.mark.requirement("E3")
@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("end_turn", "end_turn"),
        ("tool_use", "tool_use"),
        ("max_tokens", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("guardrail_intervened", "guardrail_intervened"),
        ("content_filtered", "content_filtered"),
        ("model_context_window_exceeded", "max_tokens"),
        ("brand_new", "unknown"),
    ],
)
def test_stop_reasons(raw, ours):
    *_, end = decoded(delta(0, text="a"), message_stop(raw))
    assert end == MessageStop(ours, raw)
    encoder = WIRE.encoder(model="m", message_id="i")
    again = decoded(encoder.feed([TextDelta(0, "a"), end]) + encoder.close())
    assert again[-1] == end


@pytest.mark.requirement("E1", "E8", "I1")
def test_what_comes_after_the_stop_is_kept():
    events = decoded(
        line("messageStart", role="assistant"),
        message_stop("stop_sequence", additionalModelResponseFields={"stop_sequence": "END"}, later=1),
        line(
            "metadata",
            usage={"inputTokens": 5, "outputTokens": 7, "totalTokens": 14, "cacheReadInputTokens": 1,
                   "cacheWriteInputTokens": 1, "cacheDetails": [{"ttl": "5m", "inputTokens": 1}]},
            metrics={"latencyMs": 12, "more": 1},
            trace={"guardrail": {}},
            serviceTier={"type": "flex"},
        ),
        line("brandNewEvent", a=1, p="xx"),
        line("ping"),
    )  # fmt: skip
    assert events[0] == MessageStart()
    assert events[1] == MessageStop("stop_sequence", "stop_sequence", "END")
    additional, metadata, new = events[2:]
    assert additional == Metadata(
        provider_metadata={"additionalModelResponseFields": {"stop_sequence": "END"}, "later": 1}
    )
    assert isinstance(metadata, Metadata)
    assert metadata.usage == Usage(5, 7, 1, 1)
    assert metadata.raw is not None
    assert metadata.raw["cacheDetails"] == [{"ttl": "5m", "inputTokens": 1}]
    assert (metadata.latency_ms, metadata.trace) == (12, {"guardrail": {}})
    assert metadata.provider_metadata == {"serviceTier": {"type": "flex"}, "metrics": {"more": 1}}
    assert new == Metadata(provider_metadata={"brandNewEvent": {"a": 1}})


@pytest.mark.requirement("E1", "B3")
def test_blocks_and_deltas_that_nobody_knows_are_kept_raw():
    events = decoded(
        line("contentBlockStart", contentBlockIndex=0, start={"hologram": {"size": 3}}),
        delta(0, hologram={"voxels": 1}),
        delta(0, text="inside"),
        stop(0),
        delta(1, smell={"of": "roses"}),
        delta(2, text="a", mood="good"),
        message_stop("end_turn"),
    )
    hologram, smell, text = fold_answer(events).blocks
    assert hologram.content == {
        "hologram": {"size": 3},
        "deltas": [{"hologram": {"voxels": 1}}, {"text": "inside"}],
    }
    assert (smell.block_type, smell.content) == ("provider", {"deltas": [{"smell": {"of": "roses"}}]})
    assert (text.text_content, text.content) == ("a", {"deltas": [{"mood": "good"}]})


@pytest.mark.requirement("E2", "D4", "J2")
@pytest.mark.parametrize(
    ("name", "fields", "error"),
    [
        ("throttlingException", {"message": "slow"}, StreamError("throttling", "rate_limit_error", "slow")),
        (
            "validationException",
            {"message": "bad"},
            StreamError("validation", "invalid_request_error", "bad"),
        ),
        (
            "validationException",
            {"message": "Input is too long for requested model."},
            StreamError("validation", "context_length_exceeded", "Input is too long for requested model."),
        ),
        ("internalServerException", {"message": "m"}, StreamError("internal_server", "api_error", "m")),
        (
            "serviceUnavailableException",
            {"message": "m"},
            StreamError("service_unavailable", "overloaded_error", "m"),
        ),
        (
            "modelStreamErrorException",
            {"message": "m", "originalMessage": "the model's", "originalStatusCode": 424},
            StreamError("model_stream", "api_error", "the model's", 424),
        ),
        ("brandNewException", {"Message": "m"}, StreamError("model_stream", "api_error", "m")),
    ],
)
def test_exceptions(name, fields, error):
    message = encode_exception(name, json.dumps(fields).encode())
    events = decoded(delta(0, text="a"), message, delta(0, text="never"), b"not a message at all")
    assert events == [ContentBlockStart(0, "text"), TextDelta(0, "a"), error]
    encoder = WIRE.encoder(model="m", message_id="i")
    assert decoded(encoder.feed([error]) + encoder.close())[-1] == error


def test_an_error_without_a_shape():
    message = encode_message(
        {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "broken"}, b""
    )
    assert decoded(message) == [StreamError("internal_server", "api_error", "broken")]


class TestInvokeModel:
    def test_claudes_own_error(self):
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
        events = decoded(encode_chunk(json.dumps(error).encode()))
        assert events == [StreamError("service_unavailable", "overloaded_error", "busy")]

    def test_an_exception_after_chunks(self):
        start = {"type": "message_start", "message": {"id": "i", "model": "m"}}
        events = decoded(
            encode_chunk(json.dumps(start).encode()),
            encode_exception("modelStreamErrorException", b'{"message":"m"}'),
        )
        assert events == [MessageStart("i", "m"), StreamError("model_stream", "api_error", "m")]

    def test_cut_off(self):
        with pytest.raises(StreamIncomplete, match="message_stop"):
            decoded(encode_chunk(b'{"type":"ping"}'))

    def test_what_is_no_chunk(self):
        for payload in (b'{"bytes":"%%"}', b'{"bytes":"YQ=="}', b'{"bytes":7}'):
            with pytest.raises(MalformedEvent):
                decoded(
                    encode_message({":message-type": "event", ":event-type": "chunk"}, payload),
                )

    def test_nova_sends_converses_events(self):
        events = decoded(
            *(
                encode_chunk(json.dumps(event).encode())
                for event in (
                    {"messageStart": {"role": "assistant"}},
                    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "hi"}}},
                    {"contentBlockStop": {"contentBlockIndex": 0}},
                    {"messageStop": {"stopReason": "end_turn"}},
                    {"metadata": {"usage": {"inputTokens": 1, "outputTokens": 2}}},
                )
            )
        )
        answer = fold_answer(events)
        assert (answer.blocks[0].text_content, answer.usage) == ("hi", Usage(1, 2))


def test_citations_may_come_before_the_text():
    events = decoded(delta(0, citation={"title": "t"}), delta(0, text="a"), stop(0), message_stop("end_turn"))
    assert events == [
        ContentBlockStart(0, "text"),
        ContentDelta(0, {"citations": [{"title": "t"}]}),
        TextDelta(0, "a"),
        ContentBlockStop(0),
        MessageStop("end_turn", "end_turn"),
    ]
