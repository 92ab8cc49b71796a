"""Requests of chat.completions, from bytes to our messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.openai_chat.messages import called, result, said, texts
from turnstream.core.blocks import Block, Message
from turnstream.errors import (
    InvalidRequest,
)
from turnstream.wires.base import ModelRequest, ToolDefinition
from turnstream.wires.openai_chat.wire import WIRE

json_objects = st.dictionaries(texts, st.integers() | texts | st.booleans(), max_size=3)


def numbered(blocks: list[Block]) -> tuple[Block, ...]:
    return tuple(
        Block(n, block.block_type, block.text_content, block.content) for n, block in enumerate(blocks)
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[Message, ...]:
    """Histories that this wire can hold: one block of text per side, alternating roles, calls with
    results."""
    messages: list[Message] = []
    pending: list[Block] = []
    for _ in range(draw(st.integers(1, 4))):
        blocks = [
            result(
                str((call.content or {})["tool_use_id"]),
                draw(texts.filter(lambda t: not t.startswith("Error: "))),
                is_error=draw(st.booleans()),
            )
            for call in pending
        ]
        if not blocks or draw(st.booleans()):
            blocks += draw(
                st.lists(
                    st.one_of(
                        texts.map(said),
                        st.just(Block(0, "image", None, {"url": "u"})),
                        st.just(Block(0, "image", None, {"media_type": "image/png", "data": "QQ=="})),
                    ),
                    min_size=1,
                    max_size=3,
                )
            )
        messages.append(Message("user", numbered(blocks)))
        arguments = draw(st.lists(json_objects, max_size=2))
        pending = [
            called(f"c{len(messages)}{n}", draw(texts), input=value, input_json=json.dumps(value))
            for n, value in enumerate(arguments)
        ]
        spoken = [said(draw(texts))] if not pending or draw(st.booleans()) else []
        messages.append(Message("assistant", numbered([*spoken, *pending])))
    return tuple(messages[:-1])


requests = st.builds(
    ModelRequest,
    model=st.sampled_from(["gpt-4o", "o3", "m"]),
    messages=histories(),
    system=st.none() | texts,
    tools=st.lists(
        st.builds(ToolDefinition, texts, st.text(max_size=5), st.just({"type": "object", "properties": {}})),
        max_size=2,
    ).map(tuple),
    params=st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.integers(1, 9),
            "stop": st.lists(texts, min_size=1),
            "temperature": st.just(0.5),
            "user": texts,
        },
    ),
)


@settings(max_examples=200, deadline=None)
@given(requests)
@pytest.mark.requirement("F1")
def test_a_request_decodes_to_itself(request: ModelRequest) -> None:
    encoded = WIRE.encode_request(request)
    assert WIRE.decode_request(encoded.path, encoded.body) == request


def decode_request(**body: Any) -> ModelRequest:
    return WIRE.decode_request("/v1/chat/completions", json.dumps(body).encode())


def test_requests_of_other_clients() -> None:
    request = decode_request(
        model="m",
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "q", "name": "me"},
            {"role": "user", "content": "r"},
            {
                "role": "assistant",
                "content": None,
                "refusal": "no",
                "function_call": {"name": "f", "arguments": "{"},
            },
            {"role": "function", "name": "f", "content": "Error: broken"},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "x"}, {"type": "refusal", "refusal": "y"}],
            },
            {"role": "system", "content": "late"},
        ],
        stream=True,
        stream_options={"include_usage": True},
        max_completion_tokens=7,
        stop="END",
        tool_choice={"type": "function", "function": {"name": "f"}},
        tools=[{"type": "function", "function": {"name": "f"}}, {"type": "web_search"}],
        n=2,
    )
    assert request.system == "ab\n\nlate"
    assert [message.role for message in request.messages] == ["user", "assistant", "user", "assistant"]
    assert [block.text_content for block in request.messages[0].blocks] == ["q", "r"]
    refusal, call = request.messages[1].blocks
    assert refusal.text_content == "no"
    assert call.content is not None
    assert (call.content["tool_use_id"], call.content["input"], call.content["input_json"]) == (
        "f",
        None,
        "{",
    )
    (failed,) = request.messages[2].blocks
    assert failed.content == {"tool_use_id": "f", "content": "broken", "is_error": True}
    assert request.tools == (ToolDefinition("f"),)
    assert request.params == {
        "max_tokens": 7,
        "stop": ["END"],
        "tool_choice": {"name": "f"},
        "tools": [{"type": "web_search"}],
        "n": 2,
    }


@pytest.mark.requirement("K4")
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"{}", b'{"model":"m"}', b'{"model":"","messages":[]}', b'{"model":1,"messages":[]}',
        *(json.dumps({"model": "m", "messages": messages}).encode() for messages in (
            {}, "x", [1], [{"role": "boss", "content": "x"}], [{"content": "x"}], [{"role": "user", "content": 5}], [{"role": "user", "content": [5]}],
            [{"role": "user", "content": [{"type": "text"}]}], [{"role": "user", "content": [{"type": "image_url"}]}], [{"role": "user", "content": [{"type": "file"}]}],
            [{"role": "assistant", "tool_calls": 3}], [{"role": "assistant", "tool_calls": [3]}], [{"role": "assistant", "tool_calls": [{"function": {}}]}],
            [{"role": "tool", "tool_call_id": 5, "content": "x"}],
        )),
        *(json.dumps({"model": "m", "messages": [], "tools": tools}).encode() for tools in (
            {}, "x", [{"type": "function", "function": {}}], [{"type": "function", "function": {"name": "f", "parameters": "x"}}],
        )),
    ],
)  # fmt: skip
def test_requests_that_make_no_sense_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        WIRE.decode_request("/v1/chat/completions", body)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "role",
                        "content",
                        "type",
                        "text",
                        "tool_calls",
                        "function",
                        "name",
                        "model",
                        "messages",
                        "tools",
                        "tool_choice",
                        "stop",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
@pytest.mark.requirement("K4")
def test_any_json_is_a_request_or_refused(value: Any) -> None:
    for body in (
        value,
        {"model": "m", "messages": value},
        {"model": "m", "messages": [], "tools": value, "tool_choice": value, "stop": value},
    ):
        try:
            request = WIRE.decode_request("/v1/chat/completions", json.dumps(body).encode())
        except InvalidRequest:
            continue
        WIRE.encode_request(request)
