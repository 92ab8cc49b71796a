"""The official openai client's Responses API against the simulator: it accumulates what we decode
ourselves."""

from __future__ import annotations

import pytest

from tests.clients.running import accumulate
from tests.clients.test_clients import ours
from turnstream.simulator.server import SimulatorServer

CLIENT = "openai_responses"
FAULTS = {
    "error-before,status=401": "AuthenticationError",
    "error-before,status=429,retry-after=1": "RateLimitError",
    "error-before,status=500": "InternalServerError",
    "error": "APIError",
    "error,code=context_length_exceeded": "APIError",
    "cut": "APIConnectionError",
    "reset": "APIConnectionError",
    "reset,after=9": "APIConnectionError",
    "hang": "APITimeoutError",
    "silence": "APITimeoutError",
    "slow-first,seconds=30": "APITimeoutError",
    "malformed": "JSONDecodeError",
    "no-end": "RuntimeError",  # "Didn't receive a `response.completed` event."
    "huge-event,size=1000000": None,
}


@pytest.mark.requirement("E1")
@pytest.mark.parametrize("model", ["demo", "echo", "thinking", "tools", "agent", "story:events=500"])
async def test_the_client_accumulates_what_we_do(simulator: SimulatorServer, model: str):
    name = f"{model}{',' if ':' in model else ':'}pace=0,chunk=11"
    tools = model in {"tools", "agent"}
    theirs = await accumulate(CLIENT, simulator.url, name, tools=tools, environment="openai")
    assert theirs == ours("openai-responses", name, tools=tools)


@pytest.mark.requirement("P5")
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_the_clients_own_error(simulator: SimulatorServer, fault: str):
    model = f"demo:pace=0,fault={fault}"
    told = await accumulate(CLIENT, simulator.url, model, patience=0.5, environment="openai")
    assert told["error"] == FAULTS[fault], told


async def test_an_answer_cut_short_is_incomplete(simulator: SimulatorServer):
    model = "demo:pace=0,fault=max-tokens,after=20"
    told = await accumulate(CLIENT, simulator.url, model, environment="openai")
    assert told["stop_reason"] == "incomplete"


@pytest.mark.requirement("E1")
async def test_the_client_goes_on_with_a_background_answer(simulator: SimulatorServer):
    model = "demo:pace=0,fault=cut,after=9"
    told = await accumulate(CLIENT, simulator.url, model, environment="openai")
    assert told["error"] == "APIConnectionError"
    assert told["text"] == ours("openai-responses", "demo:pace=0", tools=False)["text"].replace(
        "demo:pace=0", model
    )
