"""Recovery ends every turn of a dead process, with the journal's text of its open block."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.turnlog.watching import Client
from tests.turns.world import OWNER, Feed, World, shows_text, write_lock
from turnstream.config import PriceSettings
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import Source
from turnstream.core.usage import StepUsage, Usage
from turnstream.providers.pricing import Pricing
from turnstream.store.journal.pages import JournalSegment, partial_blocks
from turnstream.store.journal.queries import Journal
from turnstream.store.queries import UnfinishedTurns
from turnstream.turns.executor import Executor
from turnstream.turns.takeover.lost_usage import model_calls
from turnstream.turns.takeover.positions import unanswered_calls


async def live(world: World, executor: Executor) -> Client:
    """A client that has received all events so far."""
    client = Client()
    subscription = await world.watch(executor.turn.id)
    while subscription.cursor.seq < executor.log.head:
        client.receive(await subscription.next() or b"")
    return client


@pytest.mark.requirement("D5", "P3", "C3")
async def test_after_a_crash_a_turn_is_ended_with_what_was_journalled(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        turn_id = executor.turn.id
        await feed.say(ContentBlockStart(0, "text"), TextDelta(0, "whole"), ContentBlockStop(0), Source("s1"))
        await feed.say(ContentBlockStart(1, "text"), TextDelta(1, "kept"))
        early = await live(world, executor)
        await world.journal.write()
        await feed.say(TextDelta(1, " also kept"))
        await world.journal.write()
        kept = await live(world, executor)
        await feed.say(TextDelta(1, " and lost"))
        lost = await live(world, executor)
        assert lost.now.blocks[1].text_content == "kept also kept and lost"
        await world.crash()
    async with World(path) as world:
        assert world.recovered == 1
        state = await world.state(turn_id)
        expected = [Block(0, "text", "whole"), Block(1, "text", "kept also kept", partial=True)]
        assert (state.turn.status, state.turn.error_code) == ("error", "orphaned")
        assert [row.block for row in state.blocks] == expected
        for client, told in [(early, False), (kept, False), (lost, True), (Client(), False)]:
            await world.watched(turn_id, client)
            assert client.now.blocks == expected
            assert len(client.terminal_events()) == 1
            codes = [frame.data.get("code") for frame in client.connection]
            assert ("truncated" in codes) == told
            again = await world.watch(turn_id, client.cursor)
            assert again.at_end
        assert await world.store.read(Journal(turn_id=turn_id)) == []
        assert await world.commands.recovery.end_all() == 0


PRICES = {"sim/*": PriceSettings(input_per_million=Decimal(3), output_per_million=Decimal(15))}


@pytest.mark.requirement("I3", "D5")
async def test_what_a_lost_turn_used_is_estimated_from_what_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        first = await world.ask("hello", model="sim/echo:pace=0")
        await world.ended(first.assistant_turn.id)
        following = await world.ask(
            "é" * 50,
            chat_id=first.assistant_turn.chat_id,
            prev_turn_id=first.assistant_turn.id,
            system="s" * 13,
            model="sim/story:events=100000,pace=0.001",
        )
        turn_id = following.assistant_turn.id
        await shows_text(world.executor(turn_id))
        await world.journal.write()
        unasked = await world.ask("never", model="sim/demo:fault=hang")
        await world.crash()
    async with World(path, pricing=Pricing(PRICES)) as world:
        state = await world.state(turn_id)
        said = sum(len(row.block.text_content or "") for row in state.blocks)
        asked = len("hello") + len("hello") + 2 * 50 + 13  # the first turn is echoed
        usage = Usage(math.ceil(asked / 4), math.ceil(said / 4))
        cost = f"{Decimal(usage.input_tokens or 0) * 3 / 10**6 + Decimal(usage.output_tokens or 0) * 15 / 10**6:.6f}"
        assert said
        assert (state.turn.usage, state.turn.cost_estimated) == (usage, True)
        assert state.turn.cost == cost
        assert state.turn.steps == (
            StepUsage(0, "sim/story:events=100000,pace=0.001", usage, cost, estimated=True),
        )
        client = await world.watched(turn_id)
        assert client.frames[-1].data["cost"] == cost
        assert client.frames[-1].data["estimated"] is True
        nothing = (await world.state(unasked.assistant_turn.id)).turn
        assert (nothing.usage, nothing.cost, nothing.steps) == (Usage(), None, ())


@pytest.mark.requirement("G5", "D5")
def test_a_turn_s_calls_of_models_and_of_tools_are_known_by_its_blocks() -> None:
    def call(sequence: int, identity: str, **more: Any) -> Block:
        return Block(sequence, "tool_use", None, {"tool_use_id": identity, "tool_name": "f", **more})

    def result(sequence: int, identity: str, *, partial: bool = False) -> Block:
        return Block(sequence, "tool_result", None, {"tool_use_id": identity, "content": "ok"}, partial)

    said = Block(0, "text", "a")
    step = [said, call(1, "x"), call(2, "x"), result(3, "x")]
    assert model_calls([]) == [([], [])]
    assert model_calls(step) == [([], step)]
    assert model_calls([*step, Block(4, "text", "b")]) == [([], step), (step, [Block(4, "text", "b")])]
    assert unanswered_calls(step) == [call(2, "x")]
    assert unanswered_calls([*step, result(4, "x", partial=True)]) == [call(2, "x")]
    assert unanswered_calls([*step, result(4, "x")]) == []
    assert unanswered_calls([call(0, "s", provider_executed=True)]) == []
    assert unanswered_calls([Block(0, "tool_use", None, call(0, "x").content, partial=True)]) == []


@pytest.mark.requirement("D5")
async def test_every_kind_of_open_block_is_recovered_as_it_was_shown(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    scripts: list[list[StreamEvent]] = [
        [ThinkingDelta(0, "hm"), SignatureDelta(0, "si"), SignatureDelta(0, "g")],
        [
            ContentBlockStart(0, "tool_use", {"tool_use_id": "t", "tool_name": "n"}),
            ToolInputDelta(0, '{"a": [1'),
        ],
        [TextDelta(0, "see "), ContentDelta(0, {"citations": [1]}), ContentDelta(0, {"citations": [2]})],
        [TextDelta(0, "emoji 🙂\r\n\u2028"), TextDelta(0, "half \ud83d")],
        [ContentBlockStart(0, "provider", {"raw": {"x": None}})],
    ]
    shown: dict[str, list[Block]] = {}
    async with World(path) as world:
        for script in scripts:
            feed = Feed()
            executor = await world.start_foreign(feed.events())
            for event in script:
                await feed.say(event)
                await world.journal.write()
            shown[executor.turn.id] = (await live(world, executor)).now.blocks
        await world.crash()
    async with World(path) as world:
        assert world.recovered == len(scripts)
        for turn_id, blocks in shown.items():
            client = await world.watched(turn_id)
            assert client.now.blocks == blocks == [row.block for row in await world.stored(turn_id)]


@pytest.mark.requirement("D5")
async def test_a_turn_that_had_not_begun_is_ended_too(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        executor = await world.start_foreign(Feed().events())
        before = await live(world, executor)
        await world.crash()
    async with World(path) as world:
        assert world.recovered == 1
        client = await world.watched(executor.turn.id, before)
        assert client.frames[-1].data["code"] == "orphaned"
        assert client.now.blocks == []


@pytest.mark.requirement("P3", "C3")
async def test_numbers_of_a_lost_generation_are_never_given_again(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        await feed.say(TextDelta(0, "half"))
        await world.journal.write()
        head, generation = executor.log.head, executor.log.generation
        await world.crash()
    async with World(path) as world:
        turn = (await world.state(executor.turn.id)).turn
        assert turn.generation == generation + 1
        assert turn.last_seq > head
        assert turn.fences == ((generation, head),)
        client = await world.watched(executor.turn.id)
        assert client.frames[-1].seq == turn.last_seq


@pytest.mark.requirement("D1")
async def test_a_turn_that_has_ended_is_not_recovered(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    before = executor.turn
    feed.end()
    ended = await world.ended(executor.turn.id)
    assert not await world.commands.recovery.end(before)
    assert (await world.state(executor.turn.id)).turn == ended.turn


@pytest.mark.requirement("A4", "D5")
async def test_interrupting_a_turn_that_nobody_writes_ends_it(tmp_path: Path) -> None:
    """Its executor is gone from this process, and its rows are not recovered yet."""
    async with World(tmp_path / "turns.sqlite") as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        await feed.say(TextDelta(0, "half"))
        await world.journal.write()
        assert executor.task is not None
        executor.task.cancel()
        await asyncio.wait([executor.task])
        assert len(await world.store.read(UnfinishedTurns())) == 1
        state = await world.commands.interrupt(OWNER, executor.turn.id)
        assert (state.turn.status, state.turn.error_code) == ("error", "orphaned")
        assert [row.block.text_content for row in state.blocks] == ["half"]


@pytest.mark.requirement("D5")
async def test_the_journal_sends_again_what_storage_refused(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path, store_timeout=0.2) as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        await feed.say(TextDelta(0, "one "))
        assert executor.writer.marking is not None
        await executor.writer.marking
        with write_lock(path):
            await world.journal.write()
            await feed.say(TextDelta(0, "two "))
            await world.journal.write()
        await feed.say(TextDelta(0, "three"))
        await world.journal.write()
        await world.crash()
    async with World(path) as world:
        state = await world.state(executor.turn.id)
        assert [row.block.text_content for row in state.blocks] == ["one two three"]


async def test_the_journal_writes_only_what_is_new_and_nothing_of_stored_blocks(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    turn_id = executor.turn.id
    for word in ("a", "b", "c"):
        await feed.say(TextDelta(0, word))
        await world.journal.write()
        await world.journal.write()
    segments = await world.store.read(Journal(turn_id=turn_id))
    assert [segment.text for segment in segments] == ["a", "b", "c"]
    await feed.say(ContentBlockStop(0), TextDelta(1, "next"))
    assert await world.store.read(Journal(turn_id=turn_id)) == []
    await world.journal.write()
    assert [segment.sequence for segment in await world.store.read(Journal(turn_id=turn_id))] == [1]
    feed.end()
    await world.ended(turn_id)
    await world.journal.write()
    assert await world.store.read(Journal(turn_id=turn_id)) == []


def test_segments_fold_into_the_block_that_they_are_of() -> None:
    def segment(sequence: int, number: int, text: str, content: dict[str, object] | None) -> JournalSegment:
        return JournalSegment("t", sequence, number, "text", 10 * sequence + 2, 0, text, content)

    blocks = partial_blocks(
        [
            segment(0, 0, "a", {"k": 1}),
            segment(0, 1, "b", None),
            segment(0, 2, "c", {"k": 2}),
            segment(1, 0, "d", None),
        ]
    )
    assert blocks == [
        (Block(0, "text", "abc", {"k": 2}, partial=True), 2),
        (Block(1, "text", "d", partial=True), 12),
    ]
