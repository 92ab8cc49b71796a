"""Modules are loaded at their first use. The tests compare module names, and measure no time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import turnstream

pytestmark = pytest.mark.requirement("F1")

HEAVY = (
    "alembic",
    "fastapi",
    "filelock",
    "genai_prices",
    "prometheus_client",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "uvloop",
)

_STREAMING = """
import sys
import turnstream as ts
at_import = sorted(sys.modules)
import asyncio, json

async def main():
    from turnstream.simulator.server import SimulatorServer
    def look(what: str) -> str: return what
    async with SimulatorServer() as server:
        provider = {"wire": "anthropic", "base_url": server.url}
        async with ts.LLM("anthropic/tools:pace=0", providers={"anthropic": provider | {"api_key_env": "SOME_KEY"}}) as llm:
            async with llm.stream("go", tools=[look]) as stream:
                async for _ in stream.text:
                    pass
                message = await stream.final_message()
        assert message.text
        await ts.LLM("sim/demo:pace=0").collect("x")
        return message

message = asyncio.run(main())
streamed = sorted(sys.modules)
cost = message.cost
print(json.dumps([at_import, streamed, sorted(sys.modules), str(cost)]))
"""


def test_heavy_modules_are_loaded_by_neither_import_nor_streaming() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _STREAMING],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"SOME_KEY": "k", "PATH": ""},
    )
    assert run.returncode == 0, run.stderr
    at_import, streamed, asked, cost = json.loads(run.stdout)
    roots = {name.partition(".")[0] for name in at_import}
    assert not roots & {*HEAVY, "aiohttp", "asyncio", "msgspec", "pydantic"}
    assert [name for name in at_import if name.startswith("turnstream.")] == []
    assert not {name.partition(".")[0] for name in streamed} & set(HEAVY)
    assert not [
        name
        for name in streamed
        if name.startswith(("turnstream.server", "turnstream.store.", "turnstream.turns"))
    ]
    assert "genai_prices" in asked, "prices are read when a cost is asked for"
    assert cost == "None", "of this model no price is known"


def test_every_public_name_is_there() -> None:
    for name in turnstream.__all__:
        assert getattr(turnstream, name) is not None
        assert name in dir(turnstream)
    assert len(set(turnstream.__all__)) == len(turnstream.__all__)
    with pytest.raises(AttributeError):
        _ = turnstream.nothing  # type: ignore[attr-defined]
