"""Requests to Responses, written and read again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnstream.core.blocks import Block, Content, Message
from turnstream.errors import InvalidRequest
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest, ToolDefinition
from turnstream.wires.openai_responses.wire import WIRE

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def written(request: ModelRequest) -> dict[str, Any]:
    post = WIRE.encode_request(request)
    assert (post.path, post.method) == ("/responses", "POST")
    return json.loads(post.body)


def asked(*blocks: Block, role: str = "user", **params: Any) -> dict[str, Any]:
    return written(ModelRequest("gpt-5", (Message(role, blocks),), params=params))  # type: ignore[arg-type]


def read(**body: Any) -> ModelRequest:
    return WIRE.decode_request("/responses", json.dumps({"model": "m", "input": "hi", **body}).encode())


def text(said: str, content: Content | None = None) -> Block:
    return Block(0, "text", said, content)


def marked(kind: str, **kept: Any) -> Content:
    return {"provider_metadata": {"responses": {"type": kind, **kept}}}


@pytest.mark.requirement("F1")
def test_a_plain_question():
    assert written(ModelRequest("gpt-5", (Message("user", (text("Hi"),)),), system="Be kind.")) == {
        "model": "gpt-5",
        "input": [{"role": "user", "content": "Hi"}],
        "instructions": "Be kind.",
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "stream": True,
    }


@pytest.mark.requirement("F1")
def test_params_in_our_words():
    body = written(
        ModelRequest(
            "gpt-5",
            (Message("user", (text("Hi"),)),),
            tools=(ToolDefinition("weather", "Where", SCHEMA),),
            params={
                "max_tokens": 99,
                "temperature": 0.5,
                "thinking": {"budget_tokens": 4000},
                "tool_choice": {"name": "weather"},
                "response_format": {"type": "json_schema", "name": "n", "schema": SCHEMA},
                "text": {"verbosity": "low"},
                "tools": [{"type": "web_search"}],
                "cache": True,
                "extra_body": {"top_logprobs": 2, "store": True},
            },
            stream=False,
        )
    )
    assert body == {
        "model": "gpt-5",
        "input": [{"role": "user", "content": "Hi"}],
        "max_output_tokens": 99,
        "temperature": 0.5,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "tool_choice": {"type": "function", "name": "weather"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "description": "Where",
                "parameters": SCHEMA,
                "strict": False,
            },
            {"type": "web_search"},
        ],
        "top_logprobs": 2,
        "store": True,
        "include": ["reasoning.encrypted_content"],
        "stream": False,
    }
    again = WIRE.decode_request("/responses", json.dumps(body).encode())
    assert written(again) == body
    assert again.stream is False
    assert again.params["thinking"] == {"effort": "medium"}


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("thinking", "reasoning"),
    [
        ({"effort": "high"}, {"effort": "high", "summary": "auto"}),
        ({"budget_tokens": 1024}, {"effort": "low", "summary": "auto"}),
        ({"budget_tokens": 30_000, "summary": None}, {"effort": "high"}),
        ({"effort": "low", "summary": "detailed"}, {"effort": "low", "summary": "detailed"}),
    ],
)
def test_thinking(thinking, reasoning):
    assert asked(text("Hi"), thinking=thinking)["reasoning"] == reasoning


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"name": "n", "schema": SCHEMA}, {"name": "n", "schema": SCHEMA}),
        ({"schema": SCHEMA, "strict": None}, {"name": "answer", "schema": SCHEMA}),
        (
            {"json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            {"name": "n", "schema": SCHEMA, "strict": True},
        ),
    ],
)
def test_a_schema_for_the_answer(given, sent):
    form = {"type": "json_schema", **given}
    assert asked(text("Hi"), response_format=form)["text"] == {"format": {"type": "json_schema", **sent}}


@pytest.mark.requirement("F1")
def test_there_are_no_stop_sequences():
    with pytest.raises(InvalidRequest, match="leave out stop"):
        asked(text("Hi"), stop=["END"])
    assert "stop" not in asked(text("Hi"), stop=[])
    assert asked(text("Hi"), extra_body={"stop": ["END"]})["stop"] == ["END"]


@pytest.mark.parametrize(
    "params", [{"background": True}, {"previous_response_id": "resp_1"}, {"conversation": "c_1"}]
)
def test_what_needs_a_kept_response_does_not_forbid_to_keep_it(params):
    body = asked(text("Hi"), **params)
    assert "store" not in body
    assert body.items() >= params.items()


def test_what_the_caller_says_of_keeping_holds():
    body = asked(text("Hi"), store=True, include=["message.output_text.logprobs"])
    assert (body["store"], body["include"]) == (True, ["message.output_text.logprobs"])
    assert asked(text("Hi"), store=None, include=None).keys() == {"model", "input", "stream"}


@pytest.mark.requirement("B3")
def test_images_and_documents():
    body = asked(
        text("See:"),
        Block(1, "image", None, {"media_type": "image/png", "data": "QUJD"}),
        Block(2, "image", None, {"url": "https://x/y.png", **marked("input_image", detail="low")}),
        Block(3, "document", None, {"media_type": "application/pdf", "data": "QUJD", "title": "a.pdf"}),
        Block(4, "document", None, {"url": "https://x/y.pdf"}),
        Block(5, "document", None, {"text": "plain", "title": "T"}),
        Block(6, "provider", None, {"type": "input_image", "file_id": "file_1"}),
    )
    (message,) = body["input"]
    assert message["content"] == [
        {"type": "input_text", "text": "See:"},
        {"type": "input_image", "image_url": "data:image/png;base64,QUJD"},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"},
        {"type": "input_file", "file_url": "https://x/y.pdf"},
        {"type": "input_text", "text": "T\n\nplain"},
        {"type": "input_image", "file_id": "file_1"},
    ]
    again = WIRE.decode_request("/responses", json.dumps(body).encode())
    assert [block.block_type for block in again.messages[0].blocks] == [
        "text", "image", "image", "document", "document", "text", "provider",
    ]  # fmt: skip
    assert written(again)["input"] == body["input"]


@pytest.mark.requirement("G6")
def test_calls_and_results():
    call = {"tool_use_id": "call_1", "tool_name": "f", "input": {"a": 1}, "input_json": '{"a": 1}'}
    broken = {"tool_use_id": "call_2", "tool_name": "f", "input": None, "input_json": '{"a":'}
    custom = {"tool_use_id": "call_3", "tool_name": "sql", "input_json": "SELECT 1", "free_text": "input"}
    parts = [{"type": "text", "text": "see"}, {"type": "image", "media_type": "image/png", "data": "QUJD"}]
    body = asked(
        Block(0, "tool_use", None, call),
        Block(1, "tool_use", None, broken),
        Block(2, "tool_use", None, custom),
        Block(3, "tool_result", None, {"tool_use_id": "call_1", "content": parts}),
        Block(4, "tool_result", None, {"tool_use_id": "call_2", "content": "no", "is_error": True}),
        Block(5, "tool_result", None, {"tool_use_id": "call_3", "content": {"rows": 1}}),
        text("Done."),
        role="assistant",
    )
    assert body["input"] == [
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "call_2", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "call_3", "name": "sql", "input": "SELECT 1"},
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "data:image/png;base64,QUJD"},
            ],
        },
        {"type": "function_call_output", "call_id": "call_2", "output": "Error: no"},
        {"type": "custom_tool_call_output", "call_id": "call_3", "output": '{"rows":1}'},
        {"role": "assistant", "content": "Done."},
    ]
    again = WIRE.decode_request("/responses", json.dumps(body).encode())
    assert written(again)["input"] == body["input"]
    results = [b.content or {} for m in again.messages for b in m.blocks if b.block_type == "tool_result"]
    assert [result["is_error"] for result in results] == [False, True, False]


@pytest.mark.requirement("K2")
def test_thinking_goes_back_only_where_it_came_from_this_wire_and_can_be_read():
    ours = marked("reasoning", id="rs_1", encrypted_content="secret")
    first = Block(0, "thinking", "one", marked("reasoning", id="rs_1"))
    last = Block(1, "thinking", "two", ours)
    assert asked(first, last, role="assistant")["input"] == [
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
            "id": "rs_1",
            "encrypted_content": "secret",
        }
    ]
    cut = Block(1, "thinking", "tw", ours, partial=True)
    assert asked(cut, role="assistant")["input"] == []
    assert asked(first, role="assistant")["input"] == [], "the provider has forgotten it"
    assert [item["id"] for item in asked(first, role="assistant", store=True)["input"]] == ["rs_1"]
    full = Block(0, "thinking", "all", marked("reasoning", id="rs_2", part="reasoning_text"))
    (item,) = asked(full, role="assistant")["input"]
    assert item["content"] == [{"type": "reasoning_text", "text": "all"}]
    others = [
        Block(0, "thinking", "hm", {"signature": "from another"}),
        Block(1, "thinking", "", {"redacted": "x"}),
        Block(2, "thinking", "hm", {"provider_metadata": {"reasoning_details": []}}),
    ]
    assert asked(*others, role="assistant")["input"] == []


@pytest.mark.requirement("B3")
def test_what_another_provider_ran_or_alone_knows_does_not_go():
    others = [
        Block(
            0, "tool_use", None, {"tool_use_id": "s", "tool_name": "web_search", "provider_executed": True}
        ),
        Block(1, "tool_result", None, {"tool_use_id": "s", "content": [], "provider_executed": True}),
        Block(2, "provider", None, {"type": "container_upload"}),
        Block(3, "provider", None, {"type": "compaction", "content": "x"}),
        Block(4, "image", None, {"media_type": "image/png", "data": "QUJD"}),
    ]
    assert asked(*others, role="assistant")["input"] == []


def test_a_compaction_goes_back_only_to_whom_it_is_from():
    ours = Block(0, "provider", None, {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"})
    assert asked(ours, role="assistant")["input"] == [ours.content]
    message = Message("assistant", (ours, text("Hi")))
    body = json.loads(WIRES["anthropic"].encode_request(ModelRequest("m", (message,))).body)
    assert body["messages"] == [{"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}]


def test_messages_of_the_system_are_joined():
    request = read(
        instructions="One.",
        input=[
            {"role": "developer", "content": "Two."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        ],
    )
    assert request.system == "One.\n\nTwo."
    assert [block.text_content for block in request.messages[0].blocks] == ["Hi"]
    assert read().messages[0].blocks[0].text_content == "hi"


@pytest.mark.parametrize(
    "body",
    [
        {"model": None},
        {"input": 5},
        {"input": [5]},
        {"input": [{"role": "robot", "content": "x"}]},
        {"input": [{"role": "user", "content": 5}]},
        {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        {"input": [{"type": "function_call", "call_id": "c"}]},
        {"input": [{"type": "function_call_output", "output": "x"}]},
        {"input": [{"type": "reasoning", "summary": [{}]}]},
        {"instructions": 5},
        {"tools": 5},
        {"tools": [{"type": "function"}]},
    ],
)
def test_what_is_no_request(body):
    with pytest.raises(InvalidRequest):
        read(**body)
