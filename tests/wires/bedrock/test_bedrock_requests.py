"""Requests to Converse, and its error answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from turnstream.core.blocks import Block, Message
from turnstream.errors import (
    AuthenticationFailed,
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
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest, ToolDefinition

WIRE: Any = WIRES["bedrock"]


CLAUDE = "us.anthropic.claude-sonnet-5"
OLDER = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-2-lite-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
HI = (Message("user", (Block(0, "text", "hi"),)),)
TOOL = ToolDefinition("f", "does it", {"type": "object", "properties": {"a": {"type": "integer"}}})


def body_of(request: ModelRequest) -> dict[str, Any]:
    return json.loads(WIRE.encode_request(request).body)


def body(model: str = CLAUDE, **params: Any) -> dict[str, Any]:
    return body_of(ModelRequest(model, HI, tools=(TOOL,), params=params))


def read(value: dict[str, Any], path: str = f"/model/{CLAUDE}/converse-stream") -> ModelRequest:
    return WIRE.decode_request(path, json.dumps(value).encode())


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


class TestPath:
    @pytest.mark.parametrize("model", [CLAUDE, NOVA, ARN, "a/b c%é"])
    @pytest.mark.parametrize("stream", [True, False])
    def test_the_model_and_whether_it_streams_stand_in_the_path(self, model, stream):
        post = WIRE.encode_request(ModelRequest(model, HI, stream=stream))
        assert post.path.count("/") == 3
        assert post.path.endswith("/converse-stream" if stream else "/converse")
        again = WIRE.decode_request(post.path, post.body)
        assert (again.model, again.stream, again.messages) == (model, stream, HI)

    def test_an_arn_as_some_clients_write_it(self):
        assert read(user({"text": "hi"}), f"/model/{ARN}/converse?x=1").model == ARN

    @pytest.mark.parametrize("path", ["/", "/model//converse", "/model/a/count-tokens", "/v1/messages"])
    def test_what_is_no_path_of_this_api(self, path):
        with pytest.raises(InvalidRequest, match="modelId"):
            read(user({"text": "hi"}), path)

    def test_claudes_own_request(self):
        sent = {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 5,
        }
        for call, stream in (("invoke-with-response-stream", True), ("invoke", False)):
            request = read(sent, f"/model/{CLAUDE}/{call}")
            assert (request.model, request.messages, request.stream) == (CLAUDE, HI, stream)
            post = WIRE.encode_request(request)
            assert (json.loads(post.body), post.path) == (sent, f"/model/{CLAUDE}/{call}")


@pytest.mark.requirement("F1")
class TestParams:
    def test_inference_and_passing_through(self):
        told = body(
            max_tokens=9, temperature=0.5, top_p=0.9, stop=["x"], top_k=3, guardrailConfig={"a": 1}, serviceTier={"type": "flex"},
            additionalModelRequestFields={"own": 2}, extra_body={"requestMetadata": {"b": "c"}},
        )  # fmt: skip
        assert told["inferenceConfig"] == {
            "maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["x"],
        }  # fmt: skip
        assert told["additionalModelRequestFields"] == {"top_k": 3, "own": 2}
        assert told["guardrailConfig"] == {"a": 1}
        assert told["serviceTier"] == {"type": "flex"}
        assert told["requestMetadata"] == {"b": "c"}
        again = read(told)
        assert again.params == {
            "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["x"], "top_k": 3, "guardrailConfig": {"a": 1},
            "serviceTier": {"type": "flex"}, "additionalModelRequestFields": {"own": 2}, "requestMetadata": {"b": "c"},
        }  # fmt: skip

    def test_thinking(self):
        enabled = body(OLDER, thinking={"budget_tokens": 2000})
        assert enabled["additionalModelRequestFields"] == {
            "thinking": {"type": "enabled", "budget_tokens": 2000}
        }
        assert read(enabled).params["thinking"] == {"budget_tokens": 2000}
        effort = body(thinking={"effort": "low"})
        assert effort["outputConfig"] == {"effort": "low"}
        assert effort["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}}
        assert read(effort).params["thinking"] == {"effort": "low"}
        assert body(thinking={"budget_tokens": 2000}) == effort
        older = body(OLDER, thinking={"effort": "low"})
        assert older["additionalModelRequestFields"] == {
            "thinking": {"type": "enabled", "budget_tokens": 2048}
        }
        assert "outputConfig" not in older
        nova = body(NOVA, thinking={"effort": "high"})
        assert nova["outputConfig"] == {"effort": "high"}
        assert "additionalModelRequestFields" not in nova
        assert "additionalModelRequestFields" not in body(NOVA, thinking={"budget_tokens": 2000})
        own = {"type": "adaptive", "display": "summarized"}
        assert read(body(thinking=own)).params["thinking"] == own

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ("auto", {"auto": {}}),
            ("required", {"any": {}}),
            ({"name": "f"}, {"tool": {"name": "f"}}),
            ({"brandNew": {}}, {"brandNew": {}}),
        ],
    )
    def test_tool_choice(self, ours, theirs):
        told = body(tool_choice=ours)
        assert told["toolConfig"]["toolChoice"] == theirs
        assert read(told).params["tool_choice"] == ours

    def test_a_tool_whose_schema_binds_the_model(self):
        request = ModelRequest(CLAUDE, HI, tools=(msgspec.structs.replace(TOOL, strict=True), TOOL))
        told = body_of(request)
        assert [tool["toolSpec"].get("strict") for tool in told["toolConfig"]["tools"]] == [True, None]
        assert read(told).tools == request.tools

    def test_no_tools_are_offered_where_none_may_be_called(self):
        assert "toolConfig" not in body(tool_choice="none")

    def test_one_call_at_a_time(self):
        told = body(tool_choice="required", parallel_tool_calls=False)
        assert told["additionalModelRequestFields"] == {
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True}
        }
        assert "additionalModelRequestFields" not in body(NOVA, parallel_tool_calls=False)

    def test_a_schema_for_the_answer(self):
        schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
        told = body(response_format={"type": "json_schema", "name": "n", "schema": schema, "strict": True})
        assert told["outputConfig"]["textFormat"]["type"] == "json_schema"
        described = told["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
        assert (described["name"], json.loads(described["schema"])) == ("n", schema)
        assert read(told).params["response_format"] == {
            "type": "json_schema", "name": "n", "schema": schema,
        }  # fmt: skip
        openai_shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        assert body(response_format=openai_shape)["outputConfig"] == told["outputConfig"]
        with pytest.raises(InvalidRequest, match="json_schema, schema"):
            body(response_format={"type": "json_object"})
        mistral = body("mistral.magistral-small", response_format={"type": "json_object"})
        assert mistral["additionalModelRequestFields"] == {"response_format": {"type": "json_object"}}

    def test_system_blocks_that_make_no_sense(self):
        with pytest.raises(InvalidRequest, match="system"):
            body(system=[None], cache=True)

    def test_caching(self):
        point = {"cachePoint": {"type": "default"}}

        def points(model: str) -> list[bool]:
            request = ModelRequest(model, HI, "be kind", (TOOL,), {"cache": True})
            told = body_of(request)
            return [
                point in blocks
                for blocks in (told["system"], told["toolConfig"]["tools"], told["messages"][-1]["content"])
            ]

        assert points(CLAUDE) == [True, True, True]
        assert points(NOVA) == [True, False, True]
        assert points("meta.llama3-8b-instruct-v1:0") == [False, False, False]
        told = body_of(ModelRequest(CLAUDE, HI, "be kind", (TOOL,), {"cache": True}))
        assert body_of(read(told)) == told

    def test_tools_that_are_no_functions(self):
        others = [{"systemTool": {"name": "nova_grounding"}}, {"cachePoint": {"type": "default"}}]
        told = body(NOVA, tools=others)
        assert told["toolConfig"]["tools"][1:] == others
        assert read(told).tools == (TOOL,)
        assert read(told).params["tools"] == others

    def test_system_with_more_than_text(self):
        system = [{"text": "a"}, {"cachePoint": {"type": "default"}}, {"text": "b"}]
        request = read({**user({"text": "hi"}), "system": system})
        assert request.system == "a\n\nb"
        assert body_of(request)["system"] == system


@pytest.mark.requirement("B3", "G6", "P4")
class TestBlocks:
    @pytest.mark.parametrize(
        "raw",
        [
            {"image": {"format": "jpeg", "source": {"bytes": "QUJD"}}},
            {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/k", "bucketOwner": "1"}}}},
            {"document": {"format": "pdf", "name": "my doc", "source": {"bytes": "QUJD"}}},
            {"document": {"format": "xlsx", "name": "d", "source": {"s3Location": {"uri": "s3://b/k"}}}},
            {
                "document": {
                    "format": "txt", "name": "d", "source": {"text": "words"}, "context": "c", "citations": {"enabled": True},
                }
            },
            {"document": {"format": "txt", "name": "d", "source": {"content": [{"text": "one"}]}}},
            {"toolResult": {"toolUseId": "1", "content": [{"text": "done"}]}},
            {"toolResult": {"toolUseId": "1", "content": [{"text": "bad"}], "status": "error"}},
            {"toolResult": {"toolUseId": "1", "content": [{"json": {"a": [1]}}]}},
            {"toolResult": {"toolUseId": "1", "content": [{"json": {"type": "text"}}]}},
            {"toolResult": {"toolUseId": "1", "content": []}},
            {
                "toolResult": {
                    "toolUseId": "1",
                    "content": [
                        {"text": "a"}, {"image": {"format": "gif", "source": {"bytes": "QQ=="}}}, {"json": [1]},
                        {"document": {"format": "md", "name": "x", "source": {"text": "y"}}},
                    ],
                }
            },
            {"guardContent": {"text": {"text": "guarded"}}},
            {"video": {"format": "mp4", "source": {"bytes": "QQ=="}}},
            {"cachePoint": {"type": "default", "ttl": "1h"}},
        ],
    )  # fmt: skip
    def test_what_a_user_says_goes_back_as_it_came(self, raw):
        sent = user({"text": "see"}, raw)
        assert body_of(read(sent))["messages"] == sent["messages"]

    def test_what_an_assistant_said_goes_back_as_it_came(self):
        said = [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
            {"reasoningContent": {"redactedContent": "QQ=="}},
            {"text": "a"},
            {"citationsContent": {"content": [{"text": "b"}], "citations": [{"title": "t", "location": {}}]}},
            {"toolUse": {"toolUseId": "0", "name": "g", "input": {}, "type": "server_tool_use"}},
            {"toolResult": {"toolUseId": "0", "content": [{"json": {}}], "status": "success", "type": "g_result"}},
            {"toolUse": {"toolUseId": "1", "name": "f", "input": {"a": 1}}},
        ]  # fmt: skip
        sent = {
            "messages": [
                {"role": "user", "content": [{"text": "hi"}]},
                {"role": "assistant", "content": said},
                {
                    "role": "user",
                    "content": [{"toolResult": {"toolUseId": "1", "content": [{"text": "ok"}]}}],
                },
            ],
            "toolConfig": {
                "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]
            },
        }
        assert body_of(read(sent)) == sent

    def test_what_the_api_would_refuse_is_left_out(self):
        messages = (
            Message("user", (Block(0, "text", "hi"), Block(1, "text", "  "))),
            Message(
                "assistant",
                (
                    Block(0, "thinking", "unsigned"),
                    Block(1, "thinking", "cut", {"signature": "s"}, partial=True),
                    Block(2, "text", "a", {"citations": [{"type": "char_location"}]}),
                    Block(3, "tool_use", None, {"tool_use_id": "w", "tool_name": "web", "input": {}, "provider_executed": True, "provider_metadata": {"type": "server_tool_use"}}),
                    Block(4, "tool_result", None, {"tool_use_id": "w", "content": [], "provider_executed": True}),
                    Block(5, "provider", None, {"type": "compaction", "content": "x"}),
                    Block(6, "tool_use", None, {"tool_use_id": "1", "tool_name": "f", "input": None, "input_json": '{"a'}),
                    Block(7, "tool_result", None, {"tool_use_id": "1", "content": {"b": 2}, "is_error": True}),
                ),
            ),
        )  # fmt: skip
        told = body_of(ModelRequest(CLAUDE, messages))
        assert told["messages"] == [
            {"role": "user", "content": [{"text": "hi"}]},
            {
                "role": "assistant",
                "content": [
                    {"text": "a"},
                    {"toolUse": {"toolUseId": "1", "name": "f", "input": {"INVALID_JSON": '{"a'}}},
                ],
            },
            {
                "role": "user",
                "content": [{"toolResult": {"toolUseId": "1", "status": "error", "content": [{"json": {"b": 2}}]}}],
            },
        ]  # fmt: skip
        assert [tool["toolSpec"]["name"] for tool in told["toolConfig"]["tools"]] == ["f"]

    def test_addresses_and_names(self):
        blocks = (
            Block(0, "image", None, {"url": "https://a.example/b.png"}),
            Block(1, "image", None, {"url": "data:image/webp;base64,QQ=="}),
            Block(2, "image", None, {"url": "s3://bucket/photo.jpg"}),
            Block(3, "document", None, {"text": "x", "title": "notes.v2 / final.txt"}),
            Block(4, "document", None, {"text": "y", "title": "notes v2 final txt"}),
            Block(5, "document", None, {"data": "QQ==", "media_type": "text/csv; charset=utf-8"}),
        )
        (message,) = body_of(ModelRequest(CLAUDE, (Message("user", blocks),)))["messages"]
        assert message["content"] == [
            {"text": "[image: https://a.example/b.png]"},
            {"image": {"format": "webp", "source": {"bytes": "QQ=="}}},
            {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/photo.jpg"}}}},
            {"document": {"format": "txt", "name": "notes v2 final txt", "source": {"text": "x"}}},
            {"document": {"format": "txt", "name": "notes v2 final txt 2", "source": {"text": "y"}}},
            {"document": {"format": "csv", "name": "document", "source": {"bytes": "QQ=="}}},
        ]

    @pytest.mark.parametrize(
        "value",
        [
            [], {"messages": 1}, {"messages": [1]}, {"messages": [{"role": "system", "content": []}]},
            {"messages": [{"role": "user", "content": "text"}]}, {"messages": [{"role": "user", "content": ["x"]}]},
            {"messages": [], "system": "text"}, {"messages": [], "system": [{"text": 1}]}, {"messages": [], "toolConfig": [1]},
            {"messages": [], "toolConfig": {"tools": [1]}}, {"messages": [], "inferenceConfig": 1},
            {"messages": [{"role": "user", "content": [{"toolResult": {"toolUseId": "1", "content": [1]}}]}]},
            {"messages": [], "outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{"}}}}},
        ],
    )  # fmt: skip
    def test_what_is_no_request(self, value):
        with pytest.raises(InvalidRequest):
            read(value)


ERRORS: list[tuple[int, str, str, type[ProviderError]]] = [
    (429, "ThrottlingException", "Too many requests", RateLimited),
    (400, "ServiceQuotaExceededException", "quota", RateLimited),
    (429, "ModelNotReadyException", "wait", Overloaded),
    (503, "ServiceUnavailableException", "busy", Overloaded),
    (408, "ModelTimeoutException", "slow", ProviderTimeout),
    (424, "ModelErrorException", "m", ProviderFailed),
    (500, "InternalServerException", "m", ProviderFailed),
    (403, "AccessDeniedException", "You don't have access to the model", PermissionDenied),
    (
        403,
        "AccessDeniedException",
        "Authentication failed: Please make sure your API Key is valid.",
        AuthenticationFailed,
    ),
    (403, "UnrecognizedClientException", "The security token is invalid.", AuthenticationFailed),
    (403, "ExpiredTokenException", "expired", AuthenticationFailed),
    (403, "InvalidSignatureException", "does not match", AuthenticationFailed),
    (404, "ResourceNotFoundException", "no such model", ModelNotFound),
    (400, "ValidationException", "The provided model identifier is invalid.", ModelNotFound),
    (400, "ValidationException", "Input is too long for requested model.", ContextLengthExceeded),
    (400, "ValidationException", "bad field", InvalidModelRequest),
    (418, "BrandNewException", "tea", InvalidModelRequest),
    (502, "", "<html>", ProviderFailed),
    (401, "", "", AuthenticationFailed),
]


@pytest.mark.requirement("D4", "J2")
@pytest.mark.parametrize(("status", "name", "message", "error"), ERRORS)
def test_errors(status, name, message, error):
    answers = [
        ({"x-amzn-ErrorType": f"{name}:http://internal.amazon.com/x"}, {"message": message}),
        ({}, {"__type": f"com.amazon.coral.service#{name}", "Message": message}),
    ]
    for headers, fields in answers:
        found = WIRE.decode_error(status, headers, json.dumps(fields).encode())
        assert type(found) is error
        assert found.provider_status == status
        assert message in (found.detail or "")
    quota = name == "ServiceQuotaExceededException"
    assert found.retryable is (error.retryable and not quota)


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailed, PermissionDenied, ModelNotFound, InvalidModelRequest, ContextLengthExceeded, RateLimited,
        Overloaded, ProviderFailed, ProviderTimeout,
    ],
)  # fmt: skip
def test_an_error_is_reported_so_that_it_is_found_again(error):
    status, words = WIRE.encode_error(error("sorry"))
    assert type(WIRE.decode_error(status, {}, words)) is error


def test_the_time_to_wait_and_what_is_no_json():
    found = WIRE.decode_error(429, {"Retry-After": "7"}, b"\xff not json")
    assert (type(found), found.retry_after) == (RateLimited, 7)
