"""Requests of the anthropic wire, from our messages to bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.anthropic.requests import body_of, message, text
from turnstream.core.blocks import Block, Message
from turnstream.wires.anthropic.wire import WIRE
from turnstream.wires.base import ModelRequest, ToolDefinition


def messages_of(*messages: Message) -> list[dict[str, Any]]:
    return body_of(ModelRequest("m", messages))["messages"]


HELLO = message("user", text("hello"))
CALL = Block(
    0, "tool_use", None, {"tool_use_id": "t", "tool_name": "n", "input": {"a": 1}, "input_json": '{"a":1}'}
)
RESULT = Block(1, "tool_result", None, {"tool_use_id": "t", "content": "ok", "is_error": False})


@pytest.mark.requirement("F1")
def test_a_request() -> None:
    request = ModelRequest(
        "claude",
        (HELLO,),
        system="be kind",
        tools=(ToolDefinition("n", "does", {"type": "object"}), ToolDefinition("bare")),
        params={
            "max_tokens": 5,
            "stop": ["x"],
            "tool_choice": "required",
            "top_k": 3,
            "metadata": {"user_id": "u"},
        },
    )
    encoded = WIRE.encode_request(request)
    assert encoded.path == "/v1/messages"
    assert encoded.headers["anthropic-version"] == "2023-06-01"
    assert encoded.headers["content-type"] == "application/json"
    assert json.loads(encoded.body) == {
        "model": "claude",
        "max_tokens": 5,
        "stream": True,
        "system": "be kind",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "tools": [
            {"name": "n", "description": "does", "input_schema": {"type": "object"}},
            {"name": "bare", "input_schema": {"type": "object", "properties": {}}},
        ],
        "tool_choice": {"type": "any"},
        "stop_sequences": ["x"],
        "top_k": 3,
        "metadata": {"user_id": "u"},
    }
    assert WIRE.auth_headers("key") == {"x-api-key": "key"}


def test_an_answer_has_room_beside_its_thinking() -> None:
    plain = body_of(ModelRequest("m", (HELLO,)))
    thinking = body_of(ModelRequest("m", (HELLO,), params={"thinking": {"budget_tokens": 2000}}))
    assert thinking["max_tokens"] == plain["max_tokens"] + 2000
    assert thinking["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    adaptive = body_of(ModelRequest("m", (HELLO,), params={"thinking": {"type": "adaptive"}}))
    assert adaptive["thinking"] == {"type": "adaptive"}
    assert adaptive["max_tokens"] == plain["max_tokens"]


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"name": "n"}, {"type": "tool", "name": "n"}),
        ({"type": "of_tomorrow", "x": 1}, {"type": "of_tomorrow", "x": 1}),
    ],
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    request = ModelRequest("m", (HELLO,), tools=(ToolDefinition("n"),), params={"tool_choice": choice})
    assert body_of(request)["tool_choice"] == expected
    assert (
        WIRE.decode_request("/v1/messages", WIRE.encode_request(request).body).params["tool_choice"] == choice
    )


@pytest.mark.requirement("F1")
def test_tool_choice_is_sent_with_tools_only() -> None:
    assert "tool_choice" not in body_of(ModelRequest("m", (HELLO,), params={"tool_choice": "auto"}))


@pytest.mark.requirement("P4")
def test_roles_alternate_and_results_are_the_users() -> None:
    """An assistant turn of several steps contains its tools' results. Neighbours of one side become one
    message."""
    sent = messages_of(
        HELLO,
        message("user", text("again")),
        message("assistant", text("let me see"), CALL, RESULT, text("done")),
        message("user", text("thanks")),
    )
    assert [(m["role"], [b["type"] for b in m["content"]]) for m in sent] == [
        ("user", ["text", "text"]),
        ("assistant", ["text", "tool_use"]),
        ("user", ["tool_result"]),
        ("assistant", ["text"]),
        ("user", ["text"]),
    ]
    assert sent[1]["content"][1] == {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}}
    assert sent[2]["content"] == [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]


@pytest.mark.requirement("P4")
@pytest.mark.parametrize(
    "left_out",
    [
        text(""),
        text(" \n"),
        Block(0, "thinking", "unsigned"),
        Block(0, "thinking", "cut", {"signature": "s"}, partial=True),
        Block(0, "tool_use", None, {"tool_use_id": "t", "provider_executed": True, "input": {}}),
        Block(0, "tool_result", None, {"tool_use_id": "t", "provider_executed": True, "content": "x"}),
        Block(0, "provider", None, {"type": "another_vendors"}),
        Block(0, "provider", None, {"type": "compaction", "content": ""}),
        Block(0, "provider", None, {"type": "compaction", "content": "half"}, partial=True),
        Block(0, "image", None, {"url": "http://x"}),
        Block(0, "reference", None, {"document": 1}),
    ],
)
def test_what_the_api_would_refuse_is_left_out(left_out: Block) -> None:
    assert [len(m["content"]) for m in messages_of(HELLO, message("assistant", text("a"), left_out))] == [
        1,
        1,
    ]
    assert len(messages_of(HELLO, message("assistant", left_out))) == 1


@pytest.mark.requirement("P4", "B3")
@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            Block(0, "thinking", "t", {"signature": "s"}),
            {"type": "thinking", "thinking": "t", "signature": "s"},
        ),
        (Block(0, "thinking", "", {"redacted": "x"}), {"type": "redacted_thinking", "data": "x"}),
        (
            Block(
                0,
                "tool_use",
                None,
                {
                    "tool_use_id": "t",
                    "tool_name": "n",
                    "input": {},
                    "input_json": "",
                    "provider_executed": True,
                    "provider_metadata": {"type": "mcp_tool_use", "server_name": "s"},
                },
            ),
            {"type": "mcp_tool_use", "id": "t", "name": "n", "input": {}, "server_name": "s"},
        ),
        (
            Block(
                0,
                "tool_use",
                None,
                {"tool_use_id": "t", "tool_name": "n", "input": None, "input_json": '{"a'},
            ),
            {"type": "tool_use", "id": "t", "name": "n", "input": {"INVALID_JSON": '{"a'}},
        ),
        (
            Block(
                0,
                "tool_result",
                None,
                {
                    "tool_use_id": "t",
                    "content": {"type": "x_error"},
                    "is_error": True,
                    "provider_executed": True,
                    "provider_metadata": {"type": "x_tool_result"},
                },
            ),
            {"type": "x_tool_result", "tool_use_id": "t", "content": {"type": "x_error"}},
        ),
        (
            Block(0, "provider", None, {"type": "compaction", "content": "c"}),
            {"type": "compaction", "content": "c"},
        ),
        (
            text("a", citations=[{"type": "char_location"}]),
            {"type": "text", "text": "a", "citations": [{"type": "char_location"}]},
        ),
        (text("a", citations=[{"type": "url_citation"}]), {"type": "text", "text": "a"}),
        (text("a", provider_metadata={"logprobs": []}), {"type": "text", "text": "a"}),
    ],
)
def test_blocks_go_back_in_their_own_shape(block: Block, expected: dict[str, Any]) -> None:
    assert messages_of(HELLO, message("assistant", block))[1]["content"] == [expected]


@pytest.mark.parametrize(
    ("content", "text_content", "expected"),
    [
        ("ok", None, "ok"),
        (None, "streamed", "streamed"),
        (None, None, ""),
        ([{"type": "text", "text": "a"}], None, [{"type": "text", "text": "a"}]),
        ({"rows": [1]}, None, '{"rows":[1]}'),
        ([1, 2], None, "[1,2]"),
        (5, None, "5"),
    ],
)
def test_results_of_tools(content: Any, text_content: str | None, expected: Any) -> None:
    block = Block(0, "tool_result", text_content, {"tool_use_id": "t", "content": content, "is_error": True})
    (sent,) = messages_of(message("user", block))[0]["content"]
    assert sent == {"type": "tool_result", "tool_use_id": "t", "content": expected, "is_error": True}


def test_images() -> None:
    inline = Block(0, "image", None, {"media_type": "image/png", "data": "AA=="})
    linked = Block(1, "image", None, {"url": "https://example.org/a.png"})
    request = ModelRequest("m", (message("user", inline, linked),), params={"max_tokens": 1})
    assert [block["source"] for block in body_of(request)["messages"][0]["content"]] == [
        {"type": "base64", "media_type": "image/png", "data": "AA=="},
        {"type": "url", "url": "https://example.org/a.png"},
    ]
    assert WIRE.decode_request("", WIRE.encode_request(request).body) == request
