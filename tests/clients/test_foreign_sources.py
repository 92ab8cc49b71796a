"""Streams of other libraries become turns that can be cut and resumed. The libraries read our simulator."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from tests.clients.running import SECONDS, python_of
from turnstream.core.blocks import Block, Message
from turnstream.simulator.playback import play
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest
from turnstream.wires.recording import decode_pieces

SDKS = {
    "openai_chat": "openai-chat",
    "openai_chat_helper": "openai-chat",
    "openai_responses": "openai-responses",
    "anthropic": "anthropic",
    "anthropic_helper": "anthropic",
    "gemini": "gemini",
    "bedrock": "bedrock",
    "ollama": "ollama",
}
FRAMEWORKS = ("pydantic_ai", "openai_agents", "langgraph")
EVERY_SDK = pytest.mark.parametrize("source", SDKS)
EVERY_FRAMEWORK = pytest.mark.parametrize("source", FRAMEWORKS)
AGENT = "agent:pace=0,chunk=13"
QUESTION = (Message("user", (Block(0, "text", "What is the weather?"),)),)


FAULTS = {
    "error-before,status=429": "rate_limit_error",
    "error-before,status=401": "authentication_error",
    "error,after=9": "overloaded_error",
}
ANSWERS = ("demo:pace=0,chunk=13", "thinking:pace=0,chunk=13")
BROKEN = "demo:pace=0,fault=error,after=9"


def faulty(fault: str) -> str:
    return f"demo:pace=0,fault={fault}"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(tmp_path_factory.mktemp("turns"))


class Told:
    """Turns of each source; see `foreign_sources.py`. One process runs all sources."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_source: dict[str, dict[str, Any]] = {}

    async def of(self, source: str, model: str) -> dict[str, Any]:
        if source not in self._by_source:
            models = [*ANSWERS, *map(faulty, FAULTS)] if source in SDKS else [AGENT, BROKEN]
            self._by_source[source] = await self._run(source, models)
        return self._by_source[source][model]

    async def _run(self, source: str, models: list[str]) -> dict[str, Any]:
        folder = self._folder / source
        folder.mkdir()
        process = await asyncio.create_subprocess_exec(
            python_of("libraries"),
            Path(__file__).with_name("foreign_sources.py"),
            source,
            folder,
            *models,
            stdout=PIPE,
            stderr=PIPE,
            env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        )
        try:
            async with asyncio.timeout(SECONDS):
                output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, errors.decode()
        return json.loads(output)


def said(blocks: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(block["block_type"], block.get("text_content")) for block in blocks]


@EVERY_SDK
@pytest.mark.requirement("F7")
@pytest.mark.parametrize("model", ANSWERS)
async def test_an_sdks_stream_is_a_turn_with_what_its_wire_says(told: Told, source: str, model: str) -> None:
    turn = await told.of(source, model)
    wire = WIRES[SDKS[source]]
    request = ModelRequest(model, QUESTION, params={"max_tokens": 64})
    ours = decode_pieces(wire, (send.data for send in play(request, wire)))
    assert (turn["status"], turn["code"]) == ("complete", None)
    assert turn["stored"]
    assert turn["stored"] == turn["watched"] == turn["resumed"]
    assert said(turn["stored"]) == said(ours["blocks"])
    assert turn["usage"] == {key: value for key, value in ours["usage"].items() if value is not None}


@EVERY_SDK
@pytest.mark.requirement("F7", "D4")
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_an_sdk_raises_has_the_wires_own_code(told: Told, source: str, fault: str) -> None:
    turn = await told.of(source, faulty(fault))
    assert (turn["status"], turn["code"]) == ("error", FAULTS[fault])
    assert turn["stored"] == turn["watched"] == turn["resumed"]
    assert bool(turn["stored"]) is ("after" in fault), "what had come before is kept"


@EVERY_FRAMEWORK
@pytest.mark.requirement("F7")
async def test_a_frameworks_run_is_a_turn_with_its_tools(told: Told, source: str) -> None:
    turn = await told.of(source, AGENT)
    assert (turn["status"], turn["code"]) == ("complete", None)
    blocks = turn["stored"]
    assert blocks == turn["watched"] == turn["resumed"]
    calls = [block["content"] for block in blocks if block["block_type"] == "tool_use"]
    results = [block["content"] for block in blocks if block["block_type"] == "tool_result"]
    assert [call["tool_name"] for call in calls] == ["clock", "clock"]
    assert [result["tool_use_id"] for result in results] == [call["tool_use_id"] for call in calls]
    assert [result["content"] for result in results] == ["noon", "noon"]
    assert said(blocks)[-1] == ("text", "The tools say: noon; noon")
    assert turn["usage"]["output_tokens"] == 148, "of both calls of the model"
    names = {"pydantic_ai": ["looking"] * 2, "openai_agents": ["agent"], "langgraph": ["custom"] * 2}
    assert [data["name"] for data in turn["data"]] == names[source]


@EVERY_FRAMEWORK
@pytest.mark.requirement("F7", "P5")
async def test_a_run_that_breaks_off_is_never_complete(told: Told, source: str) -> None:
    turn = await told.of(source, BROKEN)
    assert turn["status"] == "error"
    assert turn["stored"] == turn["watched"] == turn["resumed"]
