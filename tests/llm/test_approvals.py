"""Tools that ask first, in the library: a function of the caller answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import turnstream as ts
from turnstream.tools.asking import NOT_APPROVED


def results(message: Any) -> list[tuple[Any, Any]]:
    return [
        (block.content["content"], block.content["is_error"])
        for block in message.blocks
        if block.block_type == "tool_result"
    ]


def deleting(ran: list[str], rule: Any = "always") -> Any:
    @ts.tool(ask=rule)
    def delete(path: str) -> str:
        """Delete a file."""
        ran.append(path)
        return f"{path} is gone"

    return delete


def one_by_one(question: ts.ApprovalQuestion) -> bool | tuple[bool, str]:
    return True if question.arguments["path"] == "example 1" else (False, "keep it")


async def later(question: ts.ApprovalQuestion) -> bool | tuple[bool, str]:
    await asyncio.sleep(0)
    return one_by_one(question)


@pytest.mark.requirement("G7")
@pytest.mark.parametrize("approve", [one_by_one, later], ids=["sync", "async"])
async def test_a_function_answers_each_call(approve: Any) -> None:
    ran: list[str] = []
    llm = ts.LLM("sim/tools:pace=0", approve=approve)
    message = await llm.collect("go", tools=[deleting(ran)])
    assert ran == ["example 1"]
    assert results(message) == [("example 1 is gone", False), (f"{NOT_APPROVED}: keep it", True)]
    assert message.stop_reason == "end_turn"


def raising(question: ts.ApprovalQuestion) -> bool:
    raise RuntimeError(str(question))


def wordy(_question: ts.ApprovalQuestion) -> Any:
    return "yes"


async def endless(_question: ts.ApprovalQuestion) -> bool:
    await asyncio.Event().wait()
    return True


@pytest.mark.parametrize(
    ("approve", "reason"),
    [
        (None, "delete needs an approval, and this application gives none"),
        (raising, "the approval failed"),
        (wordy, None),
        (endless, "there was no answer in time"),
    ],
    ids=["none", "raising", "wordy", "endless"],
)
async def test_without_a_clear_yes_nothing_runs(approve: Any, reason: str | None) -> None:
    ran: list[str] = []
    limits = ts.ToolLimits(approval=0.05)
    message = await ts.LLM("sim/tools:pace=0", approve=approve, tool_limits=limits).collect(
        "go", tools=[deleting(ran)]
    )
    denied = NOT_APPROVED if reason is None else f"{NOT_APPROVED}: {reason}"
    assert results(message) == [(denied, True)] * 2
    assert ran == []


async def test_the_settings_override_the_rule_of_a_function() -> None:
    ran: list[str] = []
    settings = ts.Settings.model_validate({"tools": {"ask": {"delete": "never"}}})
    message = await ts.LLM("sim/tools:pace=0", settings=settings).collect("go", tools=[deleting(ran)])
    assert [failed for _, failed in results(message)] == [False, False]


def test_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(ts.ConfigurationError, match="cannot ask 'sometimes'"):
        ts.LLM("sim/tools:pace=0").collect_sync("go", tools=[deleting([], "sometimes")])


def test_questions_come_one_at_a_time_in_a_thread_too() -> None:
    running: list[int] = [0]
    most: list[int] = []

    def approve(_question: ts.ApprovalQuestion) -> bool:
        running[0] += 1
        most.append(running[0])
        running[0] -= 1
        return True

    ran: list[str] = []
    ts.LLM("sim/tools:pace=0", approve=approve).collect_sync("go", tools=[deleting(ran)])
    assert most == [1, 1]
    assert sorted(ran) == ["example 1", "example 2"]
