"""Ends of Gemini's stream: reasons, usage, candidates, errors."""

from __future__ import annotations

import json

import pytest

from tests.wires.gemini.streams import chunk, decode, end, message_of, sse
from turnstream.core.answers import fold_answer
from turnstream.core.stream_events import (
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    StreamError,
    StreamNotice,
    TextDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import StreamIncomplete
from turnstream.wires.gemini.wire import WIRE

# --- how it ends --------------------------------------------------------------------------------------------


@pytest.mark.requirement("E3")
@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("STOP", "end_turn"),
        ("MAX_TOKENS", "max_tokens"),
        ("SAFETY", "content_filtered"),
        ("RECITATION", "content_filtered"),
        ("PROHIBITED_CONTENT", "content_filtered"),
        ("IMAGE_SAFETY", "content_filtered"),
        ("MODEL_ARMOR", "guardrail_intervened"),
        ("OTHER", "unknown"),
        ("BORED", "unknown"),
    ],
)
def test_reasons(raw: str, ours: str) -> None:
    found = message_of(chunk({"text": "a"}), end(reason=raw, finishMessage="because"))
    assert (found["stop_reason"], found["raw_stop_reason"], found["complete"]) == (ours, raw, True)


@pytest.mark.requirement("E3")
def test_a_prompt_that_was_blocked() -> None:
    feedback = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": []}
    body = sse({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 3}, "modelVersion": "m"})
    assert decode(body) == [
        MessageStart(None, "m"),
        Metadata(Usage(3), {"promptTokenCount": 3}),
        Metadata(provider_metadata={"promptFeedback": feedback}),
        MessageStop("content_filtered", "PROHIBITED_CONTENT"),
    ]


@pytest.mark.requirement("E6")
@pytest.mark.parametrize(
    "usage", [b'{"a":"\xff"}', b'{"a":' + b"[" * 120 + b"]" * 120 + b"}", b"[]", b"[1,2]"]
)
def test_a_usage_that_cannot_be_read_costs_only_itself(usage: bytes) -> None:
    begin = sse(chunk({"text": "a"}, usageMetadata={"promptTokenCount": 3}))
    plain = sse(chunk({"text": "b"}, usageMetadata="here")).replace(b'"here"', usage)
    for body in (begin + plain + sse(end()), begin + plain + sse(end({"text": "c"}))):
        found = fold_answer(decode(body))
        assert found.complete
        assert (found.blocks[0].text_content or "").startswith("ab")
        assert found.usage == Usage(3)


@pytest.mark.requirement("D6", "P5")
def test_without_a_reason_it_is_not_whole() -> None:
    for body in (
        sse(chunk({"text": "a"})),
        b"",
        b"[",
        b"[]",
        sse(chunk({"text": "a"}, reason="FINISH_REASON_UNSPECIFIED")),
        sse(chunk({"text": "a"}, promptFeedback={"blockReason": "BLOCK_REASON_UNSPECIFIED"})),
    ):
        with pytest.raises(StreamIncomplete):
            decode(body)


@pytest.mark.requirement("E8", "I1")
def test_what_comes_after_a_reason_still_counts() -> None:
    counted = {
        "promptTokenCount": 9,
        "candidatesTokenCount": 2,
        "thoughtsTokenCount": 5,
        "totalTokenCount": 16,
    }
    found = message_of(
        end({"text": "a"}, usageMetadata={"promptTokenCount": 9}),
        end({"text": "b"}, usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 1}),
        {"usageMetadata": counted, "modelVersion": "m"},
    )
    assert [block["text_content"] for block in found["blocks"]] == ["ab"]
    assert found["raw_usage"] == counted
    assert found["usage"] == {
        "input_tokens": 9,
        "output_tokens": 7,
        "cache_read_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": 5,
    }


@pytest.mark.requirement("I1")
def test_every_report_of_usage_is_whole() -> None:
    first = {"promptTokenCount": 9, "candidatesTokenCount": 21, "cachedContentTokenCount": 4}
    last = {"promptTokenCount": 80, "toolUsePromptTokenCount": 7}
    found = message_of(chunk({"text": "a"}, usageMetadata=first), end({"text": "b"}, usageMetadata=last))
    assert found["raw_usage"] == last
    assert (found["usage"]["input_tokens"], found["usage"]["cache_read_tokens"]) == (87, 4)


@pytest.mark.requirement("E2")
def test_the_first_candidate_is_decoded_and_the_others_named() -> None:
    body = chunk({"text": "a"})
    body["candidates"] += [{"content": {"parts": [{"text": "x"}]}, "index": 2}, {"index": 1}]
    events = decode(sse(body, end({"text": "b"})))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "ab"
    notices = [event for event in events if isinstance(event, StreamNotice)]
    assert [(n.code, n.message) for n in notices] == [
        ("other_candidates", "candidate 0 was decoded; not: 1, 2")
    ]


ERROR = {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}


@pytest.mark.requirement("D4", "E2")
def test_an_error_in_the_stream_in_every_form() -> None:
    begun = chunk({"text": "a"})
    events = decode(sse(begun, ERROR, end({"text": "b"})))
    failed = StreamError("service_unavailable", "overloaded_error", "busy", 503)
    assert events[-2:] == [ContentBlockStop(0), failed]
    for body in (
        sse(begun) + json.dumps(ERROR, indent=2).encode(),
        sse(begun) + json.dumps([ERROR], indent=2).encode() + b"\n\n",
        sse(begun) + b"event: error\n" + sse(ERROR),
        sse(begun, [ERROR]),
        json.dumps([begun, ERROR]).encode(),
        json.dumps([begun, ERROR], indent=2).encode()[:-2],
        json.dumps(begun).encode() + b"\n" + json.dumps(ERROR).encode(),
    ):
        assert decode(body) == events
        for place in range(1, len(body), 3):
            decoder = WIRE.decoder()
            cut = [*decoder.feed(body[:place]), *decoder.feed(body[place:]), *decoder.close()]
            assert cut == events
