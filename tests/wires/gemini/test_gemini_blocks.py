"""Blocks of Gemini's stream: thoughts, text, signatures, images, sources."""

from __future__ import annotations

import pytest

from tests.wires.gemini.streams import PNG, START, blocks_of, call, chunk, decode, end, message_of, sse
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    Metadata,
    TextDelta,
    ThinkingDelta,
)
from turnstream.core.usage import Usage

STOP = MessageStop("end_turn", "STOP")


# --- text, thoughts, signatures -----------------------------------------------------------------------------


@pytest.mark.requirement("B1", "E2", "L4")
def test_thoughts_and_text_are_blocks_of_their_own() -> None:
    body = sse(
        chunk({"text": "h", "thought": True}),
        chunk({"text": "m", "thought": True}),
        chunk({"text": "a"}),
        chunk({"text": "b"}, {"text": "c"}),
        end({"text": ""}, usageMetadata={"promptTokenCount": 1, "totalTokenCount": 1}),
    )
    assert decode(body) == [
        START,
        ContentBlockStart(0, "thinking"),
        ThinkingDelta(0, "h"),
        ThinkingDelta(0, "m"),
        ContentBlockStop(0),
        ContentBlockStart(1, "text"),
        TextDelta(1, "a"),
        TextDelta(1, "b"),
        TextDelta(1, "c"),
        Metadata(Usage(1), {"promptTokenCount": 1, "totalTokenCount": 1}),
        ContentBlockStop(1),
        STOP,
    ]


@pytest.mark.requirement("B3", "B5")
def test_a_signature_marks_the_text_it_came_with() -> None:
    assert blocks_of(
        chunk({"text": "ab"}), chunk({"text": "cd", "thoughtSignature": "c2ln"}), end({"text": "ef"})
    ) == [("text", "abcdef", {"provider_metadata": {"thoughtSignature": "c2ln", "signed": [2, 4]}})]
    late = blocks_of(chunk({"text": "ab"}), end({"text": "", "thoughtSignature": "c2ln"}))
    assert late == [("text", "ab", {"provider_metadata": {"thoughtSignature": "c2ln", "signed": [2, 2]}})]
    alone = blocks_of(chunk({"text": "a"}), end({"thoughtSignature": "c2ln"}))
    assert alone[0][2] == {"provider_metadata": {"thoughtSignature": "c2ln", "signed": [1, 1]}}


@pytest.mark.parametrize("value", [1, True, ["a"], {"a": 1}, 0.5])
def test_a_text_that_is_no_text_is_a_raw_part(value: object) -> None:
    for part in ({"text": value, "thoughtSignature": "c2ln"}, {"text": value}):
        (kind, *_), *rest = blocks_of(chunk(part), end({"text": "b"}))
        assert (kind, rest) == ("provider", [("text", "b", None)])


@pytest.mark.requirement("B3", "B5")
def test_two_signatures_are_two_blocks() -> None:
    found = blocks_of(
        chunk({"text": "a", "thoughtSignature": "MQ=="}), end({"text": "b", "thoughtSignature": "Mg=="})
    )
    assert [text for _, text, _ in found] == ["a", "b"]
    found = blocks_of(
        chunk({"text": "a", "thought": True, "thoughtSignature": "MQ=="}),
        chunk({"text": "b", "thought": True, "thoughtSignature": "Mg=="}),
        end({"text": "c"}),
    )
    assert found == [
        ("thinking", "a", {"signature": "MQ==", "provider_metadata": {"part": "thought"}}),
        ("thinking", "b", {"signature": "Mg==", "provider_metadata": {"part": "thought"}}),
        ("text", "c", None),
    ]


@pytest.mark.requirement("B3")
def test_a_signature_without_any_text_is_kept_as_its_part() -> None:
    assert blocks_of(chunk(call("f", {}, id="i")), end({"text": "", "thoughtSignature": "c2ln"})) == [
        ("tool_use", None, {"tool_use_id": "i", "tool_name": "f", "input": {}, "input_json": "{}"}),
        ("provider", None, {"text": "", "thoughtSignature": "c2ln"}),
    ]


@pytest.mark.requirement("B3", "E6")
def test_what_nobody_told_us_of_is_kept() -> None:
    blocks = blocks_of(
        chunk({"hologram": {"x": 1}}),
        chunk({"text": "a", "partMetadata": {"k": 1}}),
        chunk({"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}),
        end({"text": "b"}),
    )
    assert blocks == [
        ("provider", None, {"hologram": {"x": 1}}),
        ("text", "a", {"provider_metadata": {"partMetadata": {"k": 1}}}),
        ("provider", None, {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}),
        ("text", "b", None),
    ]
    events = decode(sse(chunk({"text": "a"}, modelStatus={"x": 1}), end({"text": "b"}, modelStatus={"x": 1})))
    assert [e.provider_metadata for e in events if isinstance(e, Metadata)] == [{"modelStatus": {"x": 1}}]


@pytest.mark.fault(20)
def test_what_each_part_repeats_makes_no_blocks() -> None:
    same = [chunk({"text": "a", "partMetadata": {"k": 1}}) for _ in range(5)]
    assert blocks_of(*same, end({"text": "b"})) == [
        ("text", "aaaaa", {"provider_metadata": {"partMetadata": {"k": 1}}}),
        ("text", "b", None),
    ]
    counted = [
        chunk({"text": "a", "index": n, "speed": n / 2, "tokenIds": [n], "meter": {"n": n}})
        for n in range(50)
    ]
    assert blocks_of(*counted, end({"text": "b"})) == [("text", "a" * 50 + "b", None)]
    thoughts = [chunk({"text": "a", "thought": True, "note": "x"}) for _ in range(5)]
    assert blocks_of(*thoughts, end({"text": "b"})) == [("thinking", "aaaaa", None), ("text", "b", None)]


@pytest.mark.fault(20)
def test_counters_beside_the_answer_are_told_first_and_last() -> None:
    events = decode(sse(*[chunk({"text": "a"}, serverTime=n) for n in range(50)], end({"text": "b"})))
    told = [
        event.provider_metadata for event in events if isinstance(event, Metadata) and event.provider_metadata
    ]
    assert told == [{"serverTime": 0}, {"serverTime": 49}]


@pytest.mark.requirement("B3")
def test_images_are_blocks() -> None:
    found = blocks_of(
        chunk({"inlineData": {"mimeType": "image/png", "data": PNG}, "thoughtSignature": "c2ln"}),
        end({"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.example/i"}}),
    )
    assert found == [
        (
            "image",
            None,
            {"media_type": "image/png", "data": PNG, "provider_metadata": {"thoughtSignature": "c2ln"}},
        ),
        ("image", None, {"url": "https://x.example/i", "media_type": "image/jpeg"}),
    ]


@pytest.mark.requirement("B3")
def test_what_its_own_tools_do() -> None:
    code, result = {"language": "PYTHON", "code": "1+1"}, {"outcome": "OUTCOME_FAILED", "output": "no"}
    found = message_of(
        chunk({"executableCode": code}),
        chunk({"codeExecutionResult": result}),
        chunk({"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["q"]}, "id": "s1"}}),
        end({"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "response": {"a": 1}, "id": "s1"}}),
    )
    asked, answered, searched, sources = (block["content"] for block in found["blocks"])
    assert (asked["tool_name"], asked["input"], asked["provider_executed"]) == ("code_execution", code, True)
    assert answered["tool_use_id"] == asked["tool_use_id"]
    assert (answered["content"], answered["is_error"]) == (result, True)
    assert (searched["tool_name"], searched["input"]) == ("GOOGLE_SEARCH_WEB", {"queries": ["q"]})
    assert searched["tool_use_id"] == sources["tool_use_id"] == "s1"
    assert found["stop_reason"] == "end_turn"


@pytest.mark.requirement("B3")
def test_sources_are_cited_once() -> None:
    source = {"web": {"uri": "https://a.example", "title": "A"}}
    support = {
        "segment": {"startIndex": 0, "endIndex": 2, "text": "ab"},
        "groundingChunkIndices": [0, 7, "x"],
    }
    grounding = {"groundingChunks": [source], "groundingSupports": [support], "webSearchQueries": ["q"]}
    first, last = chunk({"text": "ab"}), end({"text": "c"})
    first["candidates"][0]["groundingMetadata"] = last["candidates"][0]["groundingMetadata"] = grounding
    last["candidates"][0]["citationMetadata"] = {"citationSources": [{"uri": "https://b.example"}]}
    assert blocks_of(first, last) == [
        (
            "text",
            "abc",
            {
                "citations": [
                    {**source, "segments": [{"startIndex": 0, "endIndex": 2}]},
                    {"uri": "https://b.example"},
                ]
            },
        )
    ]
    told = [e.provider_metadata for e in decode(sse(first, last)) if isinstance(e, Metadata)]
    assert told[0] == {"groundingMetadata": grounding}
