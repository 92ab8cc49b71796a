"""Answers that have a finish reason on a connection that stays open, and bytes that are no sign of life."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from turnstream.config import Timeouts
from turnstream.core.stream_events import MessageStop, Metadata, StreamEvent, TextDelta
from turnstream.errors import ProviderError
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest
from turnstream.wires.shared.event_stream import encode_event

DEADLINE = 20.0
QUICK = Timeouts(connect=10, first_token=15, idle=15, total=20, grace=0.1)
NEVER = Timeouts(connect=10, first_token=10, idle=0.4, total=10, grace=0.1)
REQUEST = ModelRequest("x", (), params={"max_tokens": 8})


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def named(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events)


def chat(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "x", "choices": [choice], **more}


def gemini(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})], **more}


START = {
    "type": "message_start",
    "message": {"id": "m", "type": "message", "role": "assistant", "content": []},
}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
STOP_BLOCK = {"type": "content_block_stop", "index": 0}
END_TURN = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}


def anthropic_delta(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


ANTHROPIC = (START, BLOCK, anthropic_delta("Hello"), STOP_BLOCK, END_TURN)


def converse(*events: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(encode_event(name, json.dumps(event).encode()) for name, event in events)


def invoked(*events: dict[str, Any]) -> bytes:
    """Claude's own events, as Bedrock's InvokeModelWithResponseStream sends them."""
    pieces = (base64.b64encode(json.dumps(event).encode()).decode() for event in events)
    return converse(*(("chunk", {"bytes": piece}) for piece in pieces))


CONVERSE = converse(
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello"}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "end_turn"}),
)
FINISHED = {
    "chat": ("openai-chat", sse(chat({"content": "Hello"}), chat({}, "stop"))),
    "chat, all in one": ("openai-chat", sse(chat({"content": "Hello"}, "length"))),
    "chat, usage in the last": ("openai-chat", sse(chat({"content": "Hello"}), chat({}, "stop", usage={"total_tokens": 3}))),
    "anthropic": ("anthropic", named(*ANTHROPIC)),
    "gemini": ("gemini", sse(gemini("Hel"), gemini("lo", "STOP"))),
    "gemini, empty last": ("gemini", sse(gemini("Hello"), gemini("", "MAX_TOKENS"))),
    "gemini, all in one": ("gemini", sse(gemini("Hello", "STOP", usageMetadata={"candidatesTokenCount": 1}))),
    "bedrock converse": ("bedrock", CONVERSE),
    "bedrock invoke": ("bedrock", invoked(*ANTHROPIC)),
}  # fmt: skip


@pytest.fixture
async def provide(raw_server) -> AsyncIterator[Callable[..., HttpProvider]]:
    made: list[HttpProvider] = []

    def make(wire: str, timeouts: Timeouts = QUICK) -> HttpProvider:
        made.append(HttpProvider("test", WIRES[wire], Endpoint(raw_server.url, "sk-key"), timeouts))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()


def head(wire: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {WIRES[wire].content_type}\r\n\r\n".encode()


async def collect(provider: HttpProvider) -> list[StreamEvent]:
    async with asyncio.timeout(DEADLINE), provider.stream(REQUEST) as batches:
        return [one async for batch in batches for one in batch]


def text_of(events: list[StreamEvent]) -> str:
    return "".join(one.text for one in events if isinstance(one, TextDelta))


@pytest.mark.fault(36)
@pytest.mark.parametrize("name", FINISHED)
async def test_a_finish_without_its_end_marker_is_complete_after_a_grace(raw_server, provide, name) -> None:
    """The clocks for silence are far longer than the test's deadline."""
    wire, body = FINISHED[name]

    async def answer(exchange):
        await exchange.send(head(wire), body)
        await exchange.closed_by_client()

    raw_server.answer = answer
    events = await collect(provide(wire))
    assert text_of(events) == "Hello"
    assert isinstance(events[-1], MessageStop)
    assert events[-1].stop_reason in {"end_turn", "max_tokens"}
    async with asyncio.timeout(DEADLINE):
        await raw_server.client_left.wait()


@pytest.mark.fault(36)
@pytest.mark.requirement("E8")
async def test_usage_that_comes_within_the_grace_is_collected(raw_server, provide) -> None:
    async def answer(exchange):
        await exchange.send(head("openai-chat"), sse(chat({"content": "Hello"}), chat({}, "stop")))
        await asyncio.sleep(0.3)
        await exchange.send(
            sse({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
        )
        await exchange.closed_by_client()

    raw_server.answer = answer
    events = await collect(provide("openai-chat", QUICK.model_copy(update={"grace": 2.0})))
    assert [one.usage.output_tokens for one in events if isinstance(one, Metadata) and one.usage] == [2]
    assert isinstance(events[-1], MessageStop)


@pytest.mark.fault(36)
async def test_text_that_comes_after_a_finish_is_still_of_the_answer(raw_server, provide) -> None:
    """Some models give a finish reason with every event, so a pause between two is not the end."""

    async def answer(exchange):
        await exchange.send(head("gemini"), sse(gemini("Hel", "STOP")))
        await asyncio.sleep(1.5)
        await exchange.send(sse(gemini("lo", "STOP")))
        await exchange.closed_by_client()

    raw_server.answer = answer
    events = await collect(provide("gemini", QUICK.model_copy(update={"grace": 0.6})))
    assert text_of(events) == "Hello"


WHOLE = {
    "chat": ("openai-chat", {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}),
    "anthropic": ("anthropic", {"id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn"}),
}  # fmt: skip


@pytest.mark.fault(36)
@pytest.mark.parametrize("name", WHOLE)
async def test_a_plain_answer_is_complete_though_its_body_does_not_end(raw_server, provide, name) -> None:
    wire, body = WHOLE[name]

    async def answer(exchange):
        begin = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        await exchange.send(begin, json.dumps(body, indent=1).encode() + b"\n")
        await exchange.closed_by_client()

    raw_server.answer = answer
    events = await collect(provide(wire))
    assert text_of(events) == "Hello"
    assert isinstance(events[-1], MessageStop)


UNFINISHED = {
    "chat": ("openai-chat", sse(chat({"content": "Hello"}))),
    "anthropic, an open block": ("anthropic", named(START, BLOCK, anthropic_delta("Hello"), END_TURN)),
    "anthropic, no reason": ("anthropic", named(*ANTHROPIC[:-1], {**END_TURN, "delta": {"stop_reason": None}})),
    "gemini": ("gemini", sse(gemini("Hello"))),
    "bedrock": ("bedrock", CONVERSE[: CONVERSE.rindex(b"messageStop") - 60]),
    "ollama": ("ollama", b'{"model":"x","message":{"role":"assistant","content":"Hello"},"done":false}\n'),
}  # fmt: skip


@pytest.mark.fault(36)
@pytest.mark.requirement("D6")
@pytest.mark.parametrize("name", UNFINISHED)
async def test_without_a_finish_silence_is_no_end(raw_server, provide, name) -> None:
    wire, body = UNFINISHED[name]

    async def answer(exchange):
        await exchange.send(head(wire), body)
        await exchange.closed_by_client()

    raw_server.answer = answer
    with pytest.raises(ProviderError) as raised:
        await collect(provide(wire, NEVER))
    assert raised.value.code == "idle_timeout"
    assert raised.value.silence >= 0.4


NO_OUTPUT = {
    "chat usage": ("openai-chat", sse(chat({"content": "Hello"})), lambda n: sse({"id": "c", "choices": [], "usage": {"completion_tokens": n}})),
    "chat empty content": ("openai-chat", sse(chat({"content": "Hello"})), lambda _: sse(chat({"content": ""}))),
    "chat metadata": ("openai-chat", sse(chat({"content": "Hello"})), lambda n: sse(chat({}, None, service_tier=f"{n}"))),
    "anthropic empty delta": ("anthropic", named(START, BLOCK, anthropic_delta("Hello")), lambda _: named(anthropic_delta(""))),
    "anthropic usage": ("anthropic", named(START, BLOCK, anthropic_delta("Hello")), lambda n: named({"type": "message_delta", "delta": {}, "usage": {"output_tokens": n}})),
    "gemini empty part": ("gemini", sse(gemini("Hello")), lambda n: sse(gemini("", usageMetadata={"candidatesTokenCount": n}))),
    "ollama empty": ("ollama", b'{"model":"x","message":{"content":"Hello"},"done":false}\n', lambda _: b'{"message":{"content":""},"done":false}\n'),
}  # fmt: skip


@pytest.mark.fault(36)
@pytest.mark.requirement("J5")
@pytest.mark.parametrize("name", NO_OUTPUT)
@pytest.mark.parametrize("pushed", [False, True])
async def test_what_says_nothing_does_not_feed_the_idle_clock(raw_server, provide, name, pushed) -> None:
    wire, begin, more = NO_OUTPUT[name]

    async def answer(exchange):
        await exchange.send(head(wire), begin)
        left = asyncio.create_task(exchange.closed_by_client())
        number = 1
        while not left.done():
            number += 1
            await exchange.send(more(number))
            await asyncio.wait({left}, timeout=0.02)
        await left

    raw_server.answer = answer
    events: list[StreamEvent] = []
    with pytest.raises(ProviderError) as raised:
        await _read(provide(wire, NEVER), events, pushed=pushed)
    assert raised.value.code == "idle_timeout"
    assert text_of(events) == "Hello"


async def _read(provider: HttpProvider, events: list[StreamEvent], *, pushed: bool) -> None:
    async with asyncio.timeout(DEADLINE), provider.stream(REQUEST) as batches:
        if pushed:
            batches.push_to(lambda some: events.extend(some) is None)
        async for batch in batches:
            events.extend(batch)


@pytest.mark.fault(36)
async def test_a_reader_that_takes_its_time_over_usage_is_no_silent_provider(raw_server, provide) -> None:
    taken = asyncio.Event()

    async def answer(exchange):
        await exchange.send(head("openai-chat"), sse(chat({"content": "Hel"})))
        await exchange.send(sse({"id": "c", "choices": [], "usage": {"completion_tokens": 1}}))
        await taken.wait()
        await exchange.send(sse(chat({"content": "lo"}, "stop")), b"data: [DONE]\n\n")
        exchange.writer.close()

    raw_server.answer = answer
    events: list[StreamEvent] = []
    async with asyncio.timeout(DEADLINE), provide("openai-chat", NEVER).stream(REQUEST) as batches:
        async for batch in batches:
            events.extend(batch)
            if any(isinstance(one, Metadata) and one.usage for one in batch) and not taken.is_set():
                await asyncio.sleep(0.8)
                taken.set()
    assert text_of(events) == "Hello"
