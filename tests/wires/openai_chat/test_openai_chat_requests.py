"""Requests of chat.completions, from our messages to bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.openai_chat.messages import called, result, said
from turnstream.core.blocks import Block, Message
from turnstream.wires.base import ModelRequest, ToolDefinition
from turnstream.wires.openai_chat.wire import WIRE

# --- requests -----------------------------------------------------------------------------------------------


def request_body(request: ModelRequest) -> Any:
    encoded = WIRE.encode_request(request)
    assert encoded.path == "/chat/completions"
    assert "authorization" not in {name.lower() for name in encoded.headers}
    return json.loads(encoded.body)


def user(*blocks: Block) -> Message:
    return Message("user", blocks)


@pytest.mark.requirement("F1")
def test_a_plain_request() -> None:
    body = request_body(
        ModelRequest(
            "gpt-4o",
            (user(said("hi")),),
            "be brief",
            params={"max_tokens": 5, "temperature": 0, "stop": ["x"], "new": 1},
        )
    )
    assert body == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "temperature": 0,
        "stop": ["x"],
        "new": 1,
    }


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("o3-mini", "max_completion_tokens"),
        ("gpt-5", "max_completion_tokens"),
        ("gpt-4o", "max_tokens"),
        ("deepseek-chat", "max_tokens"),
        ("openai/o3", "max_tokens"),
    ],
)
def test_the_name_of_the_limit(model: str, field: str) -> None:
    body = request_body(ModelRequest(model, (user(said("hi")),), params={"max_tokens": 5}))
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == {
        field: 5
    }


@pytest.mark.requirement("F1", "B3", "G6")
def test_history_with_everything() -> None:
    details = [{"type": "reasoning.encrypted", "data": "D"}]
    messages = (
        user(
            said("look"),
            Block(1, "image", None, {"media_type": "image/png", "data": "QUJD"}),
            Block(2, "image", None, {"url": "https://e.org/i"}),
        ),
        Message(
            "assistant",
            (
                Block(
                    0,
                    "thinking",
                    "secret",
                    {"signature": "s", "provider_metadata": {"reasoning_details": details}},
                ),
                said("Let me "),
                said("see."),
                called("a", "f", input={"x": 1}, input_json='{"x": 1}'),
                called("b", "g", input=None, input_json="{oops", input_error="not valid JSON"),
                called("s", "web_search", input={}, provider_executed=True),
            ),
        ),
        user(
            result("a", "fine"),
            result(
                "b",
                [
                    {"type": "text", "text": "bad"},
                    {"type": "image", "source": {"media_type": "image/png", "data": "QQ=="}},
                ],
                is_error=True,
            ),
            said("go on"),
        ),
    )
    assert request_body(ModelRequest("m", messages))["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "image_url", "image_url": {"url": "https://e.org/i"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_details": details,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "fine"},
        {"role": "tool", "tool_call_id": "b", "content": "Error: bad\n[image]"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}},
                {"type": "text", "text": "go on"},
            ],
        },
    ]


def test_results_inside_an_assistant_turn_split_it() -> None:
    turn = Message(
        "assistant", (said("a"), called("i", "f", input={}), result("i", {"any": "json"}), said("b"))
    )
    assert [
        message["role"] for message in request_body(ModelRequest("m", (user(said("q")), turn)))["messages"]
    ] == ["user", "assistant", "tool", "assistant"]


def test_what_is_empty_is_no_message() -> None:
    messages = (
        user(said("q")),
        Message("assistant", (Block(0, "thinking", "t"), Block(1, "provider", None, {"type": "x"}))),
        user(said("r")),
    )
    assert [message["content"] for message in request_body(ModelRequest("m", messages))["messages"]] == [
        "q",
        "r",
    ]


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, "auto"), ("auto", "auto"), ("any", "required"), ("required", "required"), ("none", "none"),
        ({"name": "f"}, {"type": "function", "function": {"name": "f"}}), ({"type": "allowed_tools", "tools": []}, {"type": "allowed_tools", "tools": []}),
    ],
)  # fmt: skip
def test_tools_and_tool_choice(choice: Any, sent: Any) -> None:
    tool = ToolDefinition("f", "does f", {"type": "object", "properties": {"x": {}}})
    params = {} if choice is None else {"tool_choice": choice}
    body = request_body(ModelRequest("m", (user(said("q")),), tools=(tool,), params=params))
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "does f", "parameters": tool.input_schema},
        }
    ]
    assert body["tool_choice"] == sent
    assert "tool_choice" not in request_body(ModelRequest("m", (user(said("q")),), params=params))


def test_params_that_a_vendor_does_not_know_can_be_left_out() -> None:
    body = request_body(ModelRequest("m", (user(said("q")),), params={"stream_options": None, "seed": None}))
    assert body.keys() == {"model", "messages", "stream"}


@pytest.mark.parametrize(
    ("thinking", "sent"),
    [
        ({"budget_tokens": 1024}, {"reasoning_effort": "low"}),
        ({"budget_tokens": 9000}, {"reasoning_effort": "high"}),
        ({"type": "enabled"}, {"thinking": {"type": "enabled"}}),
    ],
)
def test_a_thinking_budget(thinking: Any, sent: Any) -> None:
    body = request_body(ModelRequest("m", (user(said("q")),), params={"thinking": thinking}))
    assert {name: body[name] for name in ("reasoning_effort", "thinking") if name in body} == sent


def test_the_key_is_a_bearer_token() -> None:
    assert WIRE.auth_headers("k") == {"authorization": "Bearer k"}


def test_thinking_goes_back_only_where_the_caller_says_so() -> None:
    turn = Message("assistant", (Block(0, "thinking", "hm"), said("a"), called("i", "f", input={})))
    messages = (user(said("q")), turn, user(result("i", "r")))
    plain = request_body(ModelRequest("m", messages))
    assert "hm" not in json.dumps(plain)
    asked = request_body(ModelRequest("m", messages, params={"reasoning_field": "reasoning_content"}))
    assert asked["messages"][1]["reasoning_content"] == "hm"
    assert "reasoning_field" not in asked
