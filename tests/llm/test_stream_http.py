"""A stream of the library over HTTP: every wire, cuts, cancellation, closed connections."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys

import msgspec
import pytest

import turnstream as ts
from tests.llm.conftest import WIRES, llm_at
from tests.providers.conftest import Exchange, RawServer
from turnstream.simulator.server import SimulatorServer

pytestmark = pytest.mark.requirement("F1")
DEADLINE = 10.0


@pytest.mark.parametrize("wire", WIRES)
async def test_every_wire_gives_the_same_message(simulator: SimulatorServer, wire: str) -> None:
    def look(what: str) -> str:
        """Look something up."""
        return f"seen {what}"

    model = llm_at(simulator.url, wire, "tools:pace=0")
    async with model.stream("go", tools=[look], system="Be brief.") as stream:
        pieces = [text async for text in stream.text]
        message = await stream.final_message()
    assert "".join(pieces) == message.text
    assert message.text.startswith("Let me look that up.The tools say: seen example 1; seen example 2")
    assert (message.complete, message.stop_reason, message.provider) == (True, "end_turn", "over")
    assert [step.stop_reason for step in message.steps] == ["tool_use", "end_turn"]
    assert [block.block_type for block in message.blocks] == [
        "text",
        "tool_use",
        "tool_use",
        "tool_result",
        "tool_result",
        "text",
    ]
    used = [step.usage.output_tokens or 0 for step in message.steps]
    assert message.usage.output_tokens == sum(used)
    assert message.tool_calls == ()


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.requirement("J4")
async def test_a_cut_in_mid_stream_is_an_error_with_the_partial_message(
    simulator: SimulatorServer, wire: str
) -> None:
    model = llm_at(simulator.url, wire, "story:events=50,pace=0,fault=cut,after=30")
    with pytest.raises(ts.StreamIncomplete) as raised:
        await model.collect("go")
    assert raised.value.partial is not None
    assert len(raised.value.partial.text) > 50
    assert raised.value.retryable


async def _hold(exchange: Exchange) -> None:
    """Begin an answer, then stay silent until the client has left."""
    body = (
        b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"lo"}}]}\n\n'
    )
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", body)
    await exchange.closed_by_client()


async def test_leaving_the_block_closes_the_upstream_within_a_second(raw_server: RawServer) -> None:
    raw_server.answer = _hold
    model = llm_at(raw_server.url, "openai-chat", "any")
    async with model.stream("go") as stream:
        assert await anext(stream.text) in ("Hel", "Hello")
    async with asyncio.timeout(1.0):
        await raw_server.client_left.wait()
    assert isinstance(stream.error, ts.StreamClosed)


async def test_a_cancelled_task_closes_the_upstream_within_a_second(raw_server: RawServer) -> None:
    raw_server.answer = _hold
    begun = asyncio.Event()

    async def ask() -> None:
        async with llm_at(raw_server.url, "openai-chat", "any").stream("go") as stream:
            async for _ in stream.text:
                begun.set()

    task = asyncio.create_task(ask())
    async with asyncio.timeout(DEADLINE):
        await begun.wait()
    task.cancel()
    async with asyncio.timeout(1.0):
        await raw_server.client_left.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_silence_in_the_middle_of_an_answer_ends_it(raw_server: RawServer) -> None:
    raw_server.answer = _hold
    model = llm_at(raw_server.url, "openai-chat", "any", stream={"timeout": 0.2})
    with pytest.raises(ts.ProviderTimeout) as raised:
        async with asyncio.timeout(DEADLINE):
            await model.collect("go")
    assert raised.value.code == "idle_timeout"
    assert raised.value.partial is not None
    assert raised.value.partial.text == "Hello"


async def test_one_connection_serves_one_call_after_another_and_close_ends_it(raw_server: RawServer) -> None:
    async def answer(exchange: Exchange) -> None:
        body = (
            b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
            b"data: [DONE]\n\n"
        )
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
        await exchange.send(head % len(body), body)

    raw_server.answer = answer
    async with llm_at(raw_server.url, "openai-chat", "any") as model:
        for _ in range(3):
            assert (await model.collect("go")).text == "Hi"
        assert raw_server.connections == 1
    async with asyncio.timeout(DEADLINE):
        await raw_server.client_left.wait()
    assert (await model.collect("go")).text == "Hi", "a closed LLM opens again when it is asked"
    raw_server.client_left.clear()
    del model
    gc.collect()
    async with asyncio.timeout(DEADLINE):
        await raw_server.client_left.wait()


_SCRIPT = """
import asyncio, sys
import turnstream as ts

provider = {"wire": "openai-chat", "base_url": sys.argv[1] + "/v1"}
llm = ts.LLM("over/demo:pace=0", providers={"over": provider})

async def main():
    async with llm.stream("hello") as stream:
        return await stream.final_text()

first, second = asyncio.run(main()), asyncio.run(main())
with llm.stream_sync("hello") as stream:
    third = "".join(stream.text)
assert first == second == third and first
"""


async def test_a_program_that_closes_nothing_leaves_nothing_open(simulator: SimulatorServer) -> None:
    """Two event loops and a thread share one LLM, with every warning an error."""
    run = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "dev",
        "-W",
        "error",
        "-c",
        _SCRIPT,
        simulator.url,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, complaints = await run.communicate()
    told = [line for line in complaints.decode().splitlines() if "took" not in line]
    assert (run.returncode, output, told) == (0, b"", [])


def nothing() -> None:
    """Do nothing."""


async def test_thinking_and_params_reach_the_provider(simulator: SimulatorServer) -> None:
    model = llm_at(simulator.url, "openai-chat", "thinking:pace=0")
    message = await model.collect("go", params={"max_tokens": 99, "seed": 7})
    assert message.thinking
    asked = msgspec.json.decode(simulator.log.newest(1)[0].body)
    assert asked["seed"] == 7
    assert asked["max_tokens"] == 99
    assert "tool_choice" not in asked
    await model.collect("go", tools=[nothing])
    assert msgspec.json.decode(simulator.log.newest(1)[0].body)["tools"][0]["function"]["name"] == "nothing"
