"""Turns that end amid their tools: cut arguments, tools of the client, interrupts, crashes."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from pathlib import Path

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
from tests.turns.world import OWNER, SECONDS, logged
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    StopReason,
)
from turnstream.errors import StreamIncomplete
from turnstream.tools.ledger import OUTCOME_UNKNOWN
from turnstream.turns.commands import TurnRequest
from turnstream.wires.base import ToolDefinition


@pytest.mark.requirement("B4", "G3")
@pytest.mark.parametrize("stop", ["tool_use", "max_tokens", None])
async def test_arguments_cut_anywhere_are_run_only_when_they_are_whole(
    tmp_path: Path, stop: StopReason | None
) -> None:
    arguments = '{"path": "a\\u00e9", "depth": 2}'
    ran: list[tuple[str, int]] = []

    def remove(path: str, depth: int) -> str:
        """Do what must not be done by mistake."""
        ran.append((path, depth))
        return "removed"

    provider = ScriptedProvider(answer(says("-")))
    async with world_of(tmp_path, provider, remove) as world:
        for end in range(len(arguments) + 1):
            for is_stopped in (True, False):
                ran.clear()
                cut = calls(0, "remove", arguments[:end])[: None if is_stopped else -1]
                provider.asked.clear()
                provider._answers[:] = [answer(cut, stop=stop), answer(says("Then."))]
                turn_id = (await world.ask("go")).assistant_turn.id
                state = await world.ended(turn_id)
                whole = end == len(arguments) and stop is not None
                assert ran == ([("aé", 2)] if whole else []), (end, is_stopped)
                if stop is None:
                    assert (state.turn.status, state.turn.error_code) == ("error", StreamIncomplete.code)
                else:
                    assert state.turn.status == "complete"
                    (result,) = results([row.block for row in state.blocks])
                    assert result[2] is not whole


@pytest.mark.requirement("G6")
async def test_a_tool_of_the_client_ends_the_turn_and_its_result_comes_with_the_next(tmp_path: Path) -> None:
    def ours() -> str:
        """Run here."""
        return "here"

    theirs = ToolDefinition("theirs", "Run in the client.", {"type": "object"})
    provider = ScriptedProvider(
        answer(calls(0, "ours"), calls(1, "theirs"), stop="tool_use"), answer(says("Both."))
    )
    async with world_of(tmp_path, provider, ours) as world:
        started = await world.ask("go", tools=("ours", theirs))
        turn = started.assistant_turn
        blocks = await blocks_of(world, turn.id)
        assert results(blocks) == [("call-0", "here", False)]
        state = await world.state(turn.id)
        assert (state.turn.status, state.turn.stop_reason) == ("complete", "tool_use")
        result = Block(0, "tool_result", None, {"tool_use_id": "call-1", "content": "there"})
        request = TurnRequest(
            chat_id=turn.chat_id, prev_turn_id=turn.id, blocks=(result,), tools=("ours", theirs)
        )
        answered = await world.commands.send(OWNER, request)
        assert (await world.ended(answered.assistant_turn.id)).turn.status == "complete"
        told = [
            ((block.content or {})["tool_use_id"], (block.content or {})["content"])
            for block in provider.asked[-1].messages[-1].blocks
        ]
        assert told == [("call-0", "here"), ("call-1", "there")]


@pytest.mark.requirement("G5", "A4")
async def test_an_interrupt_gives_pending_calls_a_result_and_stops_their_functions(tmp_path: Path) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    def quick() -> str:
        """End at once."""
        return "quick"

    async def endless() -> str:
        """Never end."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    provider = ScriptedProvider(
        answer(calls(0, "quick"), calls(1, "endless"), calls(2, "endless"), stop="tool_use"),
        answer(says("On.")),
    )
    async with world_of(tmp_path, provider, quick, endless) as world:
        executor = await started(world)
        await logged(executor, lambda _log: executor.blocks_completed == 4)
        async with asyncio.timeout(SECONDS):
            await begun.wait()
            state = await world.commands.interrupt(OWNER, executor.turn.id)
        assert stopped.is_set()
        assert state.turn.status == "cancelled"
        blocks = [row.block for row in await world.stored(executor.turn.id)]
        assert results(blocks) == [
            ("call-0", "quick", False),
            ("call-1", "cancelled", True),
            ("call-2", "cancelled", True),
        ]
        client = await world.watched(executor.turn.id)
        assert client.now.blocks == blocks
        following = await world.ask("go on", chat_id=state.turn.chat_id, prev_turn_id=state.turn.id)
        assert (await world.ended(following.assistant_turn.id)).turn.status == "complete"


@pytest.mark.requirement("G5", "P4")
async def test_a_crash_within_a_tool_leaves_a_history_that_goes_on(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> str:
        """Never end."""
        begun.set()
        await asyncio.Event().wait()
        return "never"

    provider = ScriptedProvider(
        answer(says("Now."), calls(1, "endless"), stop="tool_use"), answer(says("On."))
    )
    async with world_of(tmp_path, provider, endless) as world:
        executor = await started(world)
        async with asyncio.timeout(SECONDS):
            await begun.wait()
        turn = executor.turn
        await world.crash()
    async with world_of(tmp_path, provider, endless) as world:
        state = await world.state(turn.id)
        assert (state.turn.status, state.turn.error_code) == ("error", "orphaned")
        assert results([row.block for row in state.blocks]) == [("call-1", OUTCOME_UNKNOWN.text, True)]
        client = await world.watched(turn.id)
        assert client.now.blocks == [row.block for row in state.blocks]
        following = await world.ask("go on", chat_id=turn.chat_id, prev_turn_id=turn.id)
        assert (await world.ended(following.assistant_turn.id)).turn.status == "complete"
        blocks = provider.asked[-1].messages[-1].blocks
        assert (blocks[0].content or {})["is_error"] is True


@pytest.mark.requirement("D5")
async def test_a_tool_is_not_silence(tmp_path: Path) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def long() -> str:
        """Take longer than a turn may be silent."""
        begun.set()
        await release.wait()
        return "at last"

    provider = ScriptedProvider(answer(calls(0, "long"), stop="tool_use"), answer(says("Yes.")))
    async with world_of(tmp_path, provider, long) as world:
        executor = await started(world)
        async with asyncio.timeout(SECONDS):
            await begun.wait()
        await world.registry.sweep(asyncio.get_running_loop().time() + 10_000)
        release.set()
        assert (await world.ended(executor.turn.id)).turn.status == "complete"


@pytest.mark.requirement("E3")
@pytest.mark.parametrize("reason", ["refusal", "content_filtered", "guardrail_intervened"])
async def test_what_a_broken_off_answer_called_is_not_run(tmp_path: Path, reason: StopReason) -> None:
    ran: list[int] = []

    def act() -> None:
        """Act."""
        ran.append(1)

    provider = ScriptedProvider(answer(calls(0, "act"), stop=reason), answer(says("Yes.")))
    async with world_of(tmp_path, provider, act) as world:
        state = await world.ended((await world.ask("go")).assistant_turn.id)
        assert (state.turn.status, state.turn.stop_reason, ran) == ("complete", reason, [])


@pytest.mark.requirement("E3")
async def test_a_paused_turn_is_taken_up_again(tmp_path: Path) -> None:
    provider = ScriptedProvider(answer(says("Searching"), stop="pause_turn"), answer(says(" found.")))
    async with world_of(tmp_path, provider) as world:
        state = await world.ended((await world.ask("go")).assistant_turn.id)
        assert [row.block.text_content for row in state.blocks] == ["Searching", " found."]
        assert provider.asked[1].messages[-1].role == "assistant"
