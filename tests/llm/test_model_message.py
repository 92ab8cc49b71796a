"""The fields of a finished message."""

from __future__ import annotations

import pytest

import turnstream as ts
from turnstream.core.blocks import Block


def call(identity: str, name: str = "f", *, executed: bool = False) -> Block:
    content = {"tool_use_id": identity, "tool_name": name, "input": {"n": name}}
    return Block(0, "tool_use", None, {**content, **({"provider_executed": True} if executed else {})})


def result(identity: str, *, executed: bool = False) -> Block:
    content = {"tool_use_id": identity, "content": "ok"}
    return Block(0, "tool_result", None, {**content, **({"provider_executed": True} if executed else {})})


def open_calls(*blocks: Block) -> list[tuple[str, str]]:
    message: ts.ModelMessage[None] = ts.ModelMessage("m", blocks=blocks)
    return [(found.id, found.name) for found in message.tool_calls]


@pytest.mark.fault(25)
def test_an_id_that_each_step_repeats() -> None:
    """Some vendors count from `call_0` in each answer."""
    assert open_calls(call("call_0", "f"), result("call_0"), call("call_0", "g")) == [("call_0", "g")]


@pytest.mark.fault(25)
def test_an_id_that_two_calls_of_one_step_share() -> None:
    assert open_calls(call("a", "f"), call("a", "g")) == [("a", "f"), ("a", "g")]
    assert open_calls(call("a", "f"), call("a", "g"), result("a")) == [("a", "g")]
    assert open_calls(call("a", "f"), call("a", "g"), result("a"), result("a")) == []


@pytest.mark.fault(25)
def test_ids_that_are_empty() -> None:
    assert open_calls(call("", "f"), result(""), call("", "g"), call("", "h")) == [("", "g"), ("", "h")]


@pytest.mark.fault(25)
def test_a_result_without_its_call_answers_no_later_call() -> None:
    assert open_calls(result("a"), call("a", "f")) == [("a", "f")]


@pytest.mark.fault(25)
def test_an_id_shared_with_a_tool_of_the_provider() -> None:
    blocks = (call("a", "search", executed=True), call("a", "f"), result("a", executed=True))
    assert open_calls(*blocks) == [("a", "f")]
