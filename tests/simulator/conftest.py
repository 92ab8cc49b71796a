"""One simulated provider, reached in the process and over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from turnstream.core.blocks import Block, Message
from turnstream.simulator.server import SimulatorServer
from turnstream.wires.base import ModelRequest, ToolDefinition

WEATHER = ToolDefinition(
    "get_weather",
    "The weather somewhere",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
    },
)


@pytest.fixture
async def simulator_server() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer() as server:
        yield server


@pytest.fixture
def ask() -> Callable[..., ModelRequest]:
    """A request for a simulated model, with one message of the user's."""

    def make(model: str, *blocks: Block, tools: bool = False) -> ModelRequest:
        said = blocks or (Block(0, "text", "What is the weather?"),)
        offered = (WEATHER,) if tools else ()
        return ModelRequest(model, (Message("user", said),), tools=offered, params={"max_tokens": 64})

    return make
