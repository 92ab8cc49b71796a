"""Tools as clients of each API write them are called by the simulator's agent."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from turnstream.errors import InvalidRequest
from turnstream.simulator.server import SimulatorServer
from turnstream.wires.shared.function_tools import split_tools

pytestmark = pytest.mark.fault(47)

SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
ASKED = [{"role": "user", "content": "go"}]


def chat(function: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    tool = {"type": "function", "function": function, **fields}
    return "/v1/chat/completions", {"model": "agent:pace=0", "messages": ASKED, "tools": [tool]}


def responses(tool: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"model": "agent:pace=0", "input": "go", "tools": [tool]}


def anthropic(tool: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    body = {"model": "agent:pace=0", "max_tokens": 99, "messages": ASKED, "tools": [tool]}
    return "/v1/messages", body


def ollama(function: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    tool = {"type": "function", "function": function}
    return "/api/chat", {"model": "agent:pace=0", "messages": ASKED, "tools": [tool], "stream": False}


async def asked(path: str, body: dict[str, Any]) -> tuple[int, str]:
    async with (
        SimulatorServer() as server,
        aiohttp.ClientSession() as client,
        client.post(server.url + path, json=body) as response,
    ):
        return response.status, await response.text()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        chat({"name": "look", "strict": True, "parameters": SCHEMA}),
        chat({"name": "look", "strict": None, "parameters": None, "description": None}),
        chat({"name": "look", "strict": False}),
        responses({"type": "function", "name": "look", "strict": True, "parameters": SCHEMA}),
        responses(
            {"type": "function", "name": "look", "strict": None, "parameters": None, "description": None}
        ),
        anthropic({"type": "custom", "name": "look", "input_schema": SCHEMA}),
        anthropic(
            {"type": "custom", "name": "look", "strict": True, "input_schema": SCHEMA, "description": "d"}
        ),
        anthropic({"type": None, "name": "look", "input_schema": SCHEMA}),
        ollama({"name": "look", "strict": True, "parameters": SCHEMA}),
        ollama({"name": "look", "parameters": None}),
    ],
)
async def test_a_function_is_called_however_it_is_written(path: str, body: dict[str, Any]) -> None:
    status, answer = await asked(path, body)
    assert status == 200
    assert '"name":"look"' in answer


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/chat/completions",
            {
                "model": "demo:pace=0",
                "messages": ASKED,
                "tools": [{"type": "custom", "custom": {"name": "sql"}}],
            },
        ),
        (
            "/v1/chat/completions",
            {
                "model": "demo:pace=0",
                "messages": [
                    *ASKED,
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
                        ],
                    },
                    {"role": "tool", "tool_call_id": "c1", "content": "1"},
                ],
            },
        ),
        responses({"type": "custom", "name": "sql", "format": {"type": "text"}}),
        anthropic({"type": "web_search_20260209", "name": "web_search"}),
    ],
)
async def test_a_tool_that_is_no_function_is_accepted(path: str, body: dict[str, Any]) -> None:
    status, _ = await asked(path, body)
    assert status == 200


@pytest.mark.parametrize(
    "raw", [{}, "look", [{"type": "function", "function": {"name": ""}}], [{"function": {}}]]
)
def test_tools_that_say_too_little_are_refused(raw: Any) -> None:
    with pytest.raises(InvalidRequest):
        split_tools(raw, schema="parameters", types=("function", None), inside="function")


def test_what_a_function_cannot_hold_is_kept_as_it_is() -> None:
    tools = [{"type": "function", "function": {"name": "a", "vendor": 1}}, {"type": "custom"}, None, "x"]
    assert split_tools(tools, schema="parameters", types=("function",), inside="function") == ((), tools)
