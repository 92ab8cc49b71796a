"""Requests without a stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.simulator.asking import PATHS, post
from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block
from turnstream.simulator.actions import Hang, Refuse, ResetConnection, Send, Stall
from turnstream.simulator.playback import PlayContext, play
from turnstream.simulator.texts import THOUGHT, UNUSUAL
from turnstream.simulator.whole_answer import play_whole
from turnstream.wires import WIRES
from turnstream.wires.recording import fold_pieces

EVERY_WIRE = pytest.mark.parametrize("wire", WIRES.values(), ids=lambda wire: wire.name)
CALLS = [{"city": "example 1", "unit": "F"}, {"city": "example 2", "unit": "C"}]


async def message(server, wire, request):
    got = await post(server.url, wire, request, stream=False)
    assert got.status == 200
    assert got.headers["Content-Type"] == "application/json"
    return json.loads(got.body)


async def test_anthropic(simulator_server, ask):
    wire = WIRES["anthropic"]
    told = await message(simulator_server, wire, ask("thinking:pace=0"))
    assert (told["type"], told["role"], told["stop_reason"]) == ("message", "assistant", "end_turn")
    thinking, text = told["content"]
    assert (thinking["thinking"], text["text"]) == (THOUGHT, UNUSUAL)
    assert thinking["signature"]
    assert told["usage"]["output_tokens"] > 100
    told = await message(simulator_server, wire, ask("tools:pace=0", tools=True))
    assert [block["input"] for block in told["content"] if block["type"] == "tool_use"] == CALLS
    assert told["stop_reason"] == "tool_use"


async def test_openai_chat(simulator_server, ask):
    wire = WIRES["openai-chat"]
    told = await message(simulator_server, wire, ask("thinking:pace=0"))
    (choice,) = told["choices"]
    assert (told["object"], choice["finish_reason"]) == ("chat.completion", "stop")
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == (THOUGHT, UNUSUAL)
    assert told["usage"]["total_tokens"] > 100
    told = await message(simulator_server, wire, ask("tools:pace=0", tools=True))
    calls = told["choices"][0]["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == CALLS
    assert told["choices"][0]["finish_reason"] == "tool_calls"


async def test_ollama(simulator_server, ask):
    wire = WIRES["ollama"]
    told = await message(simulator_server, wire, ask("thinking:pace=0"))
    assert (told["done"], told["done_reason"]) == (True, "stop")
    assert (told["message"]["thinking"], told["message"]["content"]) == (THOUGHT, UNUSUAL)
    assert told["eval_count"] > 100
    told = await message(simulator_server, wire, ask("tools:pace=0", tools=True))
    assert [call["function"]["arguments"] for call in told["message"]["tool_calls"]] == CALLS


@EVERY_WIRE
@pytest.mark.requirement("J3")
@pytest.mark.parametrize("script", ["demo", "echo", "thinking", "tools", "story"])
def test_it_decodes_to_what_the_stream_says(ask, wire, script):
    asked = ask(f"{script}:pace=0", tools=script == "tools")
    streamed, _ = fold_pieces(wire, [send.data for send in play(asked, wire)])
    whole = b"".join(send.data for send in play_whole(asked, wire))
    told, expected = fold_answer(wire.decode_answer(whole)), streamed.finish()
    assert (told.stop, told.usage) == (expected.stop, expected.usage)
    assert [shown(block) for block in told.blocks] == [shown(block) for block in expected.blocks]


def shown(block: Block) -> Any:
    """A block without the white space of its arguments."""
    content = {key: value for key, value in (block.content or {}).items() if key != "input_json"}
    return block.block_type, block.text_content, content


async def test_bedrock(simulator_server, ask):
    wire = WIRES["bedrock"]
    told = await message(simulator_server, wire, ask("thinking:pace=0"))
    thinking, text = told["output"]["message"]["content"]
    assert thinking["reasoningContent"]["reasoningText"]["text"] == THOUGHT
    assert (text["text"], told["stopReason"]) == (UNUSUAL, "end_turn")
    assert told["usage"]["totalTokens"] > 100
    told = await message(simulator_server, wire, ask("tools:pace=0", tools=True))
    content = told["output"]["message"]["content"]
    assert [block["toolUse"]["input"] for block in content if "toolUse" in block] == CALLS
    assert told["stopReason"] == "tool_use"


async def test_what_streams_unless_told_otherwise(simulator_server):
    asked = {"model": "echo:pace=0", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    asked["input"] = asked["messages"]
    kinds = {}
    async with aiohttp.ClientSession() as session, asyncio.timeout(10):
        for name, path in PATHS.items():
            async with session.post(simulator_server.url + path, json=asked) as answer:
                kinds[name] = answer.content_type
                await answer.read()
    assert kinds == {
        "anthropic": "application/json",
        "openai-chat": "application/json",
        "openai-responses": "application/json",
        "ollama": "application/x-ndjson",
    }


@EVERY_WIRE
@pytest.mark.parametrize("fault", ["cut", "reset,after=5", "malformed", "no-end"])
async def test_a_broken_answer_is_no_json(simulator_server, ask, wire, fault):
    got = await post(simulator_server.url, wire, ask("echo:pace=0"), f"fault={fault}", stream=False)
    assert got.broken is fault.startswith(("cut", "reset"))
    with pytest.raises(ValueError, match=r"."):
        json.loads(got.body)


@EVERY_WIRE
def test_faults_in_place_of_an_answer(ask, wire):
    def first(fault: str):
        return next(play_whole(ask("echo:pace=0"), wire, PlayContext(f"fault={fault}")))

    assert first("error,code=rate_limit_error").status == 429
    assert first("error").status == 529
    assert first("error-before,status=401").status == 401
    assert isinstance(first("hang"), Hang)
    assert isinstance(first("reset"), ResetConnection)
    slow = first("slow-first,seconds=3")
    assert isinstance(slow, Send)
    assert slow.delay == 3
    assert isinstance(next(play_whole(ask("nobody"), wire)), Refuse)
    *_, last = play_whole(ask("echo:pace=0"), wire, PlayContext("fault=silence"))
    assert isinstance(last, Stall)


@EVERY_WIRE
def test_the_time_of_the_stream_and_the_cut_of_the_body(ask, wire):
    sends = list(play_whole(ask("story:events=50,pace=0.1"), wire, PlayContext("chunk=100")))
    assert 5 <= sum(send.delay for send in sends) <= 7
    assert {len(send.data) for send in sends[:-1]} == {100}


@EVERY_WIRE
def test_a_huge_answer_is_still_json(ask, wire):
    (send,) = play_whole(ask("echo:pace=0"), wire, PlayContext("fault=huge-event,size=1000000"))
    assert len(send.data) > 1_000_000
    assert json.loads(send.data)
