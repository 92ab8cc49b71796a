"""One turn from its rows to its terminal event, on the real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.turnlog.watching import Client
from tests.turns.world import OWNER, SECONDS, Feed, World, shows_text, stop_of, write_lock
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import Data, Notice, Source, StepStart, ToolProgress, TurnComplete
from turnstream.core.usage import Usage
from turnstream.errors import Overloaded, RateLimited
from turnstream.model_loop.sources import Batches, TurnSource
from turnstream.store.operations import SaveBlock
from turnstream.store.queries import AnnotationsAfter


def text_block(index: int, text: str) -> tuple[StreamEvent, ...]:
    return ContentBlockStart(index, "text"), TextDelta(index, text), ContentBlockStop(index)


# -- lifecycle ------------------------------------------------------------------------------------------------------


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


# -- blocks ---------------------------------------------------------------------------------------------------------


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


# -- usage ----------------------------------------------------------------------------------------------------------


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
    """A source of several steps, as a loop of model calls and tools is one."""

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


# -- foreign sources ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("F7")
async def test_events_of_the_source_s_own_last_or_pass(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    turn_id = executor.turn.id
    early = await world.watch(turn_id)
    client = Client()
    client.receive(await early.next() or b"")
    await feed.say(Data("plan", {"step": 1}), Data("live", 2, transient=True), Source("s1", title="One"))
    await feed.say(Notice("info", "kept"), StepStart(7), ToolProgress("t", "…"), TextDelta(0, "text"))
    while early.cursor.seq < executor.log.head:
        client.receive(await early.next() or b"")
    names = [frame.name for frame in client.frames]
    assert [names.count(name) for name in ("data", "source", "notice", "tool_progress")] == [2, 1, 1, 1]
    late = await world.watch(turn_id)
    second = Client()
    while late.cursor.seq < executor.log.head:
        second.receive(await late.next() or b"")
    assert [frame.name for frame in second.frames] == [
        "turn_start",
        "data",
        "source",
        "notice",
        "block_catchup",
    ]
    rows = await world.store.read(AnnotationsAfter(turn_id=turn_id, seq=0, limit=10))
    assert len(rows) == 3
    feed.end()


@pytest.mark.requirement("F7", "D4", "K3")
@pytest.mark.parametrize(
    ("error", "code", "debug_words"),
    [
        (RateLimited("slow down", detail="account 77"), "rate_limit_error", "slow down: account 77"),
        (ValueError("secret inside"), "source_error", "ValueError: secret inside"),
    ],
)
async def test_a_source_s_exception_is_the_turn_s_error(
    tmp_path: Path, error: Exception, code: str, debug_words: str
) -> None:
    for debug in (False, True):
        async with World(tmp_path / f"{debug}.sqlite", debug=debug) as world:
            feed = Feed()
            executor = await world.start_foreign(feed.events())
            await feed.say(TextDelta(0, "half"))
            feed.end(error)
            turn = (await world.ended(executor.turn.id)).turn
            assert (turn.status, turn.error_code) == ("error", code)
            assert (turn.error_message == debug_words) == debug
            client = await world.watched(executor.turn.id)
            assert client.frames[-1].data["error"] == turn.error_message
            assert client.now.blocks == [Block(0, "text", "half", partial=True)]


@pytest.mark.requirement("D4")
async def test_an_error_inside_the_stream_keeps_what_came_before(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    feed.put(*text_block(0, "whole"), TextDelta(1, "half"))
    feed.put(StreamError("throttling", "rate_limit_error", "too many"))
    feed.end()
    client = await world.watched(executor.turn.id)
    turn = (await world.ended(executor.turn.id)).turn
    assert turn.error_code == "rate_limit_error"
    assert client.now.blocks == [Block(0, "text", "whole"), Block(1, "text", "half", partial=True)]
    assert client.frames[-1].data["blocks_completed"] == 1


@pytest.mark.requirement("F7", "E7")
async def test_an_interrupt_closes_the_source(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    await feed.say(TextDelta(0, "half"))
    await world.commands.interrupt(OWNER, executor.turn.id)
    assert feed.closed.is_set()


@pytest.mark.parametrize(
    "wrong",
    [
        TextDelta(0, b"bytes"),  # type: ignore[arg-type]
        TextDelta(0, None),  # type: ignore[arg-type]
        SignatureDelta(0, "\ud800"),
        ContentBlockStart(0, "text", {"at": object()}),
        ContentBlockStart(0, "sonnet"),  # type: ignore[arg-type]
        Data("d", object()),
        Source(object()),  # type: ignore[arg-type]
        TurnComplete("end_turn", None, None, 0),
        {"type": "text_delta", "index": 0, "text": "a dictionary"},
        "text",
        None,
    ],
    ids=lambda event: repr(event).partition(" at 0x")[0],
)
@pytest.mark.requirement("F7")
async def test_what_is_no_event_ends_its_own_turn_and_nothing_else(world: World, wrong: Any) -> None:
    healthy, feed = Feed(), Feed()
    other = await world.start_foreign(healthy.events())
    await healthy.say(TextDelta(0, "fine"))
    executor = await world.start_foreign(feed.events())
    watching = asyncio.create_task(world.watched(executor.turn.id))
    await feed.say(TextDelta(0, "good"))
    feed.put(TextDelta(0, " and "), wrong, TextDelta(0, "never"))
    client = await watching
    turn = (await world.ended(executor.turn.id)).turn
    assert (turn.status, turn.error_code) == ("error", "source_error")
    assert client.now.blocks == [row.block for row in await world.stored(executor.turn.id)]
    assert executor.unsaved is None
    await world.journal.write()
    healthy.end()
    assert (await world.ended(other.turn.id)).turn.status == "complete"


async def test_half_a_character_at_the_end_is_shown_as_it_is_stored(world: World) -> None:
    """Who joins while the end is being stored must not get the mended half twice."""
    joined: list[Client] = []

    async def join(operation: object) -> None:
        if type(operation).__name__ == "FinishTurn":
            subscription = await world.watch(executor.turn.id)
            client = Client()
            while subscription.cursor.seq < executor.log.head:
                client.receive(await subscription.next() or b"")
            joined.append(client)

    feed = Feed()
    executor = await world.start_foreign(feed.events())
    await feed.say(TextDelta(0, "half \ud83d"))
    world.store.before = join
    await world.commands.interrupt(OWNER, executor.turn.id)
    client = await world.watched(executor.turn.id, joined[0])
    assert client.now.blocks == [Block(0, "text", "half \ufffd", partial=True)]
    assert [row.block for row in await world.stored(executor.turn.id)] == client.now.blocks


# -- interrupts, phase by phase -------------------------------------------------------------------------------------


class SlowOpening(TurnSource):
    """A source whose stream takes for ever to open."""

    needs_end_marker = True

    def __init__(self) -> None:
        self.opening, self.left = asyncio.Event(), asyncio.Event()

    def step(self, number: int) -> Any:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Batches]:
        self.opening.set()
        try:
            await asyncio.get_running_loop().create_future()
            raise AssertionError
            yield
        finally:
            self.left.set()


@pytest.mark.requirement("A4")
async def test_interrupt_while_the_stream_opens(world: World) -> None:
    source = SlowOpening()
    executor = await world.start(source)
    await source.opening.wait()
    state = await world.commands.interrupt(OWNER, executor.turn.id)
    assert state.turn.status == "cancelled"
    assert source.left.is_set()


@pytest.mark.requirement("A4")
async def test_interrupt_before_the_rows_are_committed(world: World) -> None:
    """The upstream request may be out already; the turn exists, and has been cancelled."""
    chat_id = await world.chat()
    source = SlowOpening()
    with write_lock(world.path):
        starting = asyncio.create_task(world.start(source, chat_id=chat_id))
        await source.opening.wait()
        (executor,) = world.registry._active.values()
        executor.stop("cancelled")
        await source.left.wait()
        assert not executor.ended.is_set()
    await starting
    state = await world.ended(executor.turn.id)
    assert state.turn.status == "cancelled"
    client = await world.watched(executor.turn.id)
    assert [frame.name for frame in client.frames] == ["turn_start", "turn_cancelled"]


@pytest.mark.requirement("A4")
@pytest.mark.parametrize(
    "model",
    ["sim/demo:fault=hang", "sim/demo:fault=silence,after=6,pace=0", "sim/demo:first=60"],
    ids=["no answer", "silent in the middle", "no first token"],
)
async def test_interrupt_while_the_provider_is_silent(world: World, model: str) -> None:
    started = await world.ask("hello", model=model)
    turn_id = started.assistant_turn.id
    executor = world.executor(turn_id)
    if "after" in model:
        await shows_text(executor)
    state = await world.commands.interrupt(OWNER, turn_id)
    assert state.turn.status == "cancelled"
    assert [row.block.partial for row in state.blocks] == ([True] if "after" in model else [])
    again = await world.commands.interrupt(OWNER, turn_id)
    assert again == state


@pytest.mark.requirement("A4", "D1")
async def test_interrupt_during_a_block_s_write_waits_for_it(world: World) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(operation: object) -> None:
        if isinstance(operation, SaveBlock):
            reached.set()
            await go_on.wait()

    world.store.before = hold
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    feed.put(*text_block(0, "whole"), TextDelta(1, "half"))
    await reached.wait()
    asked = stop_of(executor)
    interrupting = asyncio.create_task(world.commands.interrupt(OWNER, executor.turn.id))
    await asked.wait()
    assert not executor.ended.is_set()
    go_on.set()
    async with asyncio.timeout(SECONDS):
        state = await interrupting
    assert state.turn.status == "cancelled"
    assert [row.block for row in state.blocks] == [
        Block(0, "text", "whole"),
        Block(1, "text", "half", partial=True),
    ]


@pytest.mark.requirement("A4", "D1")
async def test_interrupt_during_the_end_tells_the_end_that_was_decided(world: World) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(operation: object) -> None:
        if type(operation).__name__ == "FinishTurn":
            reached.set()
            await go_on.wait()

    world.store.before = hold
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    feed.put(*text_block(0, "whole"))
    feed.end()
    await reached.wait()
    interrupting = asyncio.create_task(world.commands.interrupt(OWNER, executor.turn.id))
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(SECONDS):
        assert (await interrupting).turn.status == "complete"


# -- sources that do not let go -------------------------------------------------------------------------------------


async def swallowing() -> AsyncIterator[StreamEvent]:
    yield TextDelta(0, "half")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        yield TextDelta(0, " and after")


async def raising_when_cancelled() -> AsyncIterator[StreamEvent]:
    yield TextDelta(0, "half")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        raise RuntimeError("cancelled, so I fail") from None


async def raising_on_close() -> AsyncIterator[StreamEvent]:
    try:
        yield TextDelta(0, "half")
        await asyncio.get_running_loop().create_future()
    finally:
        raise RuntimeError("the clean-up fails")


async def ending_when_cancelled() -> AsyncIterator[StreamEvent]:
    yield TextDelta(0, "half")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        return


@pytest.mark.requirement("D1", "A4")
@pytest.mark.parametrize(
    "source", [swallowing, raising_when_cancelled, raising_on_close, ending_when_cancelled]
)
async def test_whatever_a_source_makes_of_its_cancellation_the_turn_is_cancelled(
    world: World, source: Any
) -> None:
    executor = await world.start_foreign(source())
    await shows_text(executor)
    async with asyncio.timeout(SECONDS):
        state = await world.commands.interrupt(OWNER, executor.turn.id)
    assert (state.turn.status, state.turn.error_code) == ("cancelled", None)
    assert [row.block for row in state.blocks] == [Block(0, "text", "half", partial=True)]
    assert executor.task is not None
    assert executor.task.cancelling() == 0


@pytest.mark.requirement("A4")
async def test_a_source_that_never_closes_does_not_hold_the_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnstream.model_loop.leaving.SOURCE_CLOSE_TIMEOUT", 0.05)

    async def hanging_on_close() -> AsyncIterator[StreamEvent]:
        try:
            yield TextDelta(0, "half")
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.get_running_loop().create_future()

    class Held:
        """Its clean-up is in aclose, as an SDK's stream has it."""

        def __init__(self) -> None:
            self._given = False

        def __aiter__(self) -> Held:
            return self

        async def __anext__(self) -> StreamEvent:
            if self._given:
                await asyncio.get_running_loop().create_future()
            self._given = True
            return TextDelta(0, "half")

        async def aclose(self) -> None:
            await asyncio.get_running_loop().create_future()

    executor = await world.start_foreign(Held())
    await shows_text(executor)
    async with asyncio.timeout(SECONDS):
        state = await world.commands.interrupt(OWNER, executor.turn.id)
    assert state.turn.status == "cancelled"


@pytest.mark.requirement("D1")
async def test_a_source_that_stops_its_own_turn(world: World) -> None:
    async def stopping_itself() -> AsyncIterator[StreamEvent]:
        yield TextDelta(0, "half")
        for executor in world.registry._active.values():
            executor.stop("cancelled")
        yield TextDelta(0, " and after")

    executor = await world.start_foreign(stopping_itself())
    assert (await world.ended(executor.turn.id)).turn.status == "cancelled"
    client = await world.watched(executor.turn.id)
    assert client.frames[-1].name == "turn_cancelled"
