"""Gemini's stream both ways: what the API sends in either framing, and that what is encoded decodes to itself."""

from __future__ import annotations

import itertools
import json
import time
import tracemalloc
from base64 import b64encode
from collections import deque
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
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import EventTooLarge, MalformedEvent, StreamIncomplete
from turnstream.wires.gemini.arguments import parse_path
from turnstream.wires.gemini.wire import ARRAY_WIRE, WIRE
from turnstream.wires.recording import decode_pieces

START = MessageStart("r1", "m")
STOP = MessageStop("end_turn", "STOP")
ANSWERS = WIRE
PNG = "iVBORw0KGgoAAAANSUhEUg=="


def chunk(*parts: dict[str, Any], reason: str | None = None, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "r1", **fields}


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in chunks)


def end(*parts: dict[str, Any], reason: str = "STOP", **fields: Any) -> dict[str, Any]:
    return chunk(*parts, reason=reason, **fields)


def decode(data: bytes, **options: Any) -> list[StreamEvent]:
    decoder = WIRE.decoder(**options)
    return [*decoder.feed(data), *decoder.close()]


def message_of(*chunks: Any) -> dict[str, Any]:
    """The decoded message, the same in every framing and at every cut."""
    data = sse(*chunks)
    whole = decode_pieces(WIRE, [data])
    for framed in (
        data,
        json.dumps(chunks, indent=2).encode(),
        json.dumps(chunks).encode(),
        b"[" + b"\n,\r\n".join(json.dumps(value).encode() for value in chunks) + b"\n]\n",
    ):
        for place in range(1, len(framed), 1 + len(framed) // 40):
            assert decode_pieces(WIRE, [framed[:place], framed[place:]]) == whole
    return whole


def blocks_of(*chunks: Any) -> list[tuple[str, str | None, Any]]:
    blocks = message_of(*chunks)["blocks"]
    return [(block["block_type"], block["text_content"], block["content"]) for block in blocks]


def call(name: str, args: Any = None, **fields: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, **({} if args is None else {"args": args}), **fields}}


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


# --- calls --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("E2", "E3", "G2")
def test_parallel_calls_with_and_without_ids() -> None:
    body = [
        chunk(call("f", {"a": 1}), call("f", {"a": 1}), call("g", None, id="x")),
        end(call("g", {}, id="x")),
    ]
    found = message_of(*body)
    calls = [block["content"] for block in found["blocks"]]
    assert [(c["tool_name"], c["input"]) for c in calls] == [
        ("f", {"a": 1}),
        ("f", {"a": 1}),
        ("g", {}),
        ("g", {}),
    ]
    assert len({c["tool_use_id"] for c in calls}) == 4
    assert calls[2]["tool_use_id"] == "x"
    assert (found["stop_reason"], found["raw_stop_reason"]) == ("tool_use", "STOP")
    assert [c["tool_use_id"] for c in calls] == [
        b["content"]["tool_use_id"] for b in message_of(*body)["blocks"]
    ]
    others = message_of(*[{**value, "responseId": "r2"} for value in body])["blocks"]
    assert calls[0]["tool_use_id"] != others[0]["content"]["tool_use_id"]


@pytest.mark.requirement("B4")
def test_a_signature_stays_with_its_call() -> None:
    body = chunk({**call("f", {}), "thoughtSignature": "c2ln"}, call("g", {}))
    first, second = (block[2] for block in blocks_of(body, end({"text": ""})))
    assert first["provider_metadata"] == {"thoughtSignature": "c2ln"}
    assert "provider_metadata" not in second


def pieces(*arguments: dict[str, Any], more: bool = True, **fields: Any) -> dict[str, Any]:
    told = {**({"partialArgs": list(arguments)} if arguments else {}), **fields}
    return {"functionCall": {**told, "willContinue": True} if more else told}


def arg(path: str, value: Any = None, *, more: bool = False) -> dict[str, Any]:
    kind = {str: "stringValue", bool: "boolValue", int: "numberValue", float: "numberValue"}.get(type(value))
    said = {"nullValue": "NULL_VALUE"} if kind is None else {kind: value}
    return {"jsonPath": path, **said, **({"willContinue": True} if more else {})}


@pytest.mark.requirement("B4", "E2")
@pytest.mark.parametrize("last", [pieces(more=False), None, {"functionCall": {"name": "other", "args": {}}}])
def test_arguments_in_pieces_grow_as_they_come(last: dict[str, Any] | None) -> None:
    body = sse(
        chunk(pieces(name="f", id="i")),
        chunk(pieces(arg("$.city", "Pa", more=True))),
        chunk(pieces(arg("$.city", 'ris "é"\n', more=True))),
        chunk(pieces(arg("$.city", ""), arg("$.days[0].n", 1))),
        chunk(pieces(arg("$.days[0].ok", True), arg("$.days[1]", None))),
        chunk(pieces(arg("$['two words'].x", 0.5))),
        *([] if last is None else [chunk(last)]),
        end({"text": ""}),
    )
    deltas = [
        event.partial_json for event in decode(body) if isinstance(event, ToolInputDelta) and event.index == 0
    ]
    assert deltas == [
        '{"city":"Pa',
        'ris \\"é\\"\\n',
        '","days":[{"n":1',
        ',"ok":true},null',
        '],"two words":{"x":0.5',
        "}}",
    ]
    content = decode_pieces(WIRE, [body])["blocks"][0]["content"]
    assert content["tool_use_id"] == "i"
    assert content["input"] == {
        "city": 'Paris "é"\n',
        "days": [{"n": 1, "ok": True}, None],
        "two words": {"x": 0.5},
    }


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([arg("$.a.x", 1), arg("$.b", 2), arg("$.a.y", 3)], {"a": {"x": 1, "y": 3}, "b": 2}),
        ([arg("$.a", 1), arg("$.a", 2)], {"a": 2}),
        ([arg("$.a", "x"), arg("$.b", "y"), arg("$.a", "z")], {"a": "z", "b": "y"}),
        ([arg("$.a[2]", 1)], {"a": [None, None, 1]}),
        ([arg("$.a[0].b", 1), arg("$.a[2].b", 2)], {"a": [{"b": 1}, None, {"b": 2}]}),
        ([arg("$.a[1]", 1), arg("$.a[0]", 2)], {"a": [2, 1]}),
        ([arg("$.a.b", 1), arg("$.a", 2), arg("$.c", "s", more=True), arg("$.c", "t")], {"a": 2, "c": "st"}),
        ([arg("$.a", "x", more=True), arg("$.b", 1)], {"a": "x", "b": 1}),
        ([arg('$["a\\"b"].c', 1)], {'a"b': {"c": 1}}),
        ([{"jsonPath": "$.a"}], {}),
        ([arg("$.a", "x", more=True), {"jsonPath": "$.a"}, arg("$.b", 1)], {"a": "x", "b": 1}),
    ],
)
def test_pieces_in_any_order(arguments: list[dict[str, Any]], found: Any) -> None:
    whole = blocks_of(chunk(pieces(*arguments, more=False, name="f")), end({"text": ""}))
    assert whole[0][2]["input"] == found
    parts = [chunk(pieces(argument)) for argument in arguments]
    apart = blocks_of(chunk(pieces(name="f")), *parts, end({"text": "done"}))
    assert apart[0][2]["input"] == found
    assert apart[1][:2] == ("text", "done")


json_names = st.text(min_size=1, max_size=4)
json_leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12)
json_trees = st.dictionaries(
    json_names,
    st.recursive(
        json_leaves,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.dictionaries(json_names, inner, min_size=1, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    "late", [{"name": "f", "willContinue": True}, {"name": "f", "partialArgs": [arg("$.y", 2)]}]
)
def test_a_name_may_come_after_the_first_piece(late: dict[str, Any]) -> None:
    first = {"functionCall": {"partialArgs": [arg("$.x", 1)], "willContinue": True}}
    folded = decode_pieces(WIRE, [sse(chunk(first), end({"functionCall": late}))])
    (block,) = folded["blocks"]
    assert block["content"]["tool_name"] == "f"
    assert block["content"]["input"]["x"] == 1


def leaves(value: Any, path: str = "$") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{path}[{json.dumps(key)}]")]
    if isinstance(value, list):
        return [leaf for n, item in enumerate(value) for leaf in leaves(item, f"{path}[{n}]")]
    return [(path, value)]


@settings(max_examples=80, deadline=None)
@given(tree=json_trees, draw=st.data())
@pytest.mark.requirement("B4")
def test_any_arguments_come_whole_out_of_any_pieces(tree: dict[str, Any], draw: st.DataObject) -> None:
    told = leaves(tree)
    if draw.draw(st.booleans()):
        told = draw.draw(st.permutations(told))
    arguments: list[dict[str, Any]] = []
    for path, value in told:
        if isinstance(value, str):
            cut = draw.draw(st.integers(0, len(value)))
            arguments += [arg(path, value[:cut], more=True), arg(path, value[cut:])]
        else:
            arguments.append(arg(path, value))
    body = sse(chunk(pieces(name="f")), *(chunk(pieces(item)) for item in arguments), end({"text": ""}))
    content = decode_pieces(WIRE, [body])["blocks"][0]["content"]
    assert content["input"] == tree, content["input_json"]


@pytest.mark.requirement("E6")
@pytest.mark.parametrize(
    "argument",
    [
        {},
        {"jsonPath": 1},
        arg("a", 1),
        arg("$", 1),
        arg("$[0]", 1),
        arg("$.a[99999]", 1),
        arg("$.a..b", 1),
        arg("$" + ".a" * 101, 1),
    ],
)
def test_pieces_that_are_none(argument: dict[str, Any]) -> None:
    body = sse(chunk(pieces(argument, name="f")), end({"text": "x"}))
    with pytest.raises(MalformedEvent):
        decode(body)
    assert any(isinstance(event, StreamNotice) for event in decode(body, on_malformed="skip"))


def test_paths() -> None:
    assert parse_path('$.a[0][\'b c\']["d\\"e"]') == ["a", 0, "b c", 'd"e']


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


# --- framing ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("E6")
def test_a_malformed_event_is_skipped_or_ends_the_stream() -> None:
    begun, ended = chunk({"text": "a"}), end({"text": "b"})
    broken = b'{"candidates": [}'
    for body in (
        sse(begun) + b"data: " + broken + b"\n\n" + sse(ended),
        b"[%b,%b,%b]" % (json.dumps(begun).encode(), broken, json.dumps(ended).encode()),
        b"[%b,\n%b\n,%b]"
        % (json.dumps(begun, indent=1).encode(), broken, json.dumps(ended, indent=1).encode()),
        b"[%b, nonsense ,%b]" % (json.dumps(begun).encode(), json.dumps(ended).encode()),
    ):
        decoder = WIRE.decoder()
        assert decoder.feed(body)[-1] == TextDelta(0, "a")
        with pytest.raises(MalformedEvent):
            decoder.feed(b"")
        with pytest.raises(MalformedEvent):
            decoder.close()
        events = decode(body, on_malformed="skip")
        assert [event.code for event in events if isinstance(event, StreamNotice)] == ["malformed_event"]
        assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b"]


@pytest.mark.requirement("E4", "O2")
@pytest.mark.parametrize("before", [b"[", b'[{"a":"', b"[ nonsense", b"data: "])
def test_an_event_has_a_limit(before: bytes) -> None:
    for size in (99, 100, 10_000):
        body = sse(chunk({"text": "x" * size}))
        whole = json.dumps([chunk({"text": "x" * size})], indent=1).encode()
        for framed in (body, whole, json.dumps([chunk({"text": "x" * size})]).encode()):
            limit = len(framed) - 10
            with pytest.raises(StreamIncomplete):
                decode(framed, event_limit=limit + 10)
            with pytest.raises(EventTooLarge):
                decode(framed, event_limit=size)
    decoder = WIRE.decoder(event_limit=100_000)
    decoder.feed(before)
    tracemalloc.start()
    try:
        with pytest.raises(EventTooLarge):
            deque(map(decoder.feed, itertools.repeat(b"x" * 10_000, 1000)), maxlen=0)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.requirement("E4")
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_takes_time_in_proportion(indent: int | None) -> None:
    def seconds(count: int) -> float:
        body = json.dumps([chunk({"text": '}\n]\\"' * 3})] * count, indent=indent).encode()
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            decoder = WIRE.decoder()
            for place in range(0, len(body), 300):
                decoder.feed(body[place : place + 300])
            WIRE.decoder().feed(body)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(4000) < 4 * 16 * seconds(250)


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(
    "path", ["$.items[{n}].name", "$.text", "$.half{half}.k{n}"], ids=["fields", "a string", "late"]
)
def test_arguments_in_pieces_take_time_in_proportion(path: str) -> None:
    def seconds(count: int) -> float:
        told = [path.format(n=n, half=n % 2) for n in range(count)]
        body = sse(
            chunk(pieces(name="f")), *(chunk(pieces(arg(where, "word ", more=True))) for where in told)
        )
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            WIRE.decoder().feed(body)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(2000) < 16 * 4 * seconds(125)


@pytest.mark.requirement("B4", "E4")
def test_halves_of_a_surrogate_pair_meet() -> None:
    body = sse(chunk({"text": "a"})) + (
        b'data: {"candidates":[{"content":{"parts":[{"text":"\\ud83d"}]}}]}\n\n'
        b'data: {"candidates":[{"content":{"parts":[{"text":"\\ude00"}]},"finishReason":"STOP"}]}\n\n'
    )
    assert decode_pieces(WIRE, [body])["blocks"][0]["text_content"] == "a😀"


@pytest.mark.requirement("E1")
def test_proto_names_are_read() -> None:
    body = sse(
        {
            "candidates": [
                {
                    "content": {
                        "parts": [
                            {"text": "hm", "thought": True},
                            {"function_call": {"name": "f", "args": {"a_b": 1}}, "thought_signature": "c2ln"},
                        ]
                    },
                    "finish_reason": "STOP",
                }
            ],
            "usage_metadata": {"prompt_token_count": 3},
            "model_version": "m",
            "response_id": "r1",
        }
    )
    found = decode_pieces(WIRE, [body])
    assert (found["id"], found["model"], found["usage"]["input_tokens"]) == ("r1", "m", 3)
    assert found["blocks"][1]["content"]["input"] == {"a_b": 1}
    assert found["blocks"][1]["content"]["provider_metadata"] == {"thoughtSignature": "c2ln"}


# --- encoding -----------------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
base64s = st.binary(min_size=1, max_size=6).map(lambda data: b64encode(data).decode())


@st.composite
def canonical_messages(draw: st.DrawFn) -> list[StreamEvent]:
    """Events as the decoder gives them, of whatever the wire can say."""
    usage = {"promptTokenCount": draw(st.integers(0, 9)), "candidatesTokenCount": 5, "totalTokenCount": 9}
    events: list[StreamEvent] = [MessageStart(draw(words), draw(words))]
    said = False
    called = False
    kind = ""
    for index in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([k for k in ("text", "thinking", "call", "image", "raw") if k != kind]))
        body: list[StreamEvent] = []
        content: Any = None
        match kind:
            case "text":
                texts = draw(st.lists(words, min_size=1, max_size=4))
                body = [TextDelta(index, text) for text in texts]
                if draw(st.booleans()):
                    place = len("".join(texts))
                    signed = {"thoughtSignature": draw(base64s), "signed": [place, place]}
                    body.append(ContentDelta(index, {"provider_metadata": signed}))
            case "thinking":
                body = [ThinkingDelta(index, text) for text in draw(st.lists(words, min_size=1, max_size=3))]
                if draw(st.booleans()):
                    body.append(SignatureDelta(index, draw(base64s)))
                    body.append(ContentDelta(index, {"provider_metadata": {"part": "thought"}}))
            case "call":
                called = True
                content = {"tool_use_id": f"id{index}", "tool_name": draw(words)}
                if draw(st.booleans()):
                    content["provider_metadata"] = {"thoughtSignature": draw(base64s)}
                if draw(st.booleans()):
                    args = draw(st.dictionaries(words, json_leaves, max_size=3))
                    text = json.dumps(args, ensure_ascii=False, separators=(",", ":"))
                    body = [ToolInputDelta(index, text)]
            case "image":
                content = {"media_type": "image/png", "data": PNG}
            case _:
                content = {"inlineData": {"mimeType": "audio/wav", "data": draw(base64s)}}
        block_type: Any = {"call": "tool_use", "raw": "provider"}.get(kind, kind)
        start = ContentBlockStart(index, block_type, content)
        block = [start, *body, ContentBlockStop(index)]
        if not said:
            said = True
            reported = Metadata(Usage(usage["promptTokenCount"], 5), usage)
            place = 2 if block_type in ("text", "thinking") else len(block)
            block.insert(place, reported)
        events += block
    reason, raw = draw(
        st.sampled_from([("end_turn", "STOP"), ("max_tokens", "MAX_TOKENS"), ("unknown", "NEW")])
    )
    if raw == "NEW" and all(
        isinstance(event, ContentBlockStart) is False or event.block_type == "thinking" for event in events
    ):
        reason, raw = "max_tokens", "MAX_TOKENS"  # an answer without content does not end so
    events.append(MessageStop("tool_use" if called and raw == "STOP" else reason, raw))  # type: ignore[arg-type]
    return events


def as_sent(events: list[StreamEvent]) -> list[StreamEvent]:
    """What an encoder is fed: usage is known before the first block."""
    usage = next(event for event in events if isinstance(event, Metadata))
    rest = [event for event in events if event is not usage]
    return [rest[0], usage, *rest[1:]]


@settings(max_examples=120, deadline=None)
@given(events=canonical_messages(), wire=st.sampled_from([WIRE, ARRAY_WIRE]))
@pytest.mark.requirement("E1", "E2")
def test_what_is_encoded_decodes_to_itself(events: list[StreamEvent], wire: Any) -> None:
    sent = as_sent(events)
    encoder = wire.encoder(model="another", message_id="another")
    body = encoder.feed(sent) + encoder.close()
    decoded = decode(body)
    assert as_sent(decoded) == sent
    encoder = wire.encoder(model="another", message_id="another")
    assert b"".join([*(encoder.feed([event]) for event in sent), encoder.close()]) == body
    answer = fold_answer(sent)
    again = fold_answer(ANSWERS.decode_answer(wire.encode_answer(answer)))
    assert (again.id, again.model, again.stop, again.usage) == (
        answer.id,
        answer.model,
        answer.stop,
        answer.usage,
    )
    assert [without_places(block) for block in again.blocks] == [
        without_places(block) for block in answer.blocks
    ]


def without_places(block: Any) -> tuple[Any, ...]:
    content = dict(block.content or {})
    return block.block_type, block.text_content, {k: v for k, v in content.items() if k != "input_json"}


@pytest.mark.requirement("D4", "P5")
def test_an_error_and_a_missing_end_are_encoded_as_such() -> None:
    failed = StreamError("throttling", "rate_limit_error", "slow down", 429)
    for wire in (WIRE, ARRAY_WIRE):
        encoder = wire.encoder(model="m", message_id="r1")
        body = encoder.feed([START, TextDelta(0, "a"), failed]) + encoder.close()
        assert decode(body)[-1] == failed
        encoder = wire.encoder(model="m", message_id="r1")
        body = encoder.feed([START, TextDelta(0, "a")]) + encoder.close()
        with pytest.raises(StreamIncomplete):
            decode(body)


@pytest.mark.requirement("E1")
def test_an_array_is_json() -> None:
    encoder = ARRAY_WIRE.encoder(model="m", message_id="r1")
    body = encoder.feed([START, TextDelta(0, "a"), MessageStop("end_turn")]) + encoder.close()
    assert [c["candidates"][0]["content"]["parts"] for c in json.loads(body)] == [
        [{"text": "a"}],
        [{"text": ""}],
    ]
    assert json.loads(ARRAY_WIRE.encoder(model="m", message_id="i").close()) == []


@pytest.mark.requirement("E1")
def test_an_answer_that_is_no_stream() -> None:
    body = end(
        {"text": "hm", "thought": True},
        {"text": "a"},
        call("f", {"x": 1}),
        usageMetadata={"promptTokenCount": 2},
    )
    whole = json.dumps(body).encode()
    assert ANSWERS.decode_answer(whole) == decode(sse(body))
    assert ANSWERS.decode_answer(json.dumps(chunk({"text": "a"})).encode())[-1] == MessageStop()
    for other in (b"", b"nonsense", b"[]", b"{}", whole[:-1], b'{"choices":[]}', b"[1]"):
        with pytest.raises(MalformedEvent):
            ANSWERS.decode_answer(other)
