"""Params and model names of a client change neither the fixed fields nor the destination of the request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Client, Watcher, serving
from turnstream.config import ProviderSettings
from turnstream.engine import Engine
from turnstream.simulator.server import SimulatorServer

pytestmark = pytest.mark.fault(32)

HELLO = [{"block_type": "text", "text_content": "hello"}]
WIRES = {"anthropic": "", "openai-chat": "/v1", "openai-responses": "/v1", "gemini": "", "ollama": ""}


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer() as server:
        yield server


@pytest.fixture
async def client(simulator: SimulatorServer, tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a server whose providers are all the simulator."""
    providers = {
        f"at-{wire}": ProviderSettings(wire=wire, base_url=simulator.url + root)
        for wire, root in WIRES.items()
    }
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", providers=providers)
    async with serving(engine.application()) as port:
        yield Client(port)


async def post(client: Client, model: str, query: str = "", **fields: Any) -> Any:
    chat = (await client.call("POST", "/chats")).json["id"]
    body = {"turn_blocks": HELLO, "model": model, **fields}
    answer = await client.call("POST", f"/chats/{chat}/turns{query}", body)
    if answer.status == 400:
        assert answer.json["error"]["code"] == "invalid_request"
        assert (await client.call("GET", f"/chats/{chat}/turns")).json["turns"] == []
    return answer


REPLACING = [
    {"model": "other"},
    {"models": ["other"]},
    {"modelId": "other"},
    {"MODEL": "other"},
    {"messages": [{"role": "user", "content": "other"}]},
    {"input": "other"},
    {"contents": []},
    {"system": "other"},
    {"systemInstruction": {"parts": []}},
    {"system_instruction": {"parts": []}},
    {"instructions": "other"},
    {"prompt": {"id": "pmpt_1"}},
    {"stream": False},
    {"Stream": True},
    {"previous_response_id": "resp_of_another"},
    {"conversation": "conv_of_another"},
    {"cachedContent": "cachedContents/of-another"},
]


@pytest.mark.parametrize("fields", REPLACING, ids=lambda fields: next(iter(fields)))
async def test_params_cannot_replace_what_the_turn_says(
    client: Client, simulator: SimulatorServer, fields: dict[str, Any]
) -> None:
    for params in (fields, {"extra_body": fields}, {"additionalModelRequestFields": fields}):
        for query in ("", "?stream=true"):
            assert (await post(client, "at-openai-chat/echo:pace=0", query, params=params)).status == 400
    assert not simulator.log.newest()


@pytest.mark.parametrize("fields", [{"tools": []}, {"toolConfig": {}}, {"functions": []}])
async def test_extra_body_cannot_replace_the_tools(client: Client, fields: dict[str, Any]) -> None:
    assert (await post(client, "at-gemini/echo:pace=0", params={"extra_body": fields})).status == 400


@pytest.mark.parametrize("wire", WIRES)
async def test_other_params_reach_the_provider(client: Client, simulator: SimulatorServer, wire: str) -> None:
    params = {"temperature": 0.5, "extra_body": {"user": "u1", "metadata": {"model": "a name of yours"}}}
    answer = await post(client, f"at-{wire}/echo:pace=0", params=params)
    assert answer.status == 201
    await Watcher(client, answer.json["assistant_turn"]["id"]).watch_to_the_end()
    (request,) = simulator.log.newest()
    assert b'"user":"u1"' in bytes(request.body).replace(b" ", b"")


ELSEWHERE = [
    "..",
    "../..",
    "../../v1/models",
    "a/../../b",
    "./a",
    "a//b",
    "/a",
    "a/",
    "%2e%2e/a",
    "a%2f..%2fb",
    "a\\..\\b",
    "a/%252E%252e",
]


@pytest.mark.parametrize("name", ELSEWHERE)
async def test_a_model_s_name_leads_nowhere_else(
    client: Client, simulator: SimulatorServer, name: str
) -> None:
    for model, fallbacks in ((f"at-gemini/{name}", []), ("at-gemini/echo:pace=0", [f"at-gemini/{name}"])):
        for query in ("", "?stream=true"):
            assert (await post(client, model, query, fallbacks=fallbacks)).status == 400
    assert not simulator.log.newest()
