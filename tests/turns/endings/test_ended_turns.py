"""Ended turns are kept flat, counted and bounded, and look like a live log to watchers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.turnlog.watching import Client
from tests.turns.world import OWNER, SECONDS, Feed, World, write_lock
from turnstream.core.blocks import Block
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, MessageStop, TextDelta
from turnstream.core.turn_events import Data, Notice, Source, SourceEvent
from turnstream.turnlog.ended_turns import EndedTurn
from turnstream.turns import registry as registry_module
from turnstream.turns.executor import Executor

pytestmark = pytest.mark.fault(9)

QUICK = "sim/echo:pace=0"


@contextmanager
def no_collections() -> Iterator[None]:
    """Check that freed objects were not part of a cycle of references."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def ask_and_end(world: World, chat_id: str, text: str = "hello", **options: Any) -> str:
    started = await world.ask(text, chat_id=chat_id, model=QUICK, **options)
    turn_id = started.assistant_turn.id
    await world.watched(turn_id)
    await world.ended(turn_id)
    return turn_id


async def settled(world: World) -> None:
    """Wait until no task of a turn runs."""
    async with asyncio.timeout(SECONDS):
        for task in asyncio.all_tasks():
            if task.get_name().startswith("turn "):
                await asyncio.wait([task])
    await asyncio.sleep(0)


def tracked_objects() -> Counter[str]:
    """Count objects of the garbage collector, by type: ours, and those of asyncio that a turn consists of."""
    gc.collect()
    kinds = (type(item) for item in gc.get_objects())
    ours = ("turnstream", "_asyncio", "asyncio.locks", "asyncio.tasks")
    return Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith(ours))


async def test_an_ended_turn_holds_no_object_that_the_collector_looks_at(world: World) -> None:
    turns = 60
    chat_id = await world.chat()
    for _ in range(5):
        await ask_and_end(world, chat_id)
    world.store.writes.clear()
    await settled(world)
    before = tracked_objects()
    for _ in range(turns):
        await ask_and_end(
            world, chat_id, system="s" * 1000, metadata={"page": ["/help"]}, params={"max_tokens": 9}
        )
    world.store.writes.clear()
    await settled(world)
    grown = tracked_objects() - before
    assert grown.total() < turns / 2, grown
    kept = world.registry._ended.values()
    assert len(kept) == turns + 5
    for ended in kept:
        assert not gc.is_tracked(ended)
        assert not [name for name in ended.__struct_fields__ if gc.is_tracked(getattr(ended, name))]


async def test_an_executor_is_freed_at_once_and_not_by_the_collector(world: World) -> None:
    chat_id = await world.chat()
    with no_collections():
        started = await world.ask("hello", chat_id=chat_id, model=QUICK)
        executor = weakref.ref(world.executor(started.assistant_turn.id))
        log = weakref.ref(world.executor(started.assistant_turn.id).log)
        await world.watched(started.assistant_turn.id)
        await world.ended(started.assistant_turn.id)
        await settled(world)
        world.store.writes.clear()
        for _ in range(20):
            await asyncio.sleep(0)
        assert executor() is None
        assert log() is None
    assert isinstance(world.registry.get(started.assistant_turn.id), EndedTurn)


async def test_a_request_of_megabytes_is_not_kept(world: World) -> None:
    chat_id = await world.chat()
    image = {"media_type": "image/png", "data": "iVBORw0KGgo" + "A" * 700_000}
    before = world.registry._retained_bytes
    for _ in range(20):
        started = await world.commands.send(
            OWNER,
            registry_request(chat_id, (Block(0, "text", "what is it?"), Block(1, "image", None, image))),
        )
        await world.ended(started.assistant_turn.id)
    kept = world.registry._retained_bytes - before
    assert 20 * 1024 < kept < 20 * 8 * 1024
    assert kept == sum(ended.size for ended in world.registry._ended.values())


def registry_request(chat_id: str, blocks: tuple[Block, ...]) -> Any:
    from turnstream.turns.commands import TurnRequest

    return TurnRequest(chat_id=chat_id, blocks=blocks, model=QUICK)


async def many_kinds() -> AsyncIterator[Sequence[SourceEvent]]:
    yield [ContentBlockStart(0, "text"), TextDelta(0, "one "), TextDelta(0, "two")]
    yield [Notice("lasting", "kept")]
    for number in range(30):
        yield [TextDelta(0, f" {number}")]
    yield [ContentBlockStop(0), Source("s1"), Data("d", {"k": 1}), Data("passing", {}, transient=True)]
    yield [
        ContentBlockStart(1, "text"),
        TextDelta(1, "x" * 500),
        ContentBlockStop(1),
        MessageStop("end_turn"),
    ]


@pytest.mark.parametrize("ring_limit", [64 * 1024, 2048])
async def test_a_watcher_of_an_ended_turn_resumes_at_every_cursor_as_from_the_live_log(
    tmp_path: Path, ring_limit: int
) -> None:
    async with World(tmp_path / "turns.sqlite", ring_limit=ring_limit) as world:
        executor = await world.start_foreign(many_kinds())
        turn_id = executor.turn.id
        live = await world.watched(turn_id)
        await world.ended(turn_id)
        pasts = [None, *(knowledge for knowledge in live.past)]
        kept = [await resumed(world, turn_id, past) for past in pasts]
        assert world.registry.get(turn_id) is executor
        del executor
        await settled(world)
        gc.collect()
        assert isinstance(world.registry.get(turn_id), EndedTurn)
        flat = [await resumed(world, turn_id, past) for past in pasts]
        world.registry.forget(turn_id)
        stored = [await resumed(world, turn_id, past) for past in pasts]
        assert live.now.blocks == [row.block for row in await world.stored(turn_id)]
        for clients in (kept, flat, stored):
            for client in clients:
                assert client.now.blocks == live.now.blocks
                assert client.now.lasting == live.now.lasting
                assert client.now.cursor == live.now.cursor
        assert [is_caught_up(client) for client in flat] == [is_caught_up(client) for client in kept]
        assert not all(is_caught_up(client) for client in flat)


def is_caught_up(client: Client) -> bool:
    return any(frame.name == "block_catchup" for frame in client.connection)


async def resumed(world: World, turn_id: str, past: Any) -> Client:
    client = Client()
    client.reconnect(past)
    await world.watched(turn_id, client)
    return client


async def test_the_oldest_go_first_by_number_and_by_bytes_and_are_read_from_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "MAX_RETAINED", 4)
    chat_id = await world.chat()
    ids = [await ask_and_end(world, chat_id, "x" * 300) for _ in range(6)]
    assert list(world.registry._ended) == ids[2:]
    size = next(iter(world.registry._ended.values())).size
    monkeypatch.setattr(registry_module, "MAX_RETAINED_BYTES", 2 * size + size // 2)
    ids.append(await ask_and_end(world, chat_id, "x" * 300))
    assert list(world.registry._ended) == ids[-2:]
    for turn_id in ids:
        client = await world.watched(turn_id)
        assert client.now.blocks == [Block(0, "text", "x" * 300)]


async def test_a_long_turn_keeps_no_more_than_its_bound(world: World) -> None:
    async def long() -> AsyncIterator[Sequence[SourceEvent]]:
        for number in range(40):
            yield [ContentBlockStart(number, "provider", {"raw": "y" * 20_000}), ContentBlockStop(number)]

    executor = await world.start_foreign(long())
    await world.watched(executor.turn.id)
    await world.ended(executor.turn.id)
    assert world.registry._ended[executor.turn.id].size < 70 * 1024


async def test_a_sweep_looks_at_nothing_that_is_not_due(world: World) -> None:
    chat_id = await world.chat()
    for _ in range(5):
        await ask_and_end(world, chat_id)
    looked = 0

    class Counted(type(world.registry._ended)):  # type: ignore[misc]
        def items(self) -> Any:
            nonlocal looked
            for item in super().items():
                looked += 1
                yield item

    world.registry._ended = Counted(world.registry._ended)
    loop_time = asyncio.get_running_loop().time()
    await world.registry.sweep(loop_time)
    assert looked == 1
    looked = 0
    await world.registry.sweep(loop_time + 601)
    assert looked == 5
    assert not world.registry._ended


async def test_turns_at_work_are_looked_at_when_their_silence_may_be_too_long(world: World) -> None:
    executors = [await world.start_foreign(Feed().events()) for _ in range(3)]
    start = executors[0].progress.last
    looked: list[str] = []

    class Watched(dict[str, Executor]):
        def get(self, key: str, default: Any = None) -> Any:
            looked.append(key)
            return super().get(key, default)

    world.registry._active = Watched(world.registry._active)
    for second in range(290):
        await world.registry.sweep(start + second)
    assert looked == []
    executors[1].progress.last += 250
    await world.registry.sweep(start + 310)
    assert sorted(looked) == sorted(executor.turn.id for executor in executors)
    for silent in (executors[0], executors[2]):
        assert (await world.ended(silent.turn.id)).turn.error_code == "orphan_timeout"
    await world.registry.sweep(start + 549)
    assert not executors[1].ended.is_set()
    await world.registry.sweep(start + 560)
    assert (await world.ended(executors[1].turn.id)).turn.error_code == "orphan_timeout"


async def test_the_list_of_silences_does_not_grow_with_the_turns_that_have_ended(world: World) -> None:
    chat_id = await world.chat()
    for _ in range(300):
        started = await world.ask("hello", chat_id=chat_id, model=QUICK)
    await world.ended(started.assistant_turn.id)
    assert len(world.registry._orphans) <= 300


async def test_a_turn_whose_end_is_not_stored_keeps_its_executor_until_it_is(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path, store_timeout=0.1) as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        turn_id = executor.turn.id
        await feed.say(ContentBlockStart(0, "text"), TextDelta(0, "half"))
        with write_lock(path):
            feed.end()
            await asyncio.wait_for(executor.ended.wait(), SECONDS)
            assert executor.unsaved is not None
            assert world.registry.executor(turn_id) is executor
            assert world.registry._retained_bytes > 0
            client = await world.watched(turn_id)
            assert client.now.blocks[0].text_content == "half"
        await world.registry.sweep(0.0)
        assert world.registry.executor(turn_id) is None
        assert isinstance(world.registry._ended[turn_id], EndedTurn)
        del executor, feed
        await settled(world)
        gc.collect()
        saved = await world.watched(turn_id)
        assert [block.text_content for block in saved.now.blocks] == ["half"]
        world.registry.forget(turn_id)
        assert world.registry._retained_bytes == 0
        assert (await world.watched(turn_id)).now.blocks == saved.now.blocks
