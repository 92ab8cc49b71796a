"""The executors of a process: the running ones, the ended ones, and the end of all."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path

import pytest

from tests.turnlog.watching import Client
from tests.turns.world import OWNER, SECONDS, Feed, World
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, TextDelta
from turnstream.errors import NotFound, Unavailable
from turnstream.turns import registry as registry_module
from turnstream.turns.executor import Executor


def now() -> float:
    return asyncio.get_running_loop().time()


async def talking(world: World, text: str = "half") -> tuple[Feed, Executor]:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    await feed.say(TextDelta(0, text))
    return feed, executor


@pytest.mark.requirement("D5")
async def test_a_turn_that_falls_silent_is_ended_after_the_orphan_timeout(world: World) -> None:
    feed, executor = await talking(world)
    _, lively = await talking(world)
    await world.registry.sweep(executor.progress.last + 299)
    assert not executor.ended.is_set()
    lively.progress.last += 100
    await world.registry.sweep(executor.progress.last + 301)
    state = await world.ended(executor.turn.id)
    assert (state.turn.status, state.turn.error_code) == ("error", "orphan_timeout")
    assert [row.block.text_content for row in state.blocks] == ["half"]
    assert feed.closed.is_set()
    assert not lively.ended.is_set()


@pytest.mark.requirement("D5", "A6")
async def test_an_ended_turn_stays_in_memory_for_a_while_then_comes_from_its_rows(world: World) -> None:
    feed, executor = await talking(world)
    turn_id = executor.turn.id
    feed.end()
    await world.ended(turn_id)
    await world.registry.sweep(now() + 599)
    assert world.registry.get(turn_id) is executor
    live = await world.watched(turn_id)
    await world.registry.sweep(now() + 601)
    assert world.registry.get(turn_id) is None
    later = await world.watched(turn_id)
    assert later.now.blocks == live.now.blocks
    assert later.frames[-1] == live.frames[-1]


@pytest.mark.requirement("B6", "O2")
async def test_an_ended_executor_holds_neither_its_source_nor_its_task_s_frames(world: World) -> None:
    class Source:
        pass

    source = Source()
    gone = weakref.ref(source)

    async def events(kept: Source) -> object:
        yield TextDelta(0, str(bool(kept)))

    executor = await world.start_foreign(events(source))  # type: ignore[arg-type]
    await world.ended(executor.turn.id)
    del source
    gc.collect()
    assert world.registry.get(executor.turn.id) is executor
    assert gone() is None


@pytest.mark.requirement("O2")
async def test_what_ended_turns_keep_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "MAX_RETAINED", 5)
    ids = []
    for _ in range(8):
        feed, executor = await talking(world)
        feed.end()
        await world.ended(executor.turn.id)
        ids.append(executor.turn.id)
    assert list(world.registry._ended) == ids[3:]
    monkeypatch.setattr(registry_module, "MAX_RETAINED_BYTES", world.registry._retained_bytes)
    feed, executor = await talking(world, "x" * 1000)
    feed.end()
    await world.ended(executor.turn.id)
    assert world.registry._retained_bytes <= registry_module.MAX_RETAINED_BYTES
    assert world.registry._retained_bytes == sum(kept.size for kept in world.registry._ended.values())
    for turn_id in list(world.registry._ended):
        world.registry.forget(turn_id)
    assert world.registry._retained_bytes == 0


async def test_no_more_turns_than_allowed_are_written_at_once(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite", max_active=2) as world:
        feed, executor = await talking(world)
        await talking(world)
        with pytest.raises(Unavailable):
            await talking(world)
        feed.end()
        await world.ended(executor.turn.id)
        await talking(world)


@pytest.mark.requirement("D5")
async def test_draining_tells_watchers_and_lets_turns_finish(world: World) -> None:
    feed, executor = await talking(world)
    subscription = await world.watch(executor.turn.id)
    client = Client()
    while subscription.cursor.seq < executor.log.head:
        client.receive(await subscription.next() or b"")
    draining = asyncio.create_task(world.registry.drain(SECONDS))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await world.ask("hello")
    assert refused.value.code == "draining"
    assert not draining.done()
    await feed.say(TextDelta(0, " and whole"), ContentBlockStop(0))
    feed.end()
    async with asyncio.timeout(SECONDS):
        await draining
        while (data := await subscription.next()) is not None:
            client.receive(data)
    assert "draining" in [frame.data.get("code") for frame in client.frames]
    assert (await world.state(executor.turn.id)).turn.status == "complete"
    assert client.now.blocks[0].text_content == "half and whole"


@pytest.mark.requirement("D5", "P4")
async def test_what_does_not_finish_in_the_grace_time_ends_with_what_it_has(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        _, executor = await talking(world)
        turn_id = executor.turn.id
        subscription = await world.watch(turn_id)
        client = Client()
        client.receive(await subscription.next() or b"")
        async with asyncio.timeout(SECONDS):
            await world.registry.drain(0.0)
        assert executor.ended.is_set()
        assert world.registry.active_count == 0
    async with World(tmp_path / "turns.sqlite") as world:
        assert world.recovered == 0
        client = await world.watched(turn_id, client)
        assert client.frames[-1].data["code"] == "server_shutdown"
        assert [block.text_content for block in client.now.blocks] == ["half"]


async def test_stopping_all_while_rows_are_being_written_ends(world: World) -> None:
    reached = asyncio.Event()

    async def tell(operation: object) -> None:
        if type(operation).__name__ == "StartTurns":
            reached.set()

    chat_id = await world.chat()
    world.store.before = tell
    starting = asyncio.create_task(world.start_foreign(Feed().events(), chat_id=chat_id))
    await reached.wait()
    async with asyncio.timeout(SECONDS):
        await world.registry.stop_all()
        executor = await starting
    assert (await world.state(executor.turn.id)).turn.error_code == "server_shutdown"


@pytest.mark.requirement("A1")
async def test_deleting_a_chat_stops_its_turns(world: World) -> None:
    chat_id = await world.chat()
    feed = Feed()
    executor = await world.start_foreign(feed.events(), chat_id=chat_id)
    await feed.say(ContentBlockStart(0, "text"), TextDelta(0, "half"))
    watching = asyncio.create_task(world.watched(executor.turn.id))
    await asyncio.sleep(0)
    await world.commands.chats.delete(OWNER, chat_id)
    assert feed.closed.is_set()
    assert world.registry.get(executor.turn.id) is None
    with pytest.raises(NotFound):
        await world.state(executor.turn.id)
    try:
        client = await watching
    except NotFound:  # it came too late even to begin
        return
    assert client.frames[-1].name == "turn_cancelled"
