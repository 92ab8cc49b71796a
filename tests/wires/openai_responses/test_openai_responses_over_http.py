"""Background responses over a real socket, cut in the middle and continued."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import msgspec
import pytest

from turnstream.core.answers import Answer, AnswerFold, fold_answer
from turnstream.core.blocks import Block, Message
from turnstream.core.history import PastTurn, build_history
from turnstream.core.stream_events import StreamError, StreamEvent
from turnstream.errors import StreamIncomplete
from turnstream.providers.endpoints import Endpoint, call_url, split_base_url
from turnstream.providers.http import HttpProvider
from turnstream.simulator.server import SimulatorServer
from turnstream.wires.base import HttpRequest, ModelRequest, ToolDefinition
from turnstream.wires.openai_responses.wire import BACKGROUND_WIRE, WIRE

DEADLINE = 10.0


def request(model: str, **params: object) -> ModelRequest:
    weather = ToolDefinition("weather", "", {"type": "object", "properties": {"city": {"type": "string"}}})
    question = (Message("user", (Block(0, "text", "What is the weather?"),)),)
    return ModelRequest(model, question, tools=(weather,), params={"background": True, **params})


async def read(provider: HttpProvider, decoder, asked: HttpRequest) -> tuple[list[StreamEvent], bool]:
    """Return the events of one connection, and whether it broke off."""
    events: list[StreamEvent] = []
    response = await provider.send(asked)
    assert response.status == 200
    try:
        while piece := await response.read():
            events += decoder.feed(piece)
        return events + decoder.close(), False
    except (OSError, StreamIncomplete):
        return events, True
    finally:
        provider.release(response)


@pytest.mark.requirement("E1")
@pytest.mark.parametrize("after", [0, 1, 4, 9, 60])
@pytest.mark.parametrize("chunk", [0, 7])
@pytest.mark.parametrize("model", ["thinking", "agent"])
async def test_a_cut_response_is_gone_on_with(after: int, chunk: int, model: str) -> None:
    cut = request(f"{model}:pace=0,chunk={chunk},fault=cut,after={after}")
    async with SimulatorServer() as server, asyncio.timeout(DEADLINE):
        provider = HttpProvider("openai", WIRE, Endpoint(server.url + "/v1?api-version=1"))
        try:
            decoder = WIRE.decoder()
            events, broken = await read(provider, decoder, WIRE.encode_request(cut))
            assert broken
            if after == 0:
                assert decoder.position is None, "its id is not known"
                return
            assert decoder.position is not None
            resumed = WIRE.encode_resume(decoder.position)
            decoder.reattach()
            rest, broken = await read(provider, decoder, resumed)
            assert not broken
            fresh = WIRE.decoder()
            whole = request(f"{model}:pace=0", background=None)
            expected, _ = await read(provider, fresh, WIRE.encode_request(whole))
        finally:
            await provider.close()
    answer, other = fold_answer(events + rest), fold_answer(expected)
    assert answer.complete
    assert [(b.block_type, b.text_content) for b in answer.blocks] == [
        (b.block_type, b.text_content) for b in other.blocks
    ]
    assert (answer.stop, answer.usage.output_tokens) == (other.stop, other.usage.output_tokens)


@pytest.mark.requirement("E1")
async def test_a_position_outlives_its_decoder() -> None:
    """Another process begins at the start, which the provider still has."""
    async with SimulatorServer() as server, asyncio.timeout(DEADLINE), aiohttp.ClientSession() as session:
        base = split_base_url("openai", server.url)
        post = WIRE.encode_request(request("demo:pace=0,fault=silence"))
        decoder = WIRE.decoder()
        async with session.post(call_url(base, "/v1" + post.path), data=post.body) as response:
            decoder.feed(await response.content.readany())
        assert decoder.position is not None
        fold, fresh = AnswerFold(), WIRE.decoder()
        path = f"/v1/responses/{decoder.position.response_id}?stream=true"
        async with session.get(server.url + path) as response:
            fold.add(fresh.feed(await response.read()) + fresh.close())
    assert fold.finish().complete


@pytest.mark.requirement("E1")
async def test_a_response_is_cancelled() -> None:
    kept = BACKGROUND_WIRE
    async with SimulatorServer() as server, asyncio.timeout(DEADLINE), aiohttp.ClientSession() as session:
        url = server.url + "/v1/responses"
        post = kept.encode_request(request("story:events=10000,pace=0.01"))
        decoder, events = kept.decoder(), list[StreamEvent]()
        async with session.post(url, data=post.body) as response:
            while decoder.position is None:
                events += decoder.feed(await response.content.readany())
            one = f"{url}/{decoder.position.response_id}"
            for _ in range(2):
                async with session.post(one + "/cancel") as cancelled:
                    assert (await cancelled.json())["status"] == "cancelled"
            events += decoder.feed(await response.content.read()) + decoder.close()
        assert events[-1] == StreamError("model_stream", "response_cancelled", "the response was cancelled")
        async with session.get(one) as told:
            assert (await told.json())["status"] == "cancelled"
        async with session.get(url + "/resp_unknown?stream=true&starting_after=3") as unknown:
            assert unknown.status == 404


async def test_without_a_stream_it_is_queued_and_can_be_asked_for() -> None:
    body = json.loads(WIRE.encode_request(request("echo:pace=0")).body) | {"stream": False}
    async with SimulatorServer() as server, asyncio.timeout(DEADLINE), aiohttp.ClientSession() as session:
        async with session.post(server.url + "/responses", json=body) as response:
            queued = await response.json()
        assert (queued["status"], queued["output"]) == ("queued", [])
        async with session.get(f"{server.url}/responses/{queued['id']}") as response:
            answer = fold_answer(WIRE.decode_answer(await response.read()))
    assert answer.blocks[0].text_content == "What is the weather?"
    assert answer.complete


@pytest.mark.requirement("E1", "G6")
async def test_a_tool_is_called_and_its_result_told() -> None:
    async with SimulatorServer() as server, asyncio.timeout(DEADLINE):
        provider = HttpProvider("openai", WIRE, Endpoint(server.url + "/v1"))
        try:
            asked = request("agent:pace=0", background=None)
            first = await answer_of(provider, asked)
            calls = [block.content or {} for block in first.blocks if block.block_type == "tool_use"]
            results = [
                Block(n, "tool_result", None, {"tool_use_id": call["tool_use_id"], "content": f"{n + 20} °C"})
                for n, call in enumerate(calls)
            ]
            past = (*first.blocks, *results)
            turns = [
                PastTurn("user", "complete", asked.messages[0].blocks),
                PastTurn("assistant", "complete", past),
            ]
            history = build_history(turns, for_next_call=False)
            second = await answer_of(provider, msgspec.structs.replace(asked, messages=history))
        finally:
            await provider.close()
    assert first.stop is not None
    assert first.stop.stop_reason == "tool_use"
    assert second.blocks[-1].text_content == "The tools say: 20 °C; 21 °C"
    assert second.stop is not None
    assert second.stop.stop_reason == "end_turn"


async def answer_of(provider: HttpProvider, asked: ModelRequest) -> Answer:
    fold = AnswerFold()
    async with provider.stream(asked) as batches:
        async for batch in batches:
            fold.add(batch)
    return fold.finish()
