"""The pages of the journal have owners, which number them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.store.samples import append_journal, make_segment, running_turn
from tests.turns.world import Feed, World
from turnstream.core.stream_events import TextDelta
from turnstream.errors import StoreError
from turnstream.nodes.node import OwnNode
from turnstream.store.journal.operations import AppendJournal, TrimJournal
from turnstream.store.journal.queries import Journal, Journals, LastPage
from turnstream.store.sql import SqlStore
from turnstream.turns.journal import JournalKeeper


async def test_a_node_reads_and_deletes_the_pages_of_the_owner_that_it_asks_for(store: SqlStore):
    here, there = await running_turn(store), await running_turn(store)
    mine, others = make_segment(here, 1, 0, "mine"), make_segment(there, 1, 0, "theirs")
    await store.write(append_journal((mine,), "one"))
    await store.write(append_journal((others,), "two"))
    assert await store.read(Journals(owner="one")) == {here.id: [mine]}
    assert await store.read(Journals(owner="two")) == {there.id: [others]}
    assert await store.read(Journal(turn_id=there.id, owner="one")) == []
    assert await store.read(Journals()) == {}
    await store.write(TrimJournal(owner="one", before=None))
    assert await store.read(Journals(owner="one")) == {}
    assert await store.read(Journals(owner="two")) == {there.id: [others]}


async def test_two_owners_number_their_pages_apart(store: SqlStore):
    turn = await running_turn(store)
    for owner, text in (("one", "a"), ("two", "b")):
        assert await store.read(LastPage(owner=owner)) == 0
        written = await store.write(
            AppendJournal(owner=owner, page=7, parts=(make_segment(turn, 1, 0, text),))
        )
        assert written.number == await store.read(LastPage(owner=owner)) == 7
        assert [found.text for found in await store.read(Journal(turn_id=turn.id, owner=owner))] == [text]


async def test_the_same_page_twice_is_one_and_another_of_its_number_is_refused(store: SqlStore):
    turn = await running_turn(store)
    page = AppendJournal(page=3, parts=(make_segment(turn, 1, 0),))
    assert await store.write(page) == await store.write(page)
    other = AppendJournal(page=3, parts=(make_segment(turn, 1, 1),))
    answers = await asyncio.gather(store.write(other), store.write(page), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreError, type(await store.write(page))]
    assert await store.read(Journal(turn_id=turn.id)) == list(page.parts)


@pytest.mark.parametrize("owner", ["local", "another"])
async def test_a_keeper_numbers_on_after_the_pages_of_its_owner(tmp_path: Path, owner: str):
    node = OwnNode()
    node.id = owner
    async with World(tmp_path / "turns.sqlite") as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        for before, text in enumerate(("one ", "two ", "three ")):
            assert await world.store.read(LastPage(owner=owner)) == before
            await feed.say(TextDelta(0, text))
            keeper = JournalKeeper(world.store, world.registry.journal_parts, node=node)
            keeper.hold()  # a renewal would delete the pages before
            await keeper.write()
        (segment,) = await world.store.read(Journal(turn_id=executor.turn.id, owner=owner))
        assert segment.text == "one two three ", "each keeper began the block anew"
        feed.end()
