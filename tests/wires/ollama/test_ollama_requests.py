"""Requests to Ollama, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.ollama.lines import PNG, call
from turnstream.core.blocks import Block, Message
from turnstream.errors import (
    InvalidRequest,
)
from turnstream.wires.base import ModelRequest, ToolDefinition
from turnstream.wires.ollama.wire import WIRE

# --- requests -----------------------------------------------------------------------------------------------

HISTORY = (
    Message(
        "user", (Block(0, "text", "look"), Block(1, "image", None, {"media_type": "image/png", "data": PNG}))
    ),
    Message(
        "assistant",
        (
            Block(0, "thinking", "hm", {"signature": "s"}),
            Block(1, "text", "I will"),
            Block(
                2,
                "tool_use",
                None,
                {"tool_use_id": "1", "tool_name": "f", "input": {"a": 1}, "input_json": '{"a":1}'},
            ),
        ),
    ),
    Message(
        "user", (Block(0, "tool_result", None, {"tool_use_id": "1", "content": "no", "is_error": True}),)
    ),
)
TOOL = ToolDefinition("f", "does it", {"type": "object", "properties": {"a": {"type": "integer"}}})


def body_of(request: ModelRequest) -> dict[str, Any]:
    post = WIRE.encode_request(request)
    assert post.path == "/api/chat"
    return json.loads(post.body)


@pytest.mark.requirement("F1", "G6", "P4")
def test_a_request_as_ollama_takes_it() -> None:
    params = {
        "max_tokens": 9,
        "temperature": 0,
        "seed": 3,
        "thinking": {"budget_tokens": 5},
        "keep_alive": "5m",
    }
    assert body_of(ModelRequest("m", HISTORY, "be good", (TOOL,), params)) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be good"},
            {"role": "user", "content": "look", "images": [PNG]},
            {
                "role": "assistant",
                "content": "I will",
                "thinking": "hm",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "Error: no", "tool_call_id": "1", "tool_name": "f"},
        ],
        "stream": True,
        "keep_alive": "5m",
        "think": True,
        "options": {"num_predict": 9, "temperature": 0, "seed": 3},
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "does it", "parameters": TOOL.input_schema},
            }
        ],
    }


@pytest.mark.requirement("F1")
def test_a_request_comes_back_as_it_went() -> None:
    params = {
        "max_tokens": 9,
        "stop": ["x"],
        "options": {"new_one": 1},
        "response_format": {"type": "json_object"},
    }
    request = ModelRequest("m", HISTORY, "be good", (TOOL,), params)
    again = WIRE.decode_request("/api/chat", WIRE.encode_request(request).body)
    assert (again.system, again.tools, again.params) == (request.system, request.tools, request.params)
    assert body_of(again) == body_of(request)
    assert [block.block_type for message in again.messages for block in message.blocks] == [
        block.block_type for message in HISTORY for block in message.blocks
    ]


@pytest.mark.requirement("P4")
def test_what_ollama_would_refuse_is_said_otherwise() -> None:
    blocks = (
        Block(0, "tool_use", None, {"tool_use_id": "1", "tool_name": "f", "input": None, "input_json": "{"}),
        Block(
            1,
            "tool_result",
            None,
            {"tool_use_id": "1", "content": [{"type": "text", "text": "a"}, {"type": "image", "data": PNG}]},
        ),
        Block(
            2,
            "tool_use",
            None,
            {"tool_use_id": "2", "tool_name": "web", "input": {}, "provider_executed": True},
        ),
        Block(3, "provider", None, {"x": 1}),
        Block(4, "thinking", "cut", None, partial=True),
    )
    user = Message("user", (Block(0, "image", None, {"url": "https://x/y.png"}),))
    assert body_of(ModelRequest("m", (user, Message("assistant", blocks))))["messages"] == [
        {"role": "user", "content": "[image: https://x/y.png]"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}],
        },
        {"role": "tool", "content": "a", "tool_call_id": "1", "tool_name": "f", "images": [PNG]},
    ]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("named", [True, False])
def test_a_history_of_very_many_calls_is_read_in_linear_time(named: bool) -> None:
    many = 30_000
    calls = [{"function": {"name": "f" if n % 2 else "g", "arguments": {}}} for n in range(many)]
    order = [*range(1, many, 2), *range(0, many, 2)] if named else range(many)
    results = [
        {"role": "tool", "content": str(n), **({"tool_name": "f" if n % 2 else "g"} if named else {})}
        for n in order
    ]
    body = {"model": "m", "messages": [{"role": "assistant", "content": "", "tool_calls": calls}, *results]}
    asked, answered = WIRE.decode_request("/api/chat", json.dumps(body).encode()).messages
    identities = [(block.content or {})["tool_use_id"] for block in asked.blocks]
    assert len({*identities}) == many
    for block in answered.blocks:
        content = block.content or {}
        assert content["tool_use_id"] == identities[int(content["content"])]


@pytest.mark.requirement("G6")
def test_results_without_ids_find_their_calls() -> None:
    calls = [call("f", {}), call("g", {}), call("f", {})]
    results = [
        {"role": "tool", "content": str(n), "tool_name": name} for n, name in enumerate(("g", "f", "f"))
    ]
    body = {"model": "m", "messages": [{"role": "assistant", "tool_calls": calls}, *results]}
    said, answered = WIRE.decode_request("/api/chat", json.dumps(body).encode()).messages
    ids = [(block.content or {})["tool_use_id"] for block in said.blocks]
    assert [(block.content or {})["tool_use_id"] for block in answered.blocks] == [ids[1], ids[0], ids[2]]


def test_tool_choice_none_sends_no_tools() -> None:
    assert "tools" not in body_of(ModelRequest("m", HISTORY, None, (TOOL,), {"tool_choice": "none"}))
    assert body_of(ModelRequest("m", HISTORY, None, (TOOL,), {"tool_choice": "auto"}))["tools"]
    for choice in ("required", {"name": "weather"}):
        with pytest.raises(InvalidRequest, match="auto or none"):
            WIRE.encode_request(ModelRequest("m", HISTORY, None, (TOOL,), {"tool_choice": choice}))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"model":"m"}', b'{"model":"m","messages":[1]}', b'{"model":"m","messages":[{"role":"x"}]}',
        b'{"model":"m","messages":[{"role":"user","content":[]}]}', b'{"model":"m","messages":[],"options":1}',
        b'{"model":"m","messages":[],"tools":1}', b'{"model":"m","messages":[{"role":"user","images":[1]}]}',
        b'{"model":"m","messages":[{"role":"assistant","tool_calls":[1]}]}',
    ],
)  # fmt: skip
def test_requests_that_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        WIRE.decode_request("/api/chat", body)


def test_a_key_is_a_bearer() -> None:
    assert WIRE.auth_headers("k") == {"authorization": "Bearer k"}


def test_a_result_whose_id_belongs_to_no_call_answers_the_next_call_of_its_tool() -> None:
    """Some clients drop the ids of calls, and send them with the results."""
    call = {"function": {"name": "w", "arguments": {}}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "one", "tool_name": "w", "tool_call_id": "lost_1"},
        {"role": "tool", "content": "two", "tool_call_id": "lost_2"},
    ]
    decoded = WIRE.decode_request("", json.dumps({"model": "m", "messages": messages}).encode())
    calls = [block.content["tool_use_id"] for block in decoded.messages[1].blocks if block.content]
    results = [block.content["tool_use_id"] for block in decoded.messages[2].blocks if block.content]
    assert calls == results
    assert len(set(calls)) == 2
