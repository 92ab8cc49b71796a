"""Requests to Gemini, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.gemini.requests import TOOL, ask, body_of, said, text
from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block
from turnstream.errors import (
    InvalidRequest,
)
from turnstream.wires.gemini.wire import WIRE

PATH = "/v1beta/models/gemini-3.8-flash:streamGenerateContent"

PNG = "iVBORw0KGgoAAAANSUhEUg=="


def parts_of(*blocks: Block, role: str = "assistant", model: str = "m") -> list[dict[str, Any]]:
    contents = body_of(ask(said(role, *blocks), model=model))["contents"]
    return [part for content in contents for part in content["parts"]]


def call(identity: str = "i1", content: Any = None) -> Block:
    told = {"tool_use_id": identity, "tool_name": "f", "input": {"x": "1"}, "input_json": '{"x":"1"}'}
    return Block(0, "tool_use", None, {**told, **(content or {})})


def result(value: Any, identity: str = "i1", *, is_error: bool = False) -> Block:
    return Block(0, "tool_result", None, {"tool_use_id": identity, "content": value, "is_error": is_error})


# --- where a call goes --------------------------------------------------------------------------------------


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        ("gemini-x", True, "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"),
        ("gemini-x", False, "/v1beta/models/gemini-x:generateContent"),
        ("tunedModels/mine", True, "/v1beta/tunedModels/mine:streamGenerateContent?alt=sse"),
        ("a b?c#d", False, "/v1beta/models/a%20b%3Fc%23d:generateContent"),
        ("story:events=3,pace=0", False, "/v1beta/models/story:events=3,pace=0:generateContent"),
    ],
)
def test_the_path_names_the_model_and_how_to_answer(model: str, stream: bool, path: str) -> None:
    encoded = WIRE.encode_request(ask(model=model, stream=stream))
    assert encoded.path == path
    assert "model" not in json.loads(encoded.body)
    decoded = WIRE.decode_request(encoded.path, encoded.body)
    assert (decoded.model, decoded.stream) == (model, stream)


def test_the_paths_of_vertex_are_understood() -> None:
    path = "/v1beta1/projects/p/locations/l/publishers/google/models/gemini-x:generateContent"
    decoded = WIRE.decode_request(path, b'{"contents":[]}')
    assert (decoded.model, decoded.stream) == ("gemini-x", False)
    with pytest.raises(InvalidRequest, match="model"):
        WIRE.decode_request("/", b'{"contents":[]}')


def test_the_key_or_an_access_token() -> None:
    assert WIRE.auth_headers("AIza") == {"x-goog-api-key": "AIza"}
    assert WIRE.auth_headers("ya29.x") == {"authorization": "Bearer ya29.x"}


@pytest.mark.requirement("F1")
def test_what_was_encoded_is_the_request_again() -> None:
    request = ask(
        said("user", text("a"), Block(0, "image", None, {"media_type": "image/png", "data": PNG})),
        said(
            "assistant",
            Block(0, "thinking", "hm", {"signature": "c2ln", "provider_metadata": {"part": "thought"}}),
            text("b", {"provider_metadata": {"thoughtSignature": "c2ln"}}),
            call(content={"provider_metadata": {"thoughtSignature": "c2ln"}}),
            call("i2"),
        ),
        said("user", result("no", is_error=True), result({"rows": [1]}, "i2"), text("c")),
        said("user", Block(0, "document", None, {"media_type": "application/pdf", "data": "AAAA"})),
        said("assistant", text("d")),
        system="s",
        tools=(TOOL,),
        params={
            "max_tokens": 5,
            "stop": ["x"],
            "thinking": {"effort": "high"},
            "response_format": {"type": "json_object"},
            "tools": [{"googleSearch": {}}],
            "toolConfig": {"includeServerSideToolInvocations": True},
            "safetySettings": [{"category": "c"}],
            "seed": 1,
        },
    )
    encoded = WIRE.encode_request(request)
    again = WIRE.decode_request(encoded.path, encoded.body)
    assert WIRE.encode_request(again) == encoded
    assert again.params == request.params
    assert (again.system, again.tools, again.model) == (request.system, request.tools, request.model)
    merged = [message.role for message in again.messages]
    assert merged == ["user", "assistant", "user", "assistant"]
    assert again.messages[1].blocks == request.messages[1].blocks


# --- parts --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("P4")
def test_a_decoded_answer_goes_back_part_by_part() -> None:
    parts = [
        {"text": "hm", "thought": True, "thoughtSignature": "MA=="},
        {"text": "a"},
        {"text": "b", "thoughtSignature": "MQ=="},
        {"text": "c"},
        {"functionCall": {"id": "i", "name": "f", "args": {"x": 1}}, "thoughtSignature": "Mg=="},
        {"functionCall": {"name": "g", "args": {}}},
        {"text": "", "thoughtSignature": "Mw=="},
        {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "NA=="},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
        {"toolCall": {"toolType": "T", "args": {"q": 1}, "id": "t"}},
        {"toolResponse": {"toolType": "T", "response": {"r": 1}, "id": "t"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        {"inlineData": {"mimeType": "image/png", "data": PNG}, "thoughtSignature": "NQ=="},
    ]
    chunks = [
        {"candidates": [{"content": {"parts": [part], "role": "model"}}], "responseId": "r"} for part in parts
    ]
    chunks[-1]["candidates"][0]["finishReason"] = "STOP"  # type: ignore[index]
    decoder = WIRE.decoder()
    answer = fold_answer([*decoder.feed(json.dumps(chunks).encode()), *decoder.close()])
    assert parts_of(*answer.blocks) == parts
    request = ask(said("user", text("q")), said("assistant", *answer.blocks), model="gemini-2.5-flash")
    encoded = WIRE.encode_request(request)
    again = WIRE.encode_request(WIRE.decode_request(encoded.path, encoded.body))
    assert json.loads(again.body) == json.loads(encoded.body)


@pytest.mark.requirement("P4")
def test_what_the_api_would_refuse_stays_here() -> None:
    foreign = {"provider_metadata": {"type": "server_tool_use"}, "provider_executed": True}
    assert (
        parts_of(
            Block(0, "thinking", "hm"),
            Block(0, "thinking", None, {"redacted": "x"}),
            Block(0, "thinking", "another's", {"signature": "c2ln"}),
            Block(
                0,
                "thinking",
                "cut",
                {"signature": "c2ln", "provider_metadata": {"part": "thought"}},
                partial=True,
            ),
            text(""),
            call(content=foreign),
            Block(0, "tool_result", None, {"tool_use_id": "i1", "content": [], "is_error": False, **foreign}),
            Block(0, "provider", None, {"type": "compaction", "content": "x"}),
            Block(0, "provider", None, {"hologram": 1}),
        )
        == []
    )
    marked = text("a", {"provider_metadata": {"refusal": True}, "citations": [1]})
    assert parts_of(marked) == [{"text": "a"}]


@pytest.mark.requirement("G6", "P4")
@pytest.mark.parametrize(
    ("value", "is_error", "response"),
    [
        ("done", False, {"output": "done"}),
        ("broke", True, {"error": "broke"}),
        ({"rows": 1}, False, {"rows": 1}),
        ({"rows": 1}, True, {"error": {"rows": 1}}),
        ([1, 2], False, {"output": [1, 2]}),
        (None, False, {"output": ""}),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], False, {"output": "a\nb"}),
    ],
)
def test_results(value: Any, is_error: bool, response: Any) -> None:
    contents = body_of(ask(said("assistant", call(), result(value, is_error=is_error))))["contents"]
    assert [content["role"] for content in contents] == ["model", "user"]
    assert contents[1]["parts"] == [{"functionResponse": {"id": "i1", "name": "f", "response": response}}]


def test_an_image_of_a_result_goes_along() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    value = [{"type": "text", "text": "a"}, {"type": "image", "source": source}]
    (response,) = parts_of(result(value), role="user")
    assert response["functionResponse"]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": PNG}}]
    assert response["functionResponse"]["response"] == {"output": "a"}


def test_media() -> None:
    blocks = [
        Block(0, "image", None, {"url": "https://a.example/i.png"}),
        Block(0, "document", None, {"text": "words", "title": "t"}),
        Block(0, "document", None, {"url": "gs://b/c.pdf", "media_type": "application/pdf"}),
    ]
    assert parts_of(*blocks, role="user") == [
        {"fileData": {"fileUri": "https://a.example/i.png"}},
        {"text": "words"},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://b/c.pdf"}},
    ]


@pytest.mark.requirement("P4")
def test_calls_that_another_model_made_pass_the_check_of_signatures() -> None:
    signed = call(content={"provider_metadata": {"thoughtSignature": "c2ln"}})
    unsigned = parts_of(call(), call("i2"), model="gemini-3-pro-preview")
    assert [part.get("thoughtSignature") for part in unsigned] == ["skip_thought_signature_validator", None]
    assert [p.get("thoughtSignature") for p in parts_of(signed, call("i2"), model="gemini-3-pro")] == [
        "c2ln",
        None,
    ]
    assert "thoughtSignature" not in parts_of(call(), model="gemini-2.5-pro")[0]


@pytest.mark.requirement("G6")
def test_calls_without_ids_find_their_results() -> None:
    contents = [
        {
            "role": "model",
            "parts": [{"functionCall": {"name": name, "args": {}}} for name in ("f", "g", "f")],
        },
        {
            "role": "function",
            "parts": [
                {"function_response": {"name": name, "response": {"output": name}}}
                for name in ("g", "f", "f")
            ],
        },
    ]
    raw = json.dumps({"contents": contents}).encode()
    decoded = WIRE.decode_request(PATH, raw)
    calls = [block.content["tool_use_id"] for block in decoded.messages[0].blocks if block.content]
    results = [block.content["tool_use_id"] for block in decoded.messages[1].blocks if block.content]
    assert results == [calls[1], calls[0], calls[2]]
    assert len(set(calls)) == 3
    written = json.loads(WIRE.encode_request(decoded).body)["contents"]
    assert [part["functionResponse"]["name"] for part in written[1]["parts"]] == ["g", "f", "f"]
    assert all("id" not in part["functionResponse"] for part in written[1]["parts"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"contents": 1}',
        b'{"contents": [1]}',
        b'{"contents": [{"role": "x"}]}',
        b'{"contents": [{"parts": [1]}]}',
        b'{"contents": [{"parts": [{"functionCall": {}}]}]}',
        b'{"contents": [], "tools": 1}',
        b'{"contents": [], "tools": [{"functionDeclarations": [{}]}]}',
        b'{"contents": [], "generationConfig": 1}',
    ],
)
def test_what_is_no_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        WIRE.decode_request(PATH, body)
