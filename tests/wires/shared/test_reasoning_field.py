"""Thinking is sent back beside tool calls in chat completions, to models that refuse a call without it."""

from __future__ import annotations

import json
from typing import Any

import pytest

import turnstream as ts
from turnstream.config import CapabilitySettings
from turnstream.core.blocks import Block, Message
from turnstream.providers.capabilities import capabilities_of
from turnstream.simulator.server import SimulatorServer
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest

pytestmark = pytest.mark.fault(28)

FIELD = "reasoning_content"


def call(identity: str) -> Block:
    return Block(
        0, "tool_use", None, {"tool_use_id": identity, "tool_name": "f", "input": {}, "input_json": "{}"}
    )


def result(identity: str) -> Block:
    return Block(0, "tool_result", None, {"tool_use_id": identity, "content": "done"})


def text(said: str) -> Block:
    return Block(0, "text", said)


def thought(said: str) -> Block:
    return Block(0, "thinking", said)


HISTORY = (
    Message("user", (text("hello"),)),
    Message("assistant", (thought("plain"), text("hi"))),
    Message("user", (text("go"),)),
    Message("assistant", (thought("first"), text("I look."), call("a"))),
    Message("user", (result("a"),)),
    Message("assistant", (call("b"),)),
    Message("user", (result("b"),)),
    Message("assistant", (thought("last"), text("There."))),
    Message("user", (text("thanks"),)),
    Message("assistant", (thought("plain again"), text("welcome"))),
    Message("user", (text("bye"),)),
)


def assistant_fields(request: ModelRequest) -> list[Any]:
    body = json.loads(WIRES["openai-chat"].encode_request(request).body)
    return [message.get(FIELD) for message in body["messages"] if message["role"] == "assistant"]


def test_calls_go_back_with_their_thinking_and_plain_answers_without() -> None:
    request = ModelRequest("kimi-k2-thinking", HISTORY, reasoning_field=FIELD)
    assert assistant_fields(request) == [None, "first", " ", "last", None]


def test_on_the_wire_anthropic_unsigned_thinking_goes_back_where_it_is_needed() -> None:
    for needed in (None, FIELD):
        request = ModelRequest("deepseek-v4-pro", HISTORY, reasoning_field=needed)
        body = json.loads(WIRES["anthropic"].encode_request(request).body)
        found = [
            part for message in body["messages"] for part in message["content"] if part["type"] == "thinking"
        ]
        assert [part["thinking"] for part in found] == (
            ["plain", "first", "last", "plain again"] if needed else []
        )
        assert all(part["signature"] == "" for part in found)


def test_without_the_need_no_thinking_goes() -> None:
    assert assistant_fields(ModelRequest("gpt-4o", HISTORY)) == [None] * 5


def test_the_param_names_the_field_for_all_messages() -> None:
    request = ModelRequest("m", HISTORY, params={"reasoning_field": FIELD}, reasoning_field="other")
    assert assistant_fields(request) == ["plain", "first", "", "last", "plain again"]


def test_thinking_that_was_cut_off_does_not_go_back() -> None:
    torn = Block(0, "thinking", "torn", None, partial=True)
    history = (HISTORY[0], Message("assistant", (torn, call("a"))), Message("user", (result("a"),)))
    assert assistant_fields(ModelRequest("m", history, reasoning_field=FIELD)) == [" "]


@pytest.mark.parametrize(
    ("model", "params", "goes"),
    [
        ("deepseek-reasoner", {}, True),
        ("deepseek-v4-pro", {}, True),
        ("deepseek-v4-flash", {"thinking": {"type": "disabled"}}, False),
        ("deepseek-chat", {}, False),
        ("deepseek-chat", {"thinking": {"type": "enabled"}}, True),
        ("deepseek/deepseek-v3.2", {"thinking": {"type": "enabled"}}, True),
        ("kimi-k2-thinking-turbo", {}, True),
        ("moonshotai/Kimi-K2.5", {}, True),
        ("kimi-k2-0905-preview", {}, False),
        ("moonshotai/kimi-k2-instruct", {}, False),
        ("deepseek-r1-distill-llama-70b", {}, False),
        ("gpt-6", {}, False),
    ],
)
def test_the_table_knows_who_needs_it(model: str, params: dict[str, Any], goes: bool) -> None:
    can = capabilities_of("any", "openai-chat", model)
    assert (can.reasoning_field == FIELD and can.may_think(params)) is goes
    assert capabilities_of("any", "anthropic", model).reasoning_field == can.reasoning_field
    assert capabilities_of("any", "ollama", model).reasoning_field is None


@pytest.mark.parametrize(
    ("own", "params", "found"),
    [
        ({}, {}, None),
        ({"thinks": True, "reasoning_field": FIELD}, {}, " "),
        ({"thinks": True, "reasoning_field": FIELD}, {"thinking": {"type": "disabled"}}, None),
    ],
)
async def test_the_settings_say_it_of_any_model(
    own: dict[str, Any], params: dict[str, Any], found: str | None
) -> None:
    def look(what: str) -> str:
        return "seen"

    async with SimulatorServer() as simulator:
        llm = ts.LLM(
            "over/tools:pace=0",
            providers={"over": {"wire": "openai-chat", "base_url": f"{simulator.url}/v1"}},
            capabilities={"over/*": CapabilitySettings.model_validate(own)},
            settings=ts.Settings(),
        )
        await llm.collect("go", tools=[look], params=params)
        bodies = [json.loads(bytes(request.body)) for request in simulator.log.newest()]
    second = [message for message in bodies[-1]["messages"] if message["role"] == "assistant"]
    assert [message.get(FIELD) for message in second] == [found]
