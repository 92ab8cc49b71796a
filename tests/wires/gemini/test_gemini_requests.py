"""Requests to Gemini both ways, and its errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import StreamError
from turnstream.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidModelRequest,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.base import ModelRequest, ToolDefinition
from turnstream.wires.gemini.wire import WIRE

PATH = "/v1beta/models/gemini-3.8-flash:streamGenerateContent"
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}}
TOOL = ToolDefinition("f", "does f", SCHEMA)
PNG = "iVBORw0KGgoAAAANSUhEUg=="


def said(role: Any, *blocks: Block) -> Message:
    return Message(
        role,
        tuple(Block(n, b.block_type, b.text_content, b.content, b.partial) for n, b in enumerate(blocks)),
    )


def text(words: str, content: Any = None) -> Block:
    return Block(0, "text", words, content)


def ask(*messages: Message, model: str = "gemini-3.8-flash", **fields: Any) -> ModelRequest:
    return ModelRequest(model, messages or (said("user", text("hi")),), **fields)


def body_of(request: ModelRequest) -> dict[str, Any]:
    return json.loads(WIRE.encode_request(request).body)


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


# --- params -------------------------------------------------------------------------------------------------


@pytest.mark.requirement("F1")
def test_params_in_our_words() -> None:
    params = {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop": ["a"],
        "thinking": {"budget_tokens": 100},
        "tool_choice": {"name": "f"},
        "response_format": {"type": "json_schema", "name": "n", "schema": SCHEMA},
        "parallel_tool_calls": False,
        "cache": True,
        "seed": 7,
        "presence_penalty": 0.1,
        "safety_settings": [{"category": "c"}],
        "cachedContent": "cachedContents/1",
        "nothing": None,
        "extra_body": {"labels": {"a": "b"}},
    }
    assert body_of(ask(system="be kind", tools=(TOOL,), params=params)) == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "be kind"}]},
        "generationConfig": {
            "maxOutputTokens": 9,
            "temperature": 0.5,
            "topP": 0.9,
            "topK": 3,
            "stopSequences": ["a"],
            "seed": 7,
            "presencePenalty": 0.1,
            "thinkingConfig": {"thinkingBudget": 100, "includeThoughts": True},
            "responseMimeType": "application/json",
            "responseJsonSchema": SCHEMA,
        },
        "tools": [
            {"functionDeclarations": [{"name": "f", "description": "does f", "parametersJsonSchema": SCHEMA}]}
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "safetySettings": [{"category": "c"}],
        "cachedContent": "cachedContents/1",
        "labels": {"a": "b"},
    }


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("model", "thinking", "config"),
    [
        ("gemini-3-pro", {"effort": "low"}, {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-2.5-pro", {"effort": "low"}, {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-pro", {"type": "disabled"}, {"thinkingBudget": 0}),
        ("gemini-3-pro", {"budget_tokens": 5, "include_thoughts": False}, {"thinkingBudget": 5}),
        (
            "gemini-3-pro",
            {"type": "enabled", "budget_tokens": 5},
            {"thinkingBudget": 5, "includeThoughts": True},
        ),
    ],
)
def test_thinking(model: str, thinking: Any, config: Any) -> None:
    body = body_of(ask(model=model, params={"thinking": thinking}))
    assert body["generationConfig"]["thinkingConfig"] == config


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"name": "f"}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (
            {"mode": "VALIDATED", "allowedFunctionNames": ["f", "g"]},
            {"mode": "VALIDATED", "allowedFunctionNames": ["f", "g"]},
        ),
    ],
)
def test_tool_choice(choice: Any, config: Any) -> None:
    request = ask(tools=(TOOL,), params={"tool_choice": choice})
    encoded = WIRE.encode_request(request)
    assert json.loads(encoded.body)["toolConfig"] == {"functionCallingConfig": config}
    assert WIRE.decode_request(encoded.path, encoded.body) == request
    without_functions = ask(params={"tool_choice": choice, "tools": [{"googleSearch": {}}]})
    assert "toolConfig" not in body_of(without_functions)


@pytest.mark.requirement("F1")
def test_params_as_other_wires_understand_them_too() -> None:
    assert body_of(ask(params={"stop": "a"})) == body_of(ask(params={"stop": ["a"]}))
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    config = body_of(ask(params={"response_format": schema}))["generationConfig"]
    assert config == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    assert "generationConfig" not in body_of(ask(params={"response_format": {"type": "text"}}))


@pytest.mark.requirement("F1", "K4")
@pytest.mark.parametrize(
    ("param", "value"), [("stop", 5), ("response_format", "json"), ("extra_body", [1]), ("tools", {})]
)
def test_params_that_make_no_sense(param: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=param):
        body_of(ask(params={param: value}))


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


# --- errors -------------------------------------------------------------------------------------------------


def failed(code: int, status: str, message: str = "no", *details: Any) -> bytes:
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return json.dumps({"error": error}).encode()


CONTEXT = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
ERRORS: list[tuple[int, bytes, type[ProviderError]]] = [
    (401, failed(401, "UNAUTHENTICATED"), AuthenticationFailed),
    (
        400,
        failed(400, "INVALID_ARGUMENT", "API key not valid.", {"reason": "API_KEY_INVALID"}),
        AuthenticationFailed,
    ),
    (403, failed(403, "PERMISSION_DENIED"), PermissionDenied),
    (404, failed(404, "NOT_FOUND"), ModelNotFound),
    (400, failed(400, "INVALID_ARGUMENT", "bad field"), InvalidModelRequest),
    (400, failed(400, "INVALID_ARGUMENT", CONTEXT), ContextLengthExceeded),
    (400, failed(400, "FAILED_PRECONDITION"), InvalidModelRequest),
    (429, failed(429, "RESOURCE_EXHAUSTED"), RateLimited),
    (503, failed(503, "UNAVAILABLE", "The model is overloaded."), Overloaded),
    (500, failed(500, "INTERNAL"), ProviderFailed),
    (504, failed(504, "DEADLINE_EXCEEDED"), ProviderTimeout),
    (499, failed(499, "CANCELLED"), ProviderFailed),
    (503, b"<html>", Overloaded),
    (418, b"", InvalidModelRequest),
    (502, b"\xff", ProviderFailed),
    (500, b'{"error": "words"}', ProviderFailed),
]


@pytest.mark.requirement("D4", "J2")
@pytest.mark.parametrize(("status", "body", "kind"), ERRORS)
def test_http_errors(status: int, body: bytes, kind: type[ProviderError]) -> None:
    for given in (body, b"[" + body + b"]") if body.startswith(b"{") else (body,):
        error = WIRE.decode_error(status, {}, given)
        assert type(error) is kind
        assert error.provider_status == status
    assert "no" not in error.message.split()


@pytest.mark.requirement("J2")
def test_the_time_to_wait() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"}
    quota = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{}]}
    body = failed(429, "RESOURCE_EXHAUSTED", "quota", quota, info)
    assert WIRE.decode_error(429, {"Retry-After": "3"}, body).retry_after == 37.5
    assert WIRE.decode_error(429, {"Retry-After": "3"}, b"{}").retry_after == 3
    assert WIRE.decode_error(429, {"Retry-After": "soon"}, b"{}").retry_after is None


@pytest.mark.requirement("J2")
@pytest.mark.parametrize(
    "kind", sorted({kind for _, _, kind in ERRORS}, key=str), ids=lambda kind: kind.__name__
)
def test_errors_are_written_as_they_are_read(kind: type[ProviderError]) -> None:
    error = kind("no", retry_after=2.5)
    status, body = WIRE.encode_error(error)
    again = WIRE.decode_error(status, {}, body)
    assert (type(again), again.retry_after) == (kind, 2.5)
    assert json.loads(body)["error"]["code"] == status
    encoder = WIRE.encoder(model="m", message_id="i")
    said_in_stream = encoder.feed([StreamError("validation", kind.code, "no")]) + encoder.close()
    decoder = WIRE.decoder()
    (event,) = [*decoder.feed(said_in_stream), *decoder.close()]
    assert isinstance(event, StreamError)
    assert event.code == kind.code


def test_a_filter_is_a_bad_request_here() -> None:
    assert WIRE.encode_error(ContentFiltered("no"))[0] == 400
