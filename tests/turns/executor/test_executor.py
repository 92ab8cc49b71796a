"""One turn from its rows to its terminal event, on the real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.turnlog.watching import Client
from tests.turns.executor.texts import text_block
from tests.turns.world import OWNER, SECONDS, Feed, World
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import Source
from turnstream.core.usage import Usage
from turnstream.errors import Overloaded
from turnstream.model_loop.sources import Batches, TurnSource
from turnstream.store.operations.content import SaveBlock

# -- lifecycle
# ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("D1")
async def test_a_turn_is_pending_then_streaming_then_complete(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    turn_id = executor.turn.id
    assert (await world.state(turn_id)).turn.status == "pending"
    await feed.say(ContentBlockStart(0, "text"), TextDelta(0, "a"))
    assert executor.writer.marking is not None
    await executor.writer.marking
    streaming = await world.state(turn_id)
    assert (streaming.turn.status, streaming.open_block, streaming.blocks) == ("streaming", 0, ())
    await feed.say(ContentBlockStop(0))
    assert [row.block.text_content for row in (await world.state(turn_id)).blocks] == ["a"]
    feed.end()
    ended = (await world.ended(turn_id)).turn
    assert (ended.status, ended.stop_reason) == ("complete", "end_turn")
    assert ended.started_at is not None
    assert ended.completed_at is not None
    assert ended.created_at <= ended.started_at <= ended.completed_at


@pytest.mark.requirement("D1", "D7")
async def test_a_turn_that_says_nothing_completes_all_the_same(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    feed.end()
    assert (await world.ended(executor.turn.id)).turn.status == "complete"
    client = await world.watched(executor.turn.id)
    assert [frame.name for frame in client.frames if frame.name != "step_start"] == [
        "turn_start",
        "turn_complete",
    ]


@pytest.mark.requirement("A6", "D7")
async def test_an_ended_turn_is_told_from_its_rows_as_it_was_live(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    turn_id = executor.turn.id
    watching = asyncio.create_task(world.watched(turn_id))
    await feed.say(MessageStart("m"), *text_block(0, "one"), Source("s1", url="https://example.org/"))
    await feed.say(ContentBlockStart(1, "thinking"), ThinkingDelta(1, "hm"), SignatureDelta(1, "sig"))
    feed.put(Metadata(Usage(5, 7)), MessageStop("max_tokens"))
    feed.end()
    live = await watching
    in_memory = await world.watched(turn_id)
    world.registry.forget(turn_id)
    from_rows = await world.watched(turn_id)
    assert live.frames[-1] == in_memory.frames[-1] == from_rows.frames[-1]
    assert live.now.blocks == in_memory.now.blocks == from_rows.now.blocks
    assert live.now.lasting == in_memory.now.lasting == from_rows.now.lasting
    assert from_rows.frames[0] == live.frames[0]
    assert live.frames[-1].data["stop_reason"] == "max_tokens"


# -- blocks
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("B2", "B1")
async def test_a_block_stop_is_shown_only_when_its_block_is_in_the_store(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    subscription = await world.watch(executor.turn.id)
    for number in range(20):
        feed.put(*text_block(number, f"block {number}"))
    feed.end()
    client = Client()
    stops = 0
    async with asyncio.timeout(SECONDS):
        while (data := await subscription.next()) is not None:
            shown = [frame for frame in client.receive(data) if frame.name == "block_stop"]
            if shown:
                stored = {row.block.sequence: row for row in await world.stored(executor.turn.id)}
                for frame in shown:
                    assert stored[frame.data["block_index"]].last_seq == frame.seq
                stops += len(shown)
    assert stops == 20


@pytest.mark.requirement("B2")
async def test_while_a_block_is_being_stored_its_stop_is_not_shown(world: World) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(operation: object) -> None:
        if isinstance(operation, SaveBlock):
            reached.set()
            await go_on.wait()

    world.store.before = hold
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    feed.put(*text_block(0, "one"), *text_block(1, "two"))
    async with asyncio.timeout(SECONDS):
        await reached.wait()
        client = Client()
        subscription = await world.watch(executor.turn.id)
        while subscription.cursor.seq < executor.log.head:
            client.receive(await subscription.next() or b"")
    names = [frame.name for frame in client.frames]
    assert names[-1] == "block_catchup"
    assert not client.frames[-1].data["complete"]
    assert await world.stored(executor.turn.id) == []
    go_on.set()
    feed.end()
    client = await world.watched(executor.turn.id, client)
    assert [block.text_content for block in client.now.blocks] == ["one", "two"]


@pytest.mark.requirement("B2", "B5")
async def test_interleaved_blocks_are_shown_one_at_a_time_in_order(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    watching = asyncio.create_task(world.watched(executor.turn.id))
    await feed.say(
        ContentBlockStart(0, "text"), ContentBlockStart(1, "tool_use", {"tool_use_id": "t", "tool_name": "n"})
    )
    await feed.say(TextDelta(0, "a"), ToolInputDelta(1, '{"x":'), TextDelta(0, "b"), ToolInputDelta(1, "1}"))
    await feed.say(ContentBlockStop(1), ContentBlockStart(2, "text"), TextDelta(2, "c"))
    assert await world.stored(executor.turn.id) == []
    await feed.say(ContentBlockStop(0))
    assert [row.block.sequence for row in await world.stored(executor.turn.id)] == [0, 1]
    feed.end()
    client = await watching
    shown = [
        (frame.name, frame.data["block_index"]) for frame in client.frames if "block_index" in frame.data
    ]
    order = [index for _, index in shown]
    assert order == sorted(order)
    assert client.now.blocks == [row.block for row in await world.stored(executor.turn.id)]
    assert client.now.blocks[1].content == {
        "tool_use_id": "t",
        "tool_name": "n",
        "input": {"x": 1},
        "input_json": '{"x":1}',
    }


@pytest.mark.requirement("B1")
async def test_blocks_of_one_type_stay_apart_and_each_is_written_once(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    watchers = [asyncio.create_task(world.watched(executor.turn.id)) for _ in range(5)]
    await feed.say(*text_block(0, "one"), *text_block(1, "two"))
    feed.end()
    for client in await asyncio.gather(*watchers):
        assert [block.text_content for block in client.now.blocks] == ["one", "two"]
    assert len(world.store.times_of(SaveBlock)) == 2


# -- usage
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("I1", "E8")
async def test_usage_is_cumulative_within_a_call_and_may_come_after_the_end_marker(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    watching = asyncio.create_task(world.watched(executor.turn.id))
    feed.put(Metadata(Usage(input_tokens=45, output_tokens=1)), *text_block(0, "x"))
    feed.put(Metadata(Usage(output_tokens=8)), MessageStop("end_turn"))
    feed.put(Metadata(Usage(output_tokens=12, cache_read_tokens=3)))
    feed.end()
    client = await watching
    turn = (await world.ended(executor.turn.id)).turn
    assert turn.usage == Usage(45, 12, cache_read_tokens=3)
    assert client.frames[-1].data["input_tokens"] == 45
    assert client.frames[-1].data["output_tokens"] == 12
    reports = [frame.data["usage"] for frame in client.frames if frame.name == "usage"]
    assert reports[-1] == {"input_tokens": 45, "output_tokens": 12, "cache_read_tokens": 3}


@pytest.mark.requirement("I3")
@pytest.mark.parametrize("ending", ["error", "interrupt"])
async def test_usage_survives_an_early_end(world: World, ending: str) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    await feed.say(Metadata(Usage(45, 3)), TextDelta(0, "half"))
    if ending == "error":
        feed.end(Overloaded("no"))
    else:
        await world.commands.interrupt(OWNER, executor.turn.id)
    assert (await world.ended(executor.turn.id)).turn.usage == Usage(45, 3)


class Steps(TurnSource):
    """A source of several steps, like a loop of model calls and tools."""

    needs_end_marker = True

    def __init__(self, *steps: list[StreamEvent]) -> None:
        self._steps = steps

    def step(self, number: int) -> Any:
        return self._open(self._steps[number]) if number < len(self._steps) else None

    @asynccontextmanager
    async def _open(self, events: list[StreamEvent]) -> AsyncIterator[Batches]:
        async def batches() -> AsyncIterator[list[StreamEvent]]:
            for event in events:
                yield [event]

        yield batches()


@pytest.mark.requirement("I1", "B3")
async def test_steps_add_their_usage_and_their_block_indices_go_on(world: World) -> None:
    steps = Steps(
        [*text_block(0, "one"), Metadata(Usage(10, 2)), MessageStop("tool_use")],
        [*text_block(0, "two"), Metadata(Usage(20, 3)), MessageStop("end_turn")],
    )
    executor = await world.start(steps)
    client = await world.watched(executor.turn.id)
    turn = (await world.ended(executor.turn.id)).turn
    assert turn.usage == Usage(30, 5)
    assert [block.sequence for block in client.now.blocks] == [0, 1]
    assert turn.stop_reason == "end_turn"


@pytest.mark.requirement("D6", "P5")
async def test_a_step_without_its_end_marker_is_an_error(world: World) -> None:
    executor = await world.start(Steps([ContentBlockStart(0, "text"), TextDelta(0, "half")]))
    client = await world.watched(executor.turn.id)
    turn = (await world.ended(executor.turn.id)).turn
    assert (turn.status, turn.error_code) == ("error", "stream_incomplete")
    assert client.now.blocks == [Block(0, "text", "half", partial=True)]
    assert client.frames[-1].name == "turn_error"
