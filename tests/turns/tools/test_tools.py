"""The tool loop: calls, results, rounds, limits, progress."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from tests.turns.tools.scripted import (
    ScriptedProvider,
    answer,
    blocks_of,
    calls,
    results,
    says,
    started,
    world_of,
)
from tests.turns.world import SECONDS, logged
from turnstream.core.cursor import Cursor
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    TextDelta,
)
from turnstream.core.usage import Usage
from turnstream.tools import ToolContext
from turnstream.wires.base import ToolDefinition


@pytest.mark.requirement("G1", "G2", "F1")
async def test_results_come_in_the_order_of_the_calls_and_the_turn_goes_on(tmp_path: Path) -> None:
    second_has_run = asyncio.Event()

    async def first() -> str:
        """Wait for the other: they run at once."""
        await second_has_run.wait()
        return "one"

    def second(value: int, context: ToolContext) -> dict[str, object]:
        """Run in a thread."""
        loop.call_soon_threadsafe(second_has_run.set)
        return {"value": value, "plan": context.metadata["plan"], "owner": context.owner}

    loop = asyncio.get_running_loop()
    provider = ScriptedProvider(
        answer(says("Let me look."), calls(1, "first"), calls(2, "second", '{"value": 7}'), stop="tool_use"),
        answer(says("Done.")),
    )
    async with world_of(tmp_path, provider, first, second) as world:
        started = await world.ask("go", metadata={"plan": "free"})
        turn_id = started.assistant_turn.id
        blocks = await blocks_of(world, turn_id)
        assert [(block.sequence, block.block_type) for block in blocks] == [
            (0, "text"),
            (1, "tool_use"),
            (2, "tool_use"),
            (3, "tool_result"),
            (4, "tool_result"),
            (5, "text"),
        ]
        assert results(blocks) == [
            ("call-1", "one", False),
            ("call-2", '{"value":7,"plan":"free","owner":"local"}', False),
        ]
        state = await world.state(turn_id)
        assert (state.turn.status, state.turn.stop_reason) == ("complete", "end_turn")
        assert state.turn.usage == Usage(20, 10)
        client = await world.watched(turn_id)
        assert client.now.blocks == blocks
        assert [tool.name for tool in provider.asked[0].tools] == ["first", "second"]
        roles = [(message.role, len(message.blocks)) for message in provider.asked[1].messages]
        assert roles == [("user", 1), ("assistant", 3), ("user", 2)]


@pytest.mark.requirement("G1")
async def test_a_step_holds_its_tools(tmp_path: Path) -> None:
    def ping() -> str:
        """Answer."""
        return "pong"

    provider = ScriptedProvider(answer(calls(0, "ping"), stop="tool_use"), answer(says("Pong.")))
    async with world_of(tmp_path, provider, ping) as world:
        executor = await started(world)
        subscription = await world.watch(executor.turn.id, str(Cursor(executor.turn.generation, 0)))
        names: list[str] = []
        async with asyncio.timeout(SECONDS):
            while (data := await subscription.next()) is not None:
                names += [line[7:] for line in data.decode().splitlines() if line.startswith("event: ")]
        assert names == [
            *("turn_start", "step_start"),
            *("block_start", "block_delta", "block_stop", "usage"),
            *("block_start", "block_delta", "block_stop", "step_stop", "step_start"),
            *("block_start", "block_delta", "block_stop", "usage", "step_stop", "turn_complete"),
        ]


@pytest.mark.requirement("G3")
async def test_unknown_tools_and_failures_are_told_and_the_model_continues(tmp_path: Path) -> None:
    def broken() -> str:
        """Fail."""
        raise ValueError("secret")

    provider = ScriptedProvider(
        answer(calls(0, "imagined"), calls(1, "broken"), stop="tool_use"), answer(says("Sorry."))
    )
    async with world_of(tmp_path, provider, broken) as world:
        blocks = await blocks_of(world, (await world.ask("go")).assistant_turn.id)
        assert results(blocks) == [
            ("call-0", "there is no tool called imagined; there are: broken", True),
            ("call-1", "the tool failed (ValueError)", True),
        ]
        assert blocks[-1].text_content == "Sorry."


@pytest.mark.requirement("G3")
async def test_rounds_have_a_soft_limit_and_a_hard_one(tmp_path: Path) -> None:
    ran = 0

    def again() -> str:
        """Be called again."""
        nonlocal ran
        ran += 1
        return "more"

    provider = ScriptedProvider(lambda: answer(calls(0, "again", identity="same"), stop="tool_use"))
    async with world_of(tmp_path, provider, again, soft_rounds=2, rounds=3) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        blocks = await blocks_of(world, turn_id)
        assert ran == 3
        assert [result[1] for result in results(blocks)] == [
            "more",
            "more",
            "more",
            "not run: this turn has used all its rounds of tools",
        ]
        state = await world.state(turn_id)
        assert (state.turn.status, state.turn.stop_reason) == ("complete", "max_rounds")
        reminded = [
            "Finish now" in (asked.messages[-1].blocks[-1].text_content or "") for asked in provider.asked
        ]
        assert reminded == [False, False, True, True]
        provider._answers[:] = [answer(says("Better."))]
        next_turn = await world.ask("and now?", chat_id=state.turn.chat_id, prev_turn_id=turn_id)
        assert (await world.ended(next_turn.assistant_turn.id)).turn.status == "complete"


@pytest.mark.requirement("G4")
async def test_progress_is_shown_while_the_tool_runs(tmp_path: Path) -> None:
    seen = asyncio.Event()

    async def steps(context: ToolContext) -> str:
        """Tell how it goes."""
        context.progress("half")
        await seen.wait()
        return "done"

    provider = ScriptedProvider(answer(calls(0, "steps"), stop="tool_use"), answer(says("Good.")))
    async with world_of(tmp_path, provider, steps) as world:
        executor = await started(world)
        subscription = await world.watch(executor.turn.id)
        shown = b""
        async with asyncio.timeout(SECONDS):
            while b"tool_progress" not in shown:
                shown += await subscription.next() or b""
        assert b'"tool_use_id":"call-0"' in shown
        assert b'"text":"half"' in shown
        assert executor.progress.runs_tools
        seen.set()
        assert results(await blocks_of(world, executor.turn.id)) == [("call-0", "done", False)]


@pytest.mark.requirement("G2")
async def test_no_more_calls_run_at_once_than_the_limit_says(tmp_path: Path) -> None:
    running = most = 0
    both = asyncio.Event()

    async def busy() -> str:
        """Take a place."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            both.set()
        await both.wait()
        running -= 1
        return "ok"

    many = [calls(index, "busy") for index in range(6)]
    provider = ScriptedProvider(answer(*many, stop="tool_use"), answer(says("Ok.")))
    async with world_of(tmp_path, provider, busy, parallel=2) as world:
        blocks = await blocks_of(world, (await world.ask("go")).assistant_turn.id)
        assert [result[0] for result in results(blocks)] == [f"call-{index}" for index in range(6)]
        assert most == 2


@pytest.mark.parametrize(
    ("tools", "code"),
    [(("unheard-of",), "unknown_tool"), ((ToolDefinition("a"), ToolDefinition("a")), "duplicate_tool")],
)
async def test_tools_that_cannot_be_given_are_refused(tmp_path: Path, tools: Any, code: str) -> None:
    async with world_of(tmp_path, ScriptedProvider(answer(says("-")))) as world:
        with pytest.raises(Exception, match="tool") as refused:
            await world.ask("go", tools=tools)
        assert refused.value.code == code  # type: ignore[attr-defined]


@pytest.mark.requirement("O2")
async def test_a_turn_keeps_nothing_of_what_is_stored(tmp_path: Path) -> None:
    """The next call reads it again, so memory does not grow with the answer."""
    half = "x" * 10_000
    block = [ContentBlockStart(0, "text"), TextDelta(0, half), TextDelta(0, half), ContentBlockStop(0)]
    provider = ScriptedProvider(
        answer(*[block] * 200, calls(1, "unheard-of"), stop="tool_use"), answer(says("-"))
    )
    provider.hold = asyncio.Event()
    async with world_of(tmp_path, provider) as world:
        world.store.writes = deque(maxlen=0)  # type: ignore[assignment]  # else the test's own store keeps them
        tracemalloc.start()
        try:
            executor = await started(world)
            before, _ = tracemalloc.get_traced_memory()
            await logged(executor, lambda _log: executor.blocks_completed == 201)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 1_000_000, "4 MB have been stored"
        provider.hold.set()
        assert (await world.ended(executor.turn.id)).turn.status == "complete"
        told = provider.asked[1].messages[1].blocks
        assert sum(len(block.text_content or "") for block in told) == 200 * 20_000


@pytest.mark.requirement("G4", "O2")
async def test_progress_that_comes_too_fast_is_shown_together(tmp_path: Path) -> None:
    async def flood(context: ToolContext) -> str:
        """Report progress faster than it can be read, without a pause."""
        for number in range(100_000):
            context.progress(f"{number} ")
        return "done"

    provider = ScriptedProvider(answer(calls(0, "flood"), stop="tool_use"), answer(says("Good.")))
    async with world_of(tmp_path, provider, flood) as world:
        executor = await started(world)
        subscription = await world.watch(executor.turn.id, str(Cursor(executor.turn.generation, 0)))
        shown = b""
        async with asyncio.timeout(SECONDS):
            while (data := await subscription.next()) is not None:
                shown += data
        assert shown.count(b"event: tool_progress") == 1
        assert b"99999 " in shown
        assert b" 99000 " not in shown
