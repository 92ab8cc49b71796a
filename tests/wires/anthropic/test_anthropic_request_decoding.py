"""Requests of the anthropic wire, from bytes to our messages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.anthropic.requests import body_of, text
from turnstream.core.blocks import Block, Message
from turnstream.errors import (
    InvalidRequest,
)
from turnstream.wires.anthropic.wire import WIRE
from turnstream.wires.base import ModelRequest, ToolDefinition

words = st.text(min_size=1, max_size=8).filter(lambda word: bool(word.strip()))
call_ids = st.text("aB3_-", min_size=1, max_size=8)
inputs = st.dictionaries(words, st.integers(0, 9) | words, max_size=2)
user_blocks = st.one_of(
    words.map(text),
    st.builds(lambda t, c, e: Block(0, "tool_result", None, {"tool_use_id": t, "content": c, "is_error": e}), call_ids, words, st.booleans()),
    st.builds(lambda u: Block(0, "image", None, {"url": u}), words),
    st.builds(lambda t: Block(0, "document", None, {"text": t, "title": "t"}), words),
    st.builds(lambda d: Block(0, "document", None, {"media_type": "application/pdf", "data": d}), words),
    st.just(Block(0, "provider", None, {"type": "document", "source": {"type": "file", "file_id": "f"}})),
    st.builds(lambda t: text(t, provider_metadata={"cache_control": {"type": "ephemeral", "ttl": "1h"}}), words),
)  # fmt: skip
assistant_blocks = st.one_of(
    words.map(text),
    st.builds(lambda t, s: Block(0, "thinking", t, {"signature": s}), words, words),
    st.builds(lambda d: Block(0, "thinking", "", {"redacted": d}), words),
    st.builds(
        lambda t, n, i: Block(0, "tool_use", None, {
            "tool_use_id": t, "tool_name": n, "input": i, "input_json": json.dumps(i, ensure_ascii=False, separators=(",", ":")) if i else "",
        }),
        call_ids, words, inputs,
    ),
    st.just(Block(0, "provider", None, {"type": "compaction", "content": "c"})),
)  # fmt: skip


@st.composite
def canonical_requests(draw: st.DrawFn) -> ModelRequest:
    """Canonical: sides alternate, every block is valid on its side, and the answer's limit is set."""
    messages: list[Message] = []
    for position in range(draw(st.integers(0, 4))):
        blocks = draw(
            st.lists(user_blocks if position % 2 == 0 else assistant_blocks, min_size=1, max_size=3)
        )
        numbered = (Block(n, b.block_type, b.text_content, b.content) for n, b in enumerate(blocks))
        messages.append(Message("user" if position % 2 == 0 else "assistant", tuple(numbered)))
    tools = draw(
        st.lists(
            st.builds(ToolDefinition, words, st.just("") | words, st.just({"type": "object"})), max_size=2
        )
    )
    params = draw(
        st.fixed_dictionaries(
            {"max_tokens": st.integers(1, 9999)},
            optional={
                "temperature": st.just(0.5),
                "stop": st.lists(words, min_size=1, max_size=2),
                "thinking": st.sampled_from(
                    [{"budget_tokens": 1024}, {"type": "adaptive"}, {"effort": "low"}]
                ),
                "response_format": st.just({"type": "json_schema", "schema": {"type": "object"}}),
                "output_config": st.just({"of_tomorrow": 1}),
                "service_tier": st.just("auto"),
            },
        )
    )
    if tools:
        params |= draw(
            st.fixed_dictionaries(
                {}, optional={"tool_choice": st.sampled_from(["auto", "required", {"name": "n"}])}
            )
        )
        if params.get("tool_choice", "auto") != "auto" and draw(st.booleans()):
            params["parallel_tool_calls"] = False
    system = draw(st.none() | words)
    markable = [b for b in messages[-1].blocks if b.block_type != "thinking"] if messages else []
    has_own_mark = bool(markable) and "provider_metadata" in (markable[-1].content or {})
    if (tools or system or markable) and not has_own_mark and draw(st.booleans()):
        params["cache"] = True
    return ModelRequest(draw(words), tuple(messages), system, tuple(tools), params, draw(st.booleans()))


@settings(deadline=None)
@given(canonical_requests())
def test_canonical_requests_decode_to_themselves(request: ModelRequest) -> None:
    encoded = WIRE.encode_request(request)
    assert WIRE.decode_request(encoded.path, encoded.body) == request


@pytest.mark.requirement("K4")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"model": 5, "messages": []}',
        b'{"model": "m"}',
        b'{"model": "m", "messages": {}}',
        b'{"model": "m", "messages": [{"role": "tool", "content": "x"}]}',
        b'{"model": "m", "messages": [{"role": "system", "content": 7}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": 5}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": [5]}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}',
        b'{"model": "m", "messages": [], "tools": [5]}',
        b'{"model": "m", "messages": [], "tools": [{"name": 5, "input_schema": {}}]}',
        b'{"model": "m", "messages": [], "tool_choice": 5}',
        b'{"model": "m", "messages": [], "thinking": 5}',
        b'{"model": "m", "messages": [], "system": [{"type": "text"}]}',
    ],
)
def test_a_request_of_another_shape_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        WIRE.decode_request("/v1/messages", body)


@pytest.mark.requirement("N6")
def test_system_messages_extend_the_system_prompt() -> None:
    body = {
        "model": "m",
        "system": "a",
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "system", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
            {"role": "system", "content": "d"},
            {"role": "user", "content": "again"},
        ],
    }
    request = WIRE.decode_request("/v1/messages", json.dumps(body).encode())
    assert request.system == "a\n\nb\n\nc\n\nd"
    assert request.messages == (Message("user", (text("hello"),)), Message("user", (text("again"),)))


def test_a_request_as_clients_write_it() -> None:
    body = {
        "model": "m",
        "max_tokens": 5,
        "system": [
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [{"role": "user", "content": "hello"}],
        "tools": [{"type": "web_search_20250305", "name": "web_search"}, {"name": "n", "input_schema": {}}],
        "stream": False,
    }
    request = WIRE.decode_request("/v1/messages", json.dumps(body).encode())
    assert request.system == "a\n\nb"
    assert request.messages == (Message("user", (text("hello"),)),)
    assert request.tools == (ToolDefinition("n"),)
    assert request.params == {
        "max_tokens": 5,
        "tools": [{"type": "web_search_20250305", "name": "web_search"}],
    }
    assert [tool["name"] for tool in body_of(request)["tools"]] == ["n", "web_search"]
