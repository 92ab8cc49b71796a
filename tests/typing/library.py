"""The library as its users write it: checked by pyright (strict) and mypy (--strict), and not run."""

# pyright: strict, reportUnusedExpression=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict, assert_type

import msgspec
from pydantic import BaseModel

import turnstream as ts


class City(msgspec.Struct):
    name: str


class Town(BaseModel):
    name: str


@dataclass
class Place:
    name: str


class Spot(TypedDict):
    name: str


@ts.tool(timeout=5)
async def weather(city: str, context: ts.ToolContext, days: int = 1) -> str:
    """Tell the weather."""
    context.progress("looking")
    return f"{city}: {days}"


def plain(city: str) -> dict[str, int]:
    """Tell something."""
    return {city: 1}


async def streams(llm: ts.LLM) -> None:
    async with llm.stream("Why?", tools=[weather, plain, {"name": "mine"}], system="Be brief.") as stream:
        assert_type(stream, ts.MessageStream[None])
        async for text in stream.text:
            assert_type(text, str)
        async for event in stream:
            match event:
                case ts.BlockDelta(field="text", value=value):
                    print(value)
                case ts.BlockStart(block_index=index):
                    assert_type(index, int)
                case _:
                    pass
        async for blocks in stream.blocks:
            assert_type(blocks, tuple[ts.Block, ...])
        async for rendered in stream.render(shown, without_thinking):
            assert_type(rendered, str)
        async for update in stream.updates(0.5, max_events=3):
            assert_type(update, Sequence[ts.TurnEvent])
        message = await stream.final_message()
        assert_type(message, ts.ModelMessage[None])
        assert_type(await stream.final_text(), str)
        assert_type(await stream.final_output(), None)
        assert_type(stream.metrics.first_output, float | None)
    assert_type(message.text, str)
    assert_type(message.usage, ts.Usage)
    assert_type(message.cost, Decimal | None)
    assert_type(message.tool_calls, tuple[ts.ToolCall, ...])
    for call in message.tool_calls:
        assert_type(call.arguments, dict[str, Any] | None)
    again = await llm.collect(
        "And?", messages=[message, ts.Message("user", ()), {"role": "user", "content": "x"}]
    )
    assert_type(again, ts.ModelMessage[None])


async def outputs(llm: ts.LLM) -> None:
    async with llm.stream("Which?", output=City) as stream:
        async for partial in stream.partials:
            print(partial)
        assert_type(await stream.final_output(), City)
        assert_type((await stream.final_message()).output, City)
    assert_type((await llm.collect("Which?", output=Town)).output, Town)
    assert_type((await llm.collect("Which?", output=Place)).output, Place)
    assert_type((await llm.collect("Which?", output=Spot)).output, Spot)
    assert_type((await llm.collect("Which?", output=list[City])).output, list[City])
    assert_type(llm.collect_sync("Which?", output=City).output, City)


def without_asyncio(llm: ts.LLM) -> None:
    with llm.stream_sync("Why?", params={"max_tokens": 100}) as stream:
        assert_type(stream, ts.SyncMessageStream[None])
        for text in stream.text:
            assert_type(text, str)
        for event in stream:
            assert_type(event, ts.TurnEvent)
        for blocks in stream.blocks:
            assert_type(blocks, tuple[ts.Block, ...])
        assert_type(stream.final_message(), ts.ModelMessage[None])
    with llm.stream_sync("Which?", output=City) as typed:
        assert_type(typed.final_output(), City)


def shown(event: ts.TurnEvent) -> str | None:
    return str(event.value) if isinstance(event, ts.BlockDelta) else None


def without_thinking(event: ts.TurnEvent) -> ts.TurnEvent | None:
    return None if isinstance(event, ts.BlockDelta) and event.block_type == "thinking" else event


async def errors(llm: ts.LLM) -> str:
    try:
        return (await llm.collect("Why?")).text
    except ts.RateLimited as error:
        assert_type(error.retry_after, float | None)
        raise
    except ts.TurnstreamError as error:
        assert_type(error.retryable, bool)
        return error.partial.text if error.partial is not None else ""


def on_complete(message: ts.ModelMessage[Any], usage: ts.Usage, metrics: ts.StreamMetrics) -> None:
    print(message.text, usage, metrics)


async def on_event(event: ts.TurnEvent) -> None:
    print(event)


def made() -> ts.LLM:
    ts.Callbacks(on_start=print, on_event=on_event, on_complete=on_complete, batching=ts.Batching())
    assembler = ts.MessageAssembler(wire="anthropic")
    assert_type(assembler.feed_bytes(b""), list[ts.TurnEvent])
    assert_type(assembler.last_tool_call, ts.ToolCall | None)
    return ts.LLM(
        "mine/model",
        fallbacks=["sim/demo"],
        retry=ts.RetrySettings(attempts=2),
        providers={
            "mine": {"wire": "ollama", "base_url": "http://127.0.0.1:1"},
            "other": ts.ProviderSettings(wire="anthropic", base_url="http://127.0.0.1:1"),
        },
        settings=ts.Settings(),
        tool_limits=ts.ToolLimits(timeout=5),
    )


async def conversations(llm: ts.LLM, saved: str) -> None:
    chat = llm.conversation(saved=saved, system="Be brief.", tools=[weather])
    assert_type(chat, ts.Conversation)
    async with chat.stream("Why?", output=Place) as stream:
        assert_type(stream, ts.MessageStream[Place])
    assert_type((await chat.collect("Why?")).output, None)
    assert_type(chat.collect_sync("Why?", output=Town).output, Town)
    with chat.stream_sync("Why?") as lines:
        assert_type(lines, ts.SyncMessageStream[None])
    assert_type(chat.messages, list[ts.Message])
    assert_type(chat.to_json(), str)
