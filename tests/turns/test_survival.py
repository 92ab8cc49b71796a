"""Turns whose model calls fail: the shown and the stored blocks, and the calls that run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.turns.failing import world_of
from tests.turns.tools.scripted import ScriptedProvider, answer, blocks_of, calls, results, says
from tests.turns.world import SECONDS, Feed, World, logged
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from turnstream.core.turn_events import BlockReset
from turnstream.errors import StoreError
from turnstream.providers.decisions import RetryPolicy
from turnstream.store.base import Operation
from turnstream.store.journal.queries import Journal
from turnstream.store.operations.progress import RetractBlocks
from turnstream.tools import tool


def cut(*blocks: list[Any]) -> list[Any]:
    """An answer that breaks off."""
    return answer(*blocks, stop=None)


def thinks(text: str, *, whole: bool = True) -> list[StreamEvent]:
    stop = [ContentBlockStop(0)] if whole else []
    return [ContentBlockStart(0, "thinking"), ThinkingDelta(0, text), *stop]


@pytest.mark.requirement("J4", "G5")
async def test_calls_of_a_failed_attempt_are_discarded_and_run_once_when_they_come_again(
    tmp_path: Path,
) -> None:
    ran: list[str] = []

    def look(place: str) -> str:
        """Look somewhere."""
        ran.append(place)
        return f"seen {place}"

    provider = ScriptedProvider(
        cut(thinks("hm"), calls(1, "look", '{"place": "there"}'), calls(2, "look", '{"pla')[:2]),
        answer(says("Now."), calls(1, "look", '{"place": "here"}', identity="again"), stop="tool_use"),
        answer(says("Done.")),
    )
    async with world_of(tmp_path, {"a": provider}, look) as world:
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        client = await world.watched(turn_id)
        blocks = await blocks_of(world, turn_id)
        state = await world.ended(turn_id)
        assert state.turn.status == "complete"
        assert ran == ["here"]
        assert [(b.sequence, b.block_type) for b in blocks] == [
            (0, "text"),
            (1, "tool_use"),
            (2, "tool_result"),
            (3, "text"),
        ]
        assert results(blocks) == [("again", "seen here", False)]
        assert client.now.blocks == blocks
        assert client.frames[-1].data["total_blocks"] == 4
        names = [frame.name for frame in client.frames]
        assert names.count("block_reset") == 1
        assert names.index("notice") < names.index("block_reset")
        assert [attempt.outcome for attempt in state.attempts] == [
            "stream_incomplete",
            "complete",
            "complete",
        ]
        assert [(attempt.step, attempt.number) for attempt in state.attempts] == [(0, 1), (0, 2), (1, 1)]


@pytest.mark.requirement("G5")
async def test_a_step_whose_tool_was_started_is_not_restarted(tmp_path: Path) -> None:
    ran: list[str] = []
    has_run = asyncio.Event()

    @tool(idempotent=True)
    async def look(place: str) -> str:
        """Look somewhere."""
        ran.append(place)
        has_run.set()
        return "seen"

    async def late() -> StreamEvent:
        await has_run.wait()
        return TextDelta(2, "And")

    provider = ScriptedProvider(
        cut(calls(1, "look", '{"place": "there"}'), [ContentBlockStart(2, "text"), late]),
        answer(says("Never.")),
    )
    async with world_of(tmp_path, {"a": provider}, look) as world:
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        state = await world.ended(turn_id)
        assert (state.turn.status, state.turn.error_code) == ("error", "stream_incomplete")
        assert ran == ["there"]
        assert len(provider.asked) == 1
        assert [row.block.block_type for row in state.blocks] == ["tool_use", "text", "tool_result"]


@pytest.mark.requirement("A4", "J4")
async def test_an_interrupt_while_an_attempt_is_waited_for_keeps_what_was_shown(tmp_path: Path) -> None:
    slow = RetryPolicy(delay=60.0, max_delay=60.0, budget=600.0)
    provider = ScriptedProvider([MessageStart("m"), *says("Once upon")[:2]])
    async with world_of(tmp_path, {"a": provider}, retry=slow) as world:
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        executor = world.executor(turn_id)
        await logged(
            executor, lambda log: log.head >= 5
        )  # turn_start, step_start, block_start, delta, notice
        async with asyncio.timeout(SECONDS):
            state = await world.commands.interrupt("local", turn_id)
        assert state.turn.status == "cancelled"
        assert [(row.block.text_content, row.block.partial) for row in state.blocks] == [("Once upon", True)]
        assert [attempt.outcome for attempt in state.attempts] == ["stream_incomplete"]


@pytest.mark.requirement("D5", "J4")
async def test_a_crash_after_blocks_were_taken_back_keeps_only_what_replaced_them(tmp_path: Path) -> None:
    stays = asyncio.Event()

    async def never() -> StreamEvent:
        await stays.wait()
        return TextDelta(1, "never")

    provider = ScriptedProvider(
        cut(thinks("a thought that is taken back"), says("Old text, a long one", 1)[:2]),
        [MessageStart("m"), ContentBlockStart(0, "text"), TextDelta(0, "New"), never],
    )
    async with world_of(tmp_path, {"a": provider}) as world:
        await world.journal.write()  # from now on it writes what is new
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        executor = world.executor(turn_id)
        old = [segment for segment in [executor.journal_part()] if segment is not None]
        await logged(executor, lambda log: log.open_block is not None and log.open_block.sequence == 1)
        stale = executor.journal_part()
        assert stale is not None
        await logged(executor, lambda log: bool(log.resets) and log.open_block is not None)
        await logged(executor, lambda log: log.open_block is not None and log.open_block.length == 3)
        world.journal._unwritten.extend([*old, stale])  # gathered before, and written only now
        await world.journal.write()
        segments = await world.store.read(Journal(turn_id=turn_id))
        assert [(segment.sequence, segment.text) for segment in segments] == [(0, "New")]
        early = await world.watch(turn_id)
        assert early is not None
        await world.crash()
    async with World(tmp_path / "turns.sqlite") as again:
        state = await again.state(turn_id)
        assert (state.turn.status, state.turn.error_code) == ("error", "orphaned")
        assert [(row.block.sequence, row.block.text_content) for row in state.blocks] == [(0, "New")]
        assert state.turn.resets
        client = await again.watched(turn_id)
        assert client.now.blocks == [row.block for row in state.blocks]


@pytest.mark.requirement("D3")
async def test_where_blocks_cannot_be_taken_back_the_turn_ends_with_them(tmp_path: Path) -> None:
    provider = ScriptedProvider(cut(thinks("hm"), says("Old", 1)), answer(says("New")))

    async def refuse(operation: Operation[Any]) -> None:
        if isinstance(operation, RetractBlocks):
            raise StoreError("no room")

    async with world_of(tmp_path, {"a": provider}) as world:
        world.store.before = refuse
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        client = await world.watched(turn_id)
        state = await world.ended(turn_id)
        assert state.turn.error_code == "database_error"
        assert [row.block.text_content for row in state.blocks] == ["hm", "Old"]
        assert client.now.blocks == [row.block for row in state.blocks]


@pytest.mark.requirement("D3", "J4")
async def test_blocks_are_taken_back_once_where_the_answer_of_storage_is_lost(tmp_path: Path) -> None:
    provider = ScriptedProvider(cut(thinks("hm"), thinks("hm")), answer(says("New")))
    lost: list[RetractBlocks] = []

    async def lose(operation: Operation[Any]) -> None:
        if isinstance(operation, RetractBlocks) and not lost:
            lost.append(operation)
            raise StoreError("nobody heard whether it was written")

    async with world_of(tmp_path, {"a": provider}) as world:
        world.store.after = lose
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        executor = world.executor(turn_id)
        client = await world.watched(turn_id)
        state = await world.ended(turn_id)
        assert lost
        assert len(state.turn.resets) == 1
        assert executor.blocks_completed == 1
        assert client.now.blocks == [row.block for row in state.blocks]


async def test_what_nobody_was_shown_is_taken_back_without_a_word(tmp_path: Path) -> None:
    """The block that stays open is journalled on. After a crash, none of it is missing."""
    feed = Feed()
    async with World(tmp_path / "turns.sqlite") as world:
        executor = await world.start_foreign(feed.events())
        await feed.say(ContentBlockStart(0, "text"), TextDelta(0, "One "), ContentBlockStart(1, "text"))
        await world.journal.write()
        await feed.say(TextDelta(0, "two "))
        await world.journal.write()
        await feed.say(BlockReset(1), TextDelta(0, "three"), ContentBlockStart(2, "text"))
        await world.journal.write()
        assert executor.log.resets == ()
        segments = await world.store.read(Journal(turn_id=executor.turn.id))
        assert "".join(segment.text for segment in segments) == "One two three"
        await feed.say(ContentBlockStop(0), TextDelta(2, "and"), ContentBlockStop(2))
        assert [row.block.sequence for row in await world.stored(executor.turn.id)] == [0, 1]
        feed.end()
        await world.ended(executor.turn.id)
