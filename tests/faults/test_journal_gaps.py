"""A journal that storage refuses: sent again while there is room, given up after; recovery never joins over
a gap."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.turnlog.watching import Client
from tests.turns.world import Feed, World
from turnstream.core.blocks import Block
from turnstream.core.stream_events import TextDelta
from turnstream.errors import StoreError
from turnstream.store.base import Operation
from turnstream.store.journal.operations import AppendJournal
from turnstream.store.journal.pages import JournalSegment, unbroken
from turnstream.turns.executor import Executor
from turnstream.turns.journal import JournalKeeper


def segments(*numbers: tuple[int, int]) -> list[JournalSegment]:
    return [
        JournalSegment("turn", block, number, "text", 2, 10 * block + number, "x", None)
        for block, number in numbers
    ]


@pytest.mark.requirement("D5", "P5")
@pytest.mark.parametrize(
    ("numbers", "kept"),
    [
        ([], 0),
        ([(0, 0)], 1),
        ([(0, 0), (0, 1), (0, 2)], 3),
        ([(0, 0), (0, 1), (1, 0), (1, 1)], 4),
        ([(0, 0), (0, 2), (0, 3)], 1),
        ([(0, 1)], 0),
        ([(0, 0), (1, 1), (1, 2)], 1),
    ],
)
def test_segments_count_up_to_the_first_gap(numbers: list[tuple[int, int]], kept: int) -> None:
    given = segments(*numbers)
    assert list(unbroken(given)) == given[:kept]


class Refusing:
    """Storage that refuses the journal while `refusing`, and notes what it is given."""

    def __init__(self, world: World) -> None:
        self.refusing = False
        self.given: list[AppendJournal] = []
        self._write = world.store.write

    async def write(self, operation: Operation[Any]) -> Any:
        if isinstance(operation, AppendJournal):
            self.given.append(operation)
            if self.refusing:
                raise StoreError("the disk is full")
        return await self._write(operation)


async def caught_up(world: World, executor: Executor) -> Client:
    client = Client()
    subscription = await world.watch(executor.turn.id)
    while subscription.cursor.seq < executor.log.head:
        client.receive(await subscription.next() or b"")
    return client


@pytest.mark.requirement("D5", "C3", "P5")
@pytest.mark.parametrize("again", [True, False], ids=["taken again", "refused to the end"])
@pytest.mark.parametrize("limit", [1000, 5])
async def test_what_was_refused_is_written_later_or_counts_as_lost(
    limit: int, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        storage = Refusing(world)
        monkeypatch.setattr(world.store, "write", storage.write)
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        keeper = JournalKeeper(world.store, partial(_segment_of, executor), limit=limit)
        clients: list[Client] = []
        for text, refusing in [("one", False), (" two", True), (" three", True), (" four", not again)]:
            await feed.say(TextDelta(0, text))
            storage.refusing = refusing
            await keeper.write()
            clients.append(await caught_up(world, executor))
        assert (keeper.given_up > 0) == (limit == 5), "the journal is to hold no more than that"
        await world.crash()
    survives = "one two three four" if again else "one"
    async with World(path) as world:
        expected = [Block(0, "text", survives, partial=True)]
        assert [row.block for row in await world.stored(executor.turn.id)] == expected
        for client in clients:
            seen = client.now.blocks[0].text_content or ""
            await world.watched(executor.turn.id, client)
            assert client.now.blocks == expected
            codes = [frame.data.get("code") for frame in client.connection]
            assert ("truncated" in codes) == (len(seen) > len(survives))


def _segment_of(executor: Executor, *, whole: bool) -> Iterable[JournalSegment]:
    segment = executor.journal_part(whole=whole)
    return [] if segment is None else [segment]


@pytest.mark.requirement("D5")
async def test_a_failure_while_gathering_loses_nothing_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        storage = Refusing(world)
        monkeypatch.setattr(world.store, "write", storage.write)
        first, second = segments((0, 0), (0, 1))
        failing = True

        def gather(*, whole: bool) -> Iterable[JournalSegment]:
            if whole:
                return
            if failing:
                yield first
                raise ValueError("an accident")
            yield second

        keeper = JournalKeeper(world.store, gather)
        await keeper.write()
        with pytest.raises(ValueError, match="an accident"):
            await keeper.write()
        failing = False
        await keeper.write()
        assert storage.given[0].parts == (first, second)
