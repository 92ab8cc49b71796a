"""A call whose text cannot show that it is whole runs, or goes to the client, only after a clean end of the
model's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.turns.tools.scripted import ScriptedProvider, answer, blocks_of, calls, results, says, world_of
from tests.turns.world import SECONDS, logged
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    StopReason,
    StreamEvent,
    ToolInputDelta,
)
from turnstream.tools import tool
from turnstream.wires.base import ToolDefinition

pytestmark = pytest.mark.fault(2)

CLEAN: tuple[StopReason, ...] = ("tool_use", "end_turn", "stop_sequence")
CUT: tuple[StopReason, ...] = (
    "max_tokens",
    "refusal",
    "content_filtered",
    "guardrail_intervened",
    "pause_turn",
    "unknown",
)
CUT_OFF = "the call was cut off, and nothing was run: call again"


def shapes(index: int) -> dict[str, Sequence[StreamEvent]]:
    """Forms in which a call without arguments arrives."""
    start = ContentBlockStart(index, "tool_use", {"tool_use_id": f"call-{index}", "tool_name": "wipe"})
    given = ContentBlockStart(index, "tool_use", {**(start.content or {}), "input": {}})
    stop = ContentBlockStop(index)
    return {
        "none": [start, stop],
        "empty": [start, ToolInputDelta(index, ""), stop],
        "blanks": [start, ToolInputDelta(index, " \n"), ToolInputDelta(index, "\t"), stop],
        "empty input at its start": [given, stop],
        "never stopped": [start],
    }


@pytest.mark.parametrize("shape", list(shapes(0)))
async def test_it_runs_only_after_a_clean_end(tmp_path: Path, shape: str) -> None:
    ran = 0

    def wipe(path: str = "/") -> str:
        """Do what must not be done by mistake."""
        nonlocal ran
        ran += 1
        return path

    provider = ScriptedProvider(answer(says("-")))
    async with world_of(tmp_path, provider, wipe) as world:
        for reason in (*CLEAN, *CUT):
            ran = 0
            provider.asked.clear()
            provider._answers[:] = [answer(shapes(0)[shape], stop=reason), answer(says("Then."))]
            blocks = await blocks_of(world, (await world.ask("go")).assistant_turn.id)
            call = next(block for block in blocks if block.block_type == "tool_use")
            assert (ran, call.partial) == ((1, False) if reason in CLEAN else (0, True)), reason
            assert ("call-0", CUT_OFF, True) in results(blocks) or reason in (*CLEAN, *CUT[1:4])


async def test_a_call_before_another_that_was_cut_does_not_run_either(tmp_path: Path) -> None:
    ran: list[str] = []

    def wipe(path: str = "/") -> str:
        """Do what must not be done by mistake."""
        ran.append(path)
        return path

    torn = [
        *shapes(0)["none"],
        *calls(1, "wipe", '{"path": "a"}'),
        *calls(2, "wipe", '{"path": "b'),
        *shapes(3)["none"],
    ]
    provider = ScriptedProvider(answer(torn, stop="max_tokens"), answer(says("Then.")))
    async with world_of(tmp_path, provider, wipe) as world:
        blocks = await blocks_of(world, (await world.ask("go")).assistant_turn.id)
        assert ran == ["a"]  # whole arguments are whole, however the answer ended
        assert [(result[0], result[2]) for result in results(blocks)] == [
            ("call-0", True),
            ("call-1", False),
            ("call-2", True),
            ("call-3", True),
        ]


async def test_an_idempotent_tool_waits_for_the_end_too(tmp_path: Path) -> None:
    ran = 0

    @tool(idempotent=True)
    async def wipe(path: str = "/") -> str:
        """Only look."""
        nonlocal ran
        ran += 1
        return path

    provider = ScriptedProvider(answer(shapes(0)["none"], stop="max_tokens"), answer(says("Then.")))
    provider.hold = asyncio.Event()
    async with world_of(tmp_path, provider, wipe) as world:
        started = await world.ask("go")
        executor = world.executor(started.assistant_turn.id)
        await logged(executor, lambda log: log.open_block is not None)
        assert (ran, executor.blocks_completed) == (0, 0)
        provider.hold.set()
        assert results(await blocks_of(world, executor.turn.id)) == [("call-0", CUT_OFF, True)]
        assert ran == 0


async def test_free_text_that_may_go_on_does_not_run(tmp_path: Path) -> None:
    ran: list[str] = []

    def patch(input: str) -> str:
        """Apply a patch."""
        ran.append(input)
        return "ok"

    content = {"tool_use_id": "call-0", "tool_name": "patch", "free_text": "input"}
    written: list[Any] = [
        ContentBlockStart(0, "tool_use", content),
        ToolInputDelta(0, "*** Begin"),
        ContentBlockStop(0),
    ]
    provider = ScriptedProvider(answer(says("-")))
    async with world_of(tmp_path, provider, patch) as world:
        for reason, runs in (("max_tokens", []), ("tool_use", ["*** Begin"])):
            ran.clear()
            provider.asked.clear()
            provider._answers[:] = [answer(written, stop=reason), answer(says("Then."))]
            await blocks_of(world, (await world.ask("go")).assistant_turn.id)
            assert ran == runs


@pytest.mark.parametrize("reason", CUT)
async def test_a_client_is_not_handed_a_call_that_was_cut(tmp_path: Path, reason: StopReason) -> None:
    theirs = ToolDefinition("wipe", "Run in the client.", {"type": "object"})
    provider = ScriptedProvider(
        answer(says("Wait."), shapes(1)["none"], stop=reason), answer(says("Not asked."))
    )
    async with world_of(tmp_path, provider) as world:
        turn = (await world.ask("go", tools=(theirs,))).assistant_turn
        state = await world.ended(turn.id)
        assert (state.turn.status, state.turn.stop_reason) == ("complete", reason)
        assert [row.block.partial for row in state.blocks] == [False, True]
        assert len(provider.asked) == 1
        client = await world.watched(turn.id)
        assert client.now.blocks == [row.block for row in state.blocks]


async def test_a_whole_call_of_the_client_is_handed_out_beside_one_that_was_cut(tmp_path: Path) -> None:
    theirs = ToolDefinition("wipe", "Run in the client.", {"type": "object"})
    provider = ScriptedProvider(answer(calls(0, "wipe"), shapes(1)["none"], stop="max_tokens"))
    async with world_of(tmp_path, provider) as world:
        turn = (await world.ask("go", tools=(theirs,))).assistant_turn
        state = await world.ended(turn.id)
        assert state.turn.stop_reason == "tool_use"
        assert [row.block.partial for row in state.blocks] == [False, True]


async def test_blocks_behind_a_held_call_are_shown_in_order_once_the_end_is_there(tmp_path: Path) -> None:
    def wipe(path: str = "/") -> str:
        """Do it."""
        return path

    provider = ScriptedProvider(
        answer(shapes(0)["none"], says("And then.", index=1), stop="tool_use"), answer(says("Done."))
    )
    provider.hold = asyncio.Event()
    async with world_of(tmp_path, provider, wipe) as world:
        executor = world.executor((await world.ask("go")).assistant_turn.id)
        await logged(executor, lambda log: log.open_block is not None)
        provider.hold.set()
        async with asyncio.timeout(SECONDS):
            blocks = await blocks_of(world, executor.turn.id)
        assert [block.block_type for block in blocks] == ["tool_use", "text", "tool_result", "text"]
        assert not any(block.partial for block in blocks)
