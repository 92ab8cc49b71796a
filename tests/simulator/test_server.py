"""The look-alike's HTTP side."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

from turnstream.config import Timeouts
from turnstream.errors import ConfigurationError
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.simulator.options import SCRIPT_NAMES
from turnstream.simulator.server import SimulatorServer
from turnstream.wires import WIRES

DEADLINE = 5.0


async def test_models(simulator_server):
    async with aiohttp.ClientSession() as session, session.get(f"{simulator_server.url}/v1/models") as answer:
        listed = await answer.json()
    assert [model["id"] for model in listed["data"]] == list(SCRIPT_NAMES)
    assert listed["object"] == "list"
    assert listed["has_more"] is False


async def test_models_of_ollama(simulator_server):
    async with aiohttp.ClientSession() as session, session.get(f"{simulator_server.url}/api/tags") as answer:
        listed = await answer.json()
    assert [model["name"] for model in listed["models"]] == list(SCRIPT_NAMES)


@pytest.mark.parametrize(
    "path", ["/v1/messages", "/messages", "/v1/chat/completions", "/chat/completions", "/api/chat"]
)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model": 5}', b"\xff\xfe"])
async def test_a_body_that_is_no_request(simulator_server, path, body):
    async with (
        aiohttp.ClientSession() as session,
        session.post(simulator_server.url + path, data=body) as answer,
    ):
        assert answer.status == 400
        told = (await answer.json())["error"]
        assert told if path == "/api/chat" else told["message"]


@pytest.mark.requirement("E7")
@pytest.mark.parametrize(
    "model",
    ["demo:pace=30", "demo:fault=hang", "demo:fault=silence,ping=0.05", "story:events=1000000,pace=0"],
)
async def test_the_server_stops_when_its_client_leaves(ask, model):
    lines: list[str] = []
    asked, left = asyncio.Event(), asyncio.Event()

    def report(line: str) -> None:
        lines.append(line)
        asked.set()
        if "went away" in line:
            left.set()

    async with SimulatorServer(report=report) as server, asyncio.timeout(DEADLINE):
        provider = HttpProvider("sim", WIRES["anthropic"], Endpoint(server.url), Timeouts())

        async def take_one() -> None:
            async with provider.stream(ask(model)) as batches:
                await anext(batches)

        call = asyncio.create_task(take_one())
        await asked.wait()
        await asyncio.wait({call}, timeout=0.2)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(1):
            await left.wait()
        await provider.close()
    assert f"model={model}" in lines[0]


async def test_reports_name_the_request_but_no_key(ask):
    lines: list[str] = []
    async with SimulatorServer(report=lines.append) as server:
        provider = HttpProvider(
            "sim", WIRES["openai-chat"], Endpoint(server.url, "sk-very-secret"), Timeouts()
        )
        async with asyncio.timeout(DEADLINE), provider.stream(ask("echo:pace=0")) as batches:
            async for _ in batches:
                pass
        await provider.close()
    assert lines
    assert not any("sk-very-secret" in line for line in lines)


async def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            await SimulatorServer(port=port).__aenter__()


async def test_the_server_answers_until_it_is_left():
    async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as session:
        async with SimulatorServer() as server, session.get(f"{server.url}/models") as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"{server.url}/models")


async def test_many_streams_at_once(simulator_server, ask):
    provider = HttpProvider("sim", WIRES["anthropic"], Endpoint(simulator_server.url), Timeouts())

    async def count() -> int:
        async with provider.stream(ask("story:events=100,pace=0.002")) as batches:
            return sum([len(batch) async for batch in batches])

    async with asyncio.timeout(20):
        counts = await asyncio.gather(*(count() for _ in range(50)))
    await provider.close()
    assert len(set(counts)) == 1
