"""Requests and errors of the anthropic wire, in both directions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import ContentBlockStart, StreamNotice
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
from turnstream.wires.anthropic.wire import WIRE
from turnstream.wires.base import ModelRequest, ToolDefinition


def body_of(request: ModelRequest) -> dict[str, Any]:
    return json.loads(WIRE.encode_request(request).body)


def messages_of(*messages: Message) -> list[dict[str, Any]]:
    return body_of(ModelRequest("m", messages))["messages"]


def message(role: Any, *blocks: Block) -> Message:
    return Message(role, blocks)


def text(value: str, **content: Any) -> Block:
    return Block(0, "text", value, content or None)


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
    """An assistant turn of several steps holds its tools' results; neighbours of one side become one message."""
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
    """Canonical: sides alternate, every block is on its side and would be accepted, the answer's limit is set."""
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
        b'{"model": "m", "messages": [{"role": "system", "content": "x"}]}',
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


@pytest.mark.requirement("D4", "J1", "J2")
@pytest.mark.parametrize(
    ("status", "kind", "message", "error_class"),
    [
        (400, "invalid_request_error", "bad", InvalidModelRequest),
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", ContextLengthExceeded),
        (401, "authentication_error", "invalid x-api-key", AuthenticationFailed),
        (402, "billing_error", "your credit", PermissionDenied),
        (403, "permission_error", "not for you", PermissionDenied),
        (404, "not_found_error", "model: x", ModelNotFound),
        (413, "request_too_large", "big", InvalidModelRequest),
        (429, "rate_limit_error", "slow", RateLimited),
        (500, "api_error", "oops", ProviderFailed),
        (504, "timeout_error", "late", ProviderTimeout),
        (529, "overloaded_error", "busy", Overloaded),
        (503, "brand_new_error", "?", ProviderFailed),
        (418, "brand_new_error", "?", InvalidModelRequest),
    ],
)
def test_errors_of_the_api(status: int, kind: str, message: str, error_class: type[ProviderError]) -> None:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    error = WIRE.decode_error(status, {"Retry-After": "7"}, body)
    assert type(error) is error_class
    assert (error.provider_status, error.detail, error.retry_after) == (status, message, 7.0)
    assert error.code == error_class.code
    assert message not in error.message, "the provider's words are for debugging only"


@pytest.mark.requirement("D4")
@pytest.mark.parametrize(
    ("status", "body", "error_class"),
    [
        (401, b"", AuthenticationFailed),
        (429, b"<html>slow</html>", RateLimited),
        (502, b"\xff\xfe", ProviderFailed),
        (529, b'{"error": "busy"}', Overloaded),
        (400, b"[" * 100_000, InvalidModelRequest),
        (404, b'{"message": "no such model"}', ModelNotFound),
    ],
)
def test_errors_of_another_shape_are_typed_by_status(
    status: int, body: bytes, error_class: type[ProviderError]
) -> None:
    error = WIRE.decode_error(status, {"retry-after": "soon"}, body)
    assert type(error) is error_class
    assert error.retry_after is None
    assert len(error.detail or "") <= 2000


@pytest.mark.parametrize("depth", range(840, 1010, 10))
def test_nesting_at_the_interpreters_limit_is_no_crash(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    assert type(WIRE.decode_error(400, {}, b'{"error":%b}' % nested)) is InvalidModelRequest
    events = WIRE.decoder(on_malformed="skip").feed(b'event: error\ndata: {"error":%b}\n\n' % nested)
    assert len(events) == 1
    (event,) = WIRE.decoder(on_malformed="skip").feed(
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"new","value":%b}}\n\n'
        % nested
    )
    assert isinstance(event, StreamNotice | ContentBlockStart)
    try:
        WIRE.decode_request("", b'{"model":"m","messages":[],"metadata":%b}' % nested)
    except InvalidRequest:
        pass


@pytest.mark.requirement("K3")
@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailed("a", detail="secret"),
        ContextLengthExceeded("long"),
        ModelNotFound("a"),
        RateLimited("a"),
        ProviderFailed("a"),
        ProviderTimeout("a"),
        Overloaded("a"),
        InvalidModelRequest("a"),
    ],
)
def test_errors_are_written_as_the_api_writes_them(error: ProviderError) -> None:
    status, body = WIRE.encode_error(error)
    assert b"secret" not in body
    assert type(WIRE.decode_error(status, {}, body)) is type(error)


def test_an_error_that_the_api_does_not_know_is_its_own_failure() -> None:
    status, body = WIRE.encode_error(ProviderError("broken", code="stream_incomplete"))
    assert (status, json.loads(body)) == (
        500,
        {"type": "error", "error": {"type": "api_error", "message": "broken"}},
    )
