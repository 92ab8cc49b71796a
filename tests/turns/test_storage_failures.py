"""Storage that fails under a running turn (D3): one retry after 100 ms, then the turn ends as
`database_error`. Its content stays readable, and is saved when storage works again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.turns.world import OWNER, SECONDS, Feed, FullDisk, World, unknown_id, write_lock
from turnstream.core.blocks import Block
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, TextDelta
from turnstream.core.turn_events import Data, SourceEvent
from turnstream.errors import NotFound, StoreError
from turnstream.store.operations.content import SaveBlock
from turnstream.store.operations.progress import FinishTurn
from turnstream.store.queries import UnfinishedTurns
from turnstream.turns.executor import Executor
from turnstream.turns.writing import STORE_RETRY_DELAY

pytestmark = pytest.mark.requirement("D3")


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose store gives up soon."""
    async with World(tmp_path / "turns.sqlite", store_timeout=0.3) as world:
        yield world


def block(index: int, text: str) -> tuple[SourceEvent, ...]:
    return ContentBlockStart(index, "text"), TextDelta(index, text), ContentBlockStop(index)


async def with_one_block(world: World) -> tuple[Feed, Executor]:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    await feed.say(*block(0, "stored"))
    assert executor.writer.marking is not None
    await executor.writer.marking
    return feed, executor


async def check_unsaved(world: World, executor: Executor, expected: list[str]) -> None:
    """Every reader sees that the turn has ended, and can read it."""
    turn_id = executor.turn.id
    state = await world.ended(turn_id)
    assert (state.turn.status, state.turn.error_code) == ("error", "database_error")
    assert [row.block.text_content for row in state.blocks] == expected
    assert [row.block.text_content for row in await world.stored(turn_id)] == ["stored"]
    client = await world.watched(turn_id)
    assert client.frames[-1].data["code"] == "database_error"
    assert [shown.text_content for shown in client.now.blocks] == expected
    assert "sqlite" not in client.frames[-1].data["error"].lower()


async def check_saved(world: World, executor: Executor, expected: list[str]) -> None:
    turn_id = executor.turn.id
    await world.registry.sweep(asyncio.get_running_loop().time())
    assert executor.unsaved is None
    assert [row.block.text_content for row in await world.stored(turn_id)] == expected
    in_memory = await world.watched(turn_id)
    world.registry.forget(turn_id)
    state = await world.state(turn_id)
    assert (state.turn.status, state.turn.error_code) == ("error", "database_error")
    from_rows = await world.watched(turn_id)
    assert in_memory.now.blocks == from_rows.now.blocks == [row.block for row in state.blocks]
    assert in_memory.frames[-1] == from_rows.frames[-1]


async def test_a_locked_database_at_a_block_boundary(hasty: World) -> None:
    feed, executor = await with_one_block(hasty)
    watching = asyncio.create_task(hasty.watched(executor.turn.id))
    expected = ["stored", "not stored"]
    with write_lock(hasty.path):
        feed.put(*block(1, "not stored"))
        feed.end()
        await check_unsaved(hasty, executor, expected)
        attempts = hasty.store.times_of(SaveBlock)
        assert len(attempts) == 3  # block 0; block 1 and its one retry
        assert attempts[2] - attempts[1] >= STORE_RETRY_DELAY
        assert len(hasty.store.times_of(FinishTurn)) == 2
        with pytest.raises(StoreError):
            await executor.save_end()
        assert executor.unsaved is not None
    client = await watching
    assert len(client.terminal_events()) == 1
    assert [shown.text_content for shown in client.now.blocks] == expected
    assert "block_stop" not in [f.name for f in client.frames if f.data.get("block_index") == 1]
    await check_saved(hasty, executor, expected)


async def test_a_short_lock_is_ridden_out(hasty: World) -> None:
    feed, executor = await with_one_block(hasty)
    retried = asyncio.Event()

    async def watch_writes(_operation: object) -> None:
        if len(hasty.store.times_of(SaveBlock)) == 3:
            retried.set()

    hasty.store.before = watch_writes
    with write_lock(hasty.path):
        feed.put(*block(1, "late"))
        feed.end()
        async with asyncio.timeout(SECONDS):
            await retried.wait()
    state = await hasty.ended(executor.turn.id)
    assert state.turn.status == "complete"
    assert [row.block.text_content for row in state.blocks] == ["stored", "late"]


async def test_a_full_disk_at_a_block_boundary(world: World) -> None:
    disk = FullDisk(world.store)
    feed, executor = await with_one_block(world)
    text = "x" * 100_000
    disk.full = True
    feed.put(*block(1, text))
    feed.end()
    await check_unsaved(world, executor, ["stored", text])
    attempts = world.store.times_of(SaveBlock)
    assert len(attempts) == 3
    assert attempts[2] - attempts[1] >= STORE_RETRY_DELAY
    await world.registry.sweep(asyncio.get_running_loop().time())
    assert executor.unsaved is not None
    disk.full = False
    await check_saved(world, executor, ["stored", text])
    again = await world.ask("the next turn works", model="sim/echo:pace=0")
    assert (await world.ended(again.assistant_turn.id)).turn.status == "complete"


async def test_a_full_disk_keeps_what_was_folded_behind_the_block_too(world: World) -> None:
    """Interleaved blocks wait behind the block that cannot be stored. Watchers and later readers get them
    whole."""
    disk = FullDisk(world.store)
    feed, executor = await with_one_block(world)
    watching = asyncio.create_task(world.watched(executor.turn.id))
    text = "y" * 100_000
    await feed.say(ContentBlockStart(1, "text"), ContentBlockStart(2, "text"), ContentBlockStart(3, "text"))
    await feed.say(TextDelta(2, "second"), TextDelta(1, text), TextDelta(3, "third"), ContentBlockStop(3))
    disk.full = True
    feed.put(ContentBlockStop(1))
    expected = ["stored", text, "second", "third"]
    client = await watching
    assert [shown.text_content for shown in client.now.blocks] == expected
    await check_unsaved(world, executor, expected)
    disk.full = False
    for known in client.past:
        assert known.cursor is not None or known is client.past[0]
    await check_saved(world, executor, expected)


async def test_an_unsaved_end_is_saved_when_the_process_is_stopped(hasty: World) -> None:
    feed, executor = await with_one_block(hasty)
    with write_lock(hasty.path):
        feed.put(*block(1, "not stored"))
        feed.end()
        await hasty.ended(executor.turn.id)
    await hasty.registry.stop_all()
    assert [row.block.text_content for row in await hasty.stored(executor.turn.id)] == [
        "stored",
        "not stored",
    ]


async def test_an_unsaved_end_outlives_the_retention(hasty: World) -> None:
    feed, executor = await with_one_block(hasty)
    with write_lock(hasty.path):
        feed.put(*block(1, "not stored"))
        feed.end()
        await hasty.ended(executor.turn.id)
        await hasty.registry.sweep(asyncio.get_running_loop().time() + 10_000)
        assert hasty.registry.get(executor.turn.id) is executor
    await hasty.registry.sweep(asyncio.get_running_loop().time() + 10_000)
    assert hasty.registry.get(executor.turn.id) is None


async def test_the_next_turn_works(hasty: World) -> None:
    feed, executor = await with_one_block(hasty)
    with write_lock(hasty.path):
        feed.put(*block(1, "not stored"))
        feed.end()
        await hasty.ended(executor.turn.id)
    started = await hasty.ask("hello", model="sim/echo:pace=0")
    state = await hasty.ended(started.assistant_turn.id)
    assert [row.block for row in state.blocks] == [Block(0, "text", "hello")]


async def test_a_lasting_event_that_cannot_be_stored_is_not_shown(hasty: World) -> None:
    feed, executor = await with_one_block(hasty)
    watching = asyncio.create_task(hasty.watched(executor.turn.id))
    with write_lock(hasty.path):
        feed.put(TextDelta(1, "half"), Data("plan", 1))
        state = await hasty.ended(executor.turn.id)
    assert state.turn.error_code == "database_error"
    client = await watching
    assert "data" not in [frame.name for frame in client.frames]
    await hasty.registry.sweep(asyncio.get_running_loop().time())
    assert [row.block.text_content for row in await hasty.stored(executor.turn.id)] == ["stored", "half"]


async def test_interrupting_while_storage_is_down_ends_in_bounded_time(hasty: World) -> None:
    feed, executor = await with_one_block(hasty)
    await feed.say(TextDelta(1, "half"))
    with write_lock(hasty.path):
        async with asyncio.timeout(SECONDS):
            state = await hasty.commands.interrupt(OWNER, executor.turn.id)
        assert (state.turn.status, state.turn.error_code) == ("error", "database_error")
        assert [row.block.text_content for row in state.blocks] == ["stored", "half"]
    await check_saved(hasty, executor, ["stored", "half"])


@pytest.mark.requirement("A1")
async def test_a_turn_that_cannot_be_stored_is_not_started(hasty: World) -> None:
    chat_id = await hasty.chat()
    feed = Feed()
    with write_lock(hasty.path), pytest.raises(StoreError):
        await hasty.start_foreign(feed.events(), chat_id=chat_id)
    await nobody_at_work(hasty)
    await hasty.registry.sweep(asyncio.get_running_loop().time())
    await check_no_turn_is_left_open(hasty)


async def nobody_at_work(world: World) -> None:
    async with asyncio.timeout(SECONDS):
        await world.registry._idle.wait()
    assert world.registry.active_count == 0


async def check_no_turn_is_left_open(world: World) -> None:
    """Every turn keeps its writer, whether the rows were stored or not."""
    assert await world.store.read(UnfinishedTurns()) == []


@pytest.mark.requirement("A1", "D5")
async def test_rows_that_come_after_the_deadline_do_not_leave_a_turn_open(tmp_path: Path) -> None:
    """The writer is late, not broken. The caller gets a failure, and then the rows appear."""
    release, queued = asyncio.Event(), asyncio.Event()
    async with World(tmp_path / "turns.sqlite") as world:
        chat_id = await world.chat()
        late: list[asyncio.Task[object]] = []
        write = world.store.write

        async def time_out(operation: object) -> object:
            if type(operation).__name__ != "StartTurns":
                return await write(operation)  # type: ignore[arg-type]

            async def apply() -> object:
                queued.set()
                await release.wait()
                return await write(operation)  # type: ignore[arg-type]

            late.append(asyncio.create_task(apply()))
            await queued.wait()
            release.set()
            await late[0]
            raise StoreError("the database did not answer within 5 s")

        world.store.write = time_out  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            await world.start_foreign(Feed().events(), chat_id=chat_id)
        await nobody_at_work(world)
        await world.registry.sweep(asyncio.get_running_loop().time())
        await check_no_turn_is_left_open(world)
        (turn_id,) = list(world.registry._ended)
        client = await world.watched(turn_id)
        assert client.frames[-1].data["code"] == "database_error"
        assert len(client.terminal_events()) == 1


@pytest.mark.requirement("D2", "A1")
async def test_a_caller_that_hangs_up_while_the_rows_are_written_has_started_the_turn(world: World) -> None:
    chat_id = await world.chat()
    feed = Feed()
    writing = asyncio.Event()

    async def tell(_operation: object) -> None:
        writing.set()

    world.store.before = tell
    with write_lock(world.path):
        starting = asyncio.create_task(world.start_foreign(feed.events(), chat_id=chat_id))
        async with asyncio.timeout(SECONDS):
            await writing.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    (executor,) = world.registry._active.values()
    feed.put(*block(0, "all the same"))
    feed.end()
    async with asyncio.timeout(SECONDS):
        await executor.ended.wait()
    state = await world.state(executor.turn.id)
    assert (state.turn.status, state.blocks[0].block.text_content) == ("complete", "all the same")


async def test_no_such_turn_is_still_no_such_turn(hasty: World) -> None:
    with pytest.raises(NotFound):
        await hasty.state(unknown_id())
