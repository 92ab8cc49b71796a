"""The journal over time. It is rewritten before it grows large or old, and holds everything at every
moment."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.turns.world import OWNER, SECONDS, Feed, FullDisk, World
from turnstream.core.open_block import OpenBlock
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, SignatureDelta, TextDelta
from turnstream.errors import StoreError
from turnstream.store.base import Operation
from turnstream.store.journal.operations import AppendJournal, TrimJournal
from turnstream.store.journal.pages import JournalSegment
from turnstream.store.journal.queries import Journal
from turnstream.store.operations.content import SaveBlock
from turnstream.turns.executor import Executor
from turnstream.turns.journal import JournalKeeper

_segments = msgspec.json.Decoder(list[JournalSegment])


def pages(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT segments FROM turnstream_journal ORDER BY page").fetchall()
    connection.close()
    return [segments for (segments,) in rows]


async def texts(world: World, executor: Executor) -> list[str]:
    return [segment.text for segment in await world.store.read(Journal(turn_id=executor.turn.id))]


async def partial_of(path: Path, executor: Executor) -> list[tuple[str | None, bool]]:
    """The blocks of a turn whose process died, after the next process has ended it."""
    async with World(path) as world:
        return [(row.block.text_content, row.block.partial) for row in await world.stored(executor.turn.id)]


@given(st.lists(st.text(max_size=5), max_size=200), st.data())
def test_what_a_block_has_grown_by_is_the_end_of_its_text(pieces: list[str], data: st.DataObject) -> None:
    block = OpenBlock(0, 0, "text", None)
    whole, seen = "", 0
    for piece in pieces:
        block.append(piece)
        whole += piece
        if data.draw(st.booleans()):
            assert block.text_since(seen) == whole[seen:]
            seen = data.draw(st.integers(0, len(whole)))
    assert block.text_since(seen) == whole[seen:]
    assert block.text() == whole


@pytest.mark.requirement("D5", "P5")
async def test_the_journal_stays_within_its_size_and_keeps_what_is_open(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        keeper = JournalKeeper(world.store, world.registry.journal_parts, size=2000)
        slow, quick = Feed(), Feed()
        waiting = await world.start_foreign(slow.events())
        executor = await world.start_foreign(quick.events())
        await slow.say(TextDelta(0, "one "))
        largest = 0
        for number in range(60):
            await quick.say(TextDelta(number, "x" * 50), ContentBlockStop(number))
            await quick.say(TextDelta(number + 1, "y" * 50))
            if number in (20, 40):
                await slow.say(TextDelta(0, f"{number} "))
            await keeper.write()
            largest = max(largest, sum(map(len, pages(path))))
            assert "".join(await texts(world, executor)) == "y" * 50
        assert keeper.segments > 60
        assert largest < 2 * 2000
        await world.crash()
    assert await partial_of(path, waiting) == [("one 20 40 ", True)]


@pytest.mark.requirement("D5")
async def test_what_is_stored_or_deleted_does_not_stay_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        await world.journal.write()
        await feed.say(TextDelta(0, "a secret"))
        await world.journal.write()
        assert "a secret" in "".join(pages(path))
        await world.commands.chats.delete(OWNER, executor.turn.chat_id)
        async with asyncio.timeout(SECONDS):
            await executor.ended.wait()
        monkeypatch.setattr("turnstream.turns.journal.RENEWED_EVERY", 0.0)
        await world.journal.write()
        assert pages(path) == []
        writes = len(world.store.writes)
        await world.journal.write()
        assert len(world.store.writes) == writes, "there is nothing to do where nothing is open"


@pytest.mark.requirement("D5", "D3")
@pytest.mark.parametrize(
    ("refused", "kept"),
    [
        (AppendJournal, ["one ", "one ", "one ", "one two three four "]),
        (TrimJournal, ["one ", "one two ", "one two three ", "one two three four "]),
    ],
)
async def test_a_renewal_that_storage_refuses_loses_nothing(
    refused: type[Operation[Any]], kept: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnstream.turns.journal.RENEWED_EVERY", 0.0)
    path = tmp_path / "turns.sqlite"
    refusing = False

    async def refuse(operation: Operation[Any]) -> None:
        if refusing and isinstance(operation, refused):
            raise StoreError("no room")

    async with World(path) as world:
        world.store.before = refuse
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        for word, expected in zip(("one ", "two ", "three ", "four "), kept, strict=True):
            refusing = word in ("two ", "three ")
            await feed.say(TextDelta(0, word))
            await world.journal.write()
            assert "".join(await texts(world, executor)) == expected
        assert len(pages(path)) == 1
        await world.crash()
    assert await partial_of(path, executor) == [("one two three four ", True)]


@pytest.mark.requirement("D5", "B2")
async def test_a_block_that_is_being_stored_is_in_the_renewed_journal(tmp_path: Path) -> None:
    """Storage may still refuse it."""
    path = tmp_path / "turns.sqlite"
    storing, never = asyncio.Event(), asyncio.Event()

    async def hold(operation: Operation[Any]) -> None:
        if isinstance(operation, SaveBlock):
            storing.set()
            await never.wait()

    async with World(path) as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        await feed.say(ContentBlockStart(0, "thinking"), SignatureDelta(0, "signed"))
        await world.journal.write()
        world.store.before = hold
        feed.put(ContentBlockStop(0))
        async with asyncio.timeout(SECONDS):
            await storing.wait()
        await JournalKeeper(world.store, world.registry.journal_parts).write()
        (segment,) = await world.store.read(Journal(turn_id=executor.turn.id))
        assert (segment.number, segment.content) == (0, {"signature": "signed"})
        assert len(pages(path)) == 1
        await world.crash()
    assert await partial_of(path, executor) == [("", True)]


@pytest.mark.requirement("D5", "D3")
@pytest.mark.parametrize("cancelled", [False, True])
async def test_parts_that_wait_for_the_same_write_share_a_page(tmp_path: Path, *, cancelled: bool) -> None:
    """A caller that is cancelled during its write loses no part of the others, nor its own."""
    path = tmp_path / "turns.sqlite"
    parts = [JournalSegment(f"turn {number}", 0, 0, "text", 1, 2, "text", None) for number in range(4)]
    writing, go = asyncio.Event(), asyncio.Event()

    async def hold(operation: Operation[Any]) -> None:
        if isinstance(operation, AppendJournal):
            writing.set()
            await go.wait()

    async with World(path) as world, asyncio.timeout(SECONDS):
        world.store.before = hold
        keeper = JournalKeeper(world.store, world.registry.journal_parts)
        first = asyncio.create_task(keeper.append(parts[:1]))
        await writing.wait()
        later = [asyncio.create_task(keeper.append([part])) for part in parts[1:]]
        await asyncio.sleep(0)  # they begin, and wait
        if cancelled:
            first.cancel()
        go.set()
        _, *others = await asyncio.gather(first, *later, return_exceptions=True)
        assert others == [None, None, None]
        found = [part.turn_id for page in pages(path) for part in _segments.decode(page)]
        assert sorted(found) == [part.turn_id for part in parts]
        assert len(pages(path)) == (1 if cancelled else 2)


@pytest.mark.requirement("D3")
async def test_all_callers_learn_that_storage_refuses_their_page(tmp_path: Path) -> None:
    part = JournalSegment("turn", 0, 0, "text", 1, 2, "text", None)

    async def refuse(operation: Operation[Any]) -> None:
        if isinstance(operation, AppendJournal):
            raise StoreError("no room")

    async with World(tmp_path / "turns.sqlite") as world, asyncio.timeout(SECONDS):
        world.store.before = refuse
        keeper = JournalKeeper(world.store, world.registry.journal_parts)
        answers = await asyncio.gather(*(keeper.append([part]) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreError] * 3
        assert len(world.store.times_of(AppendJournal)) == 2, "the later two share one"


@pytest.mark.requirement("D5", "D3")
async def test_a_turn_whose_end_was_refused_is_in_the_renewed_journal(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        disk = FullDisk(world.store)
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        await feed.say(TextDelta(0, "what was said"))
        await world.journal.write()
        disk.full = True
        feed.put(TextDelta(0, " last" + "!" * 100_000))
        feed.end()
        async with asyncio.timeout(SECONDS):
            await executor.ended.wait()
        assert executor.unsaved is not None
        disk.full = False
        await JournalKeeper(world.store, world.registry.journal_parts).write()
        assert len(pages(path)) == 1
        await world.crash()
    assert await partial_of(path, executor) == [("what was said last" + "!" * 100_000, True)]
