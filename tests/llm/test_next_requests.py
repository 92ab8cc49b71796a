"""Later requests of a turn, and the model for a conversation that is too long: whole calls over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

import turnstream as ts
from tests.providers.conftest import Exchange, RawServer, raw_server

__all__ = ["raw_server"]


def sse(*events: Any) -> bytes:
    frames = (b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return b"".join([*frames, b"data: [DONE]\n\n"])


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def called(identity: str) -> dict[str, Any]:
    function = {"name": "look", "arguments": '{"what": "x"}'}
    return {"tool_calls": [{"index": 0, "id": identity, "type": "function", "function": function}]}


def answering(server: RawServer, *answers: tuple[int, bytes]) -> list[tuple[str, dict[str, Any]]]:
    """Answer one request after another. The list records the path and the body of each."""
    asked: list[tuple[str, dict[str, Any]]] = []

    async def answer(exchange: Exchange) -> None:
        asked.append((exchange.head.split(" ")[1], json.loads(exchange.body)))
        status, body = answers[min(len(asked), len(answers)) - 1]
        kind = b"text/event-stream" if status == 200 else b"application/json"
        head = b"HTTP/1.1 %d Said\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (
            status,
            kind,
            len(body),
        )
        await exchange.send(head + body)

    server.answer = answer
    return asked


def llm_of(server: RawServer, model: str, **options: Any) -> ts.LLM:
    providers: dict[str, Any] = {
        "chat": {"wire": "openai-chat", "base_url": f"{server.url}/v1"},
        "claude": {"wire": "anthropic", "base_url": server.url},
    }
    return ts.LLM(
        model, providers=providers, retry=ts.RetrySettings(attempts=1), settings=ts.Settings(), **options
    )


def look(what: str) -> str:
    """Look something up."""
    return f"seen {what}"


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("model", "goes"),
    [("kimi-k2-thinking", True), ("deepseek-v4-pro", True), ("gpt-4o", False)],
)
async def test_thinking_goes_back_with_the_call_it_led_to(
    raw_server: RawServer, model: str, goes: bool
) -> None:
    first = sse(
        chunk({"reasoning_content": "I should "}),
        chunk({"reasoning_content": "look."}),
        chunk(called("functions.look:0")),
        chunk({}, "tool_calls"),
    )
    second = sse(chunk({"content": "Seen."}), chunk({}, "stop"))
    asked = answering(raw_server, (200, first), (200, second))
    message = await llm_of(raw_server, f"chat/{model}").collect("go", tools=[look])
    assert message.text == "Seen."
    (said,) = [one for one in asked[1][1]["messages"] if one["role"] == "assistant"]
    assert said.get("reasoning_content") == ("I should look." if goes else None)
    await llm_of(raw_server, f"chat/{model}").collect(
        "more",
        messages=[{"role": "user", "content": "go"}, message],
    )
    assistants = [one for one in asked[2][1]["messages"] if one["role"] == "assistant"]
    assert assistants[0].get("reasoning_content") == ("I should look." if goes else None)


@pytest.mark.fault(29)
async def test_a_fallback_of_another_vendor_takes_the_call_s_id(raw_server: RawServer) -> None:
    first = sse(chunk(called("functions.look:0")), chunk({}, "tool_calls"))
    failed = json.dumps({"error": {"message": "down", "type": "server_error"}}).encode()
    claude = b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())
        for event in (
            {
                "type": "message_start",
                "message": {"id": "m", "model": "c", "role": "assistant", "content": []},
            },
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Seen."}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        )
    )
    asked = answering(raw_server, (200, first), (500, failed), (200, claude))
    llm = llm_of(raw_server, "chat/kimi-k2-0905-preview", fallbacks=["claude/claude-sonnet-5-5"])
    message = await llm.collect("go", tools=[look])
    assert message.text == "Seen."
    kept = [one["tool_calls"][0]["id"] for one in asked[1][1]["messages"] if one.get("tool_calls")]
    assert kept == ["functions.look:0"]
    (call,) = asked[2][1]["messages"][1]["content"]
    (result,) = asked[2][1]["messages"][2]["content"]
    assert call["id"] == result["tool_use_id"]
    assert call["id"].replace("_", "").isalnum()


@pytest.mark.fault(27)
@pytest.mark.parametrize(
    "words",
    [
        {"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}},
        {"error": {"message": "Your request exceeded model token limit: 262144 (requested: 269030)", "type": "invalid_request_error"}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_model_that_reads_more_is_asked(
    raw_server: RawServer, words: dict[str, Any], streamed: bool
) -> None:
    body = b"data: " + json.dumps(words).encode() + b"\n\n" if streamed else json.dumps(words).encode()
    second = sse(chunk({"content": "All read."}), chunk({}, "stop"))
    asked = answering(raw_server, (200 if streamed else 400, body), (200, second))
    capabilities = {
        "chat/small": ts.CapabilitySettings(context_tokens=1000),
        "chat/smaller": ts.CapabilitySettings(context_tokens=900),
        "chat/large": ts.CapabilitySettings(context_tokens=2000),
    }
    llm = llm_of(
        raw_server, "chat/small", fallbacks=["chat/smaller", "chat/large"], capabilities=capabilities
    )
    message = await llm.collect("a long story")
    assert message.text == "All read."
    assert [one["model"] for _, one in asked] == ["small", "large"]
    assert message.attempts[0].outcome == "context_length_exceeded"
