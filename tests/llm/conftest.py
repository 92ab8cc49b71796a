"""Models of the simulator over HTTP, on each wire."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import turnstream as ts
from tests.providers.conftest import raw_server
from turnstream.simulator.server import SimulatorServer

__all__ = ["ONCE", "WIRES", "llm_at", "raw_server", "simulator"]

WIRES = ("anthropic", "openai-chat", "ollama")
_ROOTS = {"anthropic": "", "openai-chat": "/v1", "ollama": ""}


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer() as server:
        yield server


ONCE = ts.Settings.model_validate({"retry": {"attempts": 1}})
"""A model is called once, without retries."""


def llm_at(url: str, wire: str, model: str, **settings: object) -> ts.LLM:
    """An LLM whose provider uses the wire `over` of the simulator at `url`."""
    provider = {"wire": wire, "base_url": url + _ROOTS[wire]}
    given = ts.Settings.model_validate({"retry": {"attempts": 1}, **settings})
    return ts.LLM(f"over/{model}", providers={"over": provider}, settings=given)
