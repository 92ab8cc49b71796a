"""Watchers of lost generations, their ends, sinks, and archives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.turnlog.fed import (
    GENERATION,
    SECONDS,
    FedTurn,
    at,
    drained,
    lost_and_recovered,
    text_block,
    to_the_end,
)
from tests.turnlog.scripted import (
    TURN_ID,
    ListArchive,
    ListStore,
    Ticks,
    new_log,
    turn_row,
)
from tests.turnlog.watching import Client
from turnstream.core.blocks import Block
from turnstream.core.cursor import SEQ_STRIDE, Cursor
from turnstream.core.identifiers import new_id
from turnstream.core.stream_events import (
    ContentBlockStart,
    TextDelta,
)
from turnstream.core.turn_events import Data, StepStart
from turnstream.errors import StoreError
from turnstream.store.base import Annotation, BlockRecord, ChatRecord
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.content import SaveAnnotations, SaveBlock
from turnstream.store.operations.start import StartTurns
from turnstream.store.sql import SqlStore
from turnstream.turnlog import catch_up
from turnstream.turnlog.catch_up import Archive, ArchivePage
from turnstream.turnlog.subscription import Subscription
from turnstream.turns.archive import KeptParts, StoreArchive


@pytest.mark.requirement("C3", "P3")
async def test_who_saw_more_than_survived_is_told_from_which_block_on() -> None:
    log, archive = lost_and_recovered()
    for cursor in (at(21), at(30), at(SEQ_STRIDE)):
        client = await to_the_end(Subscription(log, archive, after=cursor))
        assert [frame.name for frame in client.frames] == ["notice", "block_catchup", "turn_error"]
        notice = client.frames[0].data
        assert (notice["code"], notice["block_index"]) == ("truncated", 1)


@pytest.mark.requirement("C3")
async def test_who_saw_no_more_than_survived_goes_on_as_if_nothing_had_happened() -> None:
    log, archive = lost_and_recovered()
    client = await to_the_end(Subscription(log, archive, after=at(15)))
    assert [frame.name for frame in client.frames] == ["block_catchup", "turn_error"]
    client = await to_the_end(Subscription(log, archive, after=at(5)))
    assert [frame.name for frame in client.frames] == ["block_catchup", "block_catchup", "turn_error"]


@pytest.mark.requirement("C3")
async def test_a_notice_of_lost_text_is_not_lost_with_the_next_cut() -> None:
    log, archive = lost_and_recovered()
    subscription = Subscription(log, archive, after=at(30))
    client = Client()
    client.receive(await subscription.next() or b"")
    generation, _, seq = (client.reconnect() or "").partition("-")
    resumed = await to_the_end(Subscription(log, archive, after=Cursor(int(generation), int(seq))))
    assert [frame.name for frame in resumed.frames] == ["block_catchup", "turn_error"]


@pytest.mark.requirement("D7")
async def test_a_cursor_at_the_end_has_nothing_to_follow() -> None:
    log, archive = lost_and_recovered()
    assert Subscription(log, archive, after=Cursor(GENERATION + 1, log.head)).at_end
    assert not Subscription(log, archive, after=Cursor(GENERATION + 1, log.head - 1)).at_end
    assert not Subscription(log, archive, after=at(log.head)).at_end
    assert not Subscription(log, archive).at_end


async def test_a_nudge_gives_an_empty_piece_and_a_close_the_end() -> None:
    async with FedTurn() as turn:
        subscription = turn.watch()
        await drained(subscription)
        loop = asyncio.get_running_loop()
        for end, answer in [(subscription.nudge, b""), (subscription.close, None)]:
            reading = loop.create_task(subscription.next())
            await asyncio.sleep(0)
            assert subscription.waiting
            end()
            async with asyncio.timeout(SECONDS):
                assert await reading == answer
        assert turn.log.watchers_waiting == 0


@pytest.mark.requirement("C4")
async def test_what_a_sink_does_not_take_is_returned() -> None:
    """A current watcher is served without waking it. A watcher with a full connection waits with the rest."""
    async with FedTurn() as turn:
        await turn.feed(ContentBlockStart(0, "text"))
        subscription = turn.watch()
        client = await drained(subscription)
        taken: list[bytes] = []
        room = 2

        def take(data: bytes) -> bool:
            if len(taken) < room:
                taken.append(data)
                return True
            return False

        reading = asyncio.get_running_loop().create_task(subscription.next(take))
        for word in ("one ", "two ", "three ", "four "):
            await turn.feed(TextDelta(0, word))
            await asyncio.sleep(0)
        async with asyncio.timeout(SECONDS):
            rest = await reading
        assert len(taken) == 2
        for data in (*taken, rest or b""):
            client.receive(data)
        await drained(subscription, client)
        assert client.now.blocks[0].text_content == "one two three four "
        assert turn.log.watchers_waiting == 0


async def test_a_watcher_that_leaves_leaves_nothing_behind() -> None:
    async with FedTurn() as turn:
        subscription = turn.watch()
        await drained(subscription)
        reading = asyncio.get_running_loop().create_task(subscription.next())
        await asyncio.sleep(0)
        assert turn.log.watchers_waiting == 1
        reading.cancel()
        await asyncio.wait([reading])
        assert turn.log.watchers_waiting == 0


class BrokenArchive(ListArchive):
    async def page_after(self, seq: int, *, next_block: int, horizon: int) -> ArchivePage:
        raise StoreError("no database")


async def test_an_archive_that_fails_does_not_move_the_cursor() -> None:
    async with FedTurn() as turn:
        await turn.feed(*text_block(0, "one"))
        subscription = Subscription(turn.log, BrokenArchive(turn.store, Ticks()))
        client = Client()
        client.receive(await subscription.next() or b"")
        with pytest.raises(StoreError):
            await subscription.next()
        assert subscription.cursor == at(1)


BLOCKS = [
    BlockRecord(new_id(), TURN_ID, Block(place, "text", f"block {place}"), 10 * place + 2, 10 * place + 9, 0)
    for place in range(12)
]
ANNOTATIONS = [
    Annotation(TURN_ID, 10 * place + 5, msgspec.json.encode(Data("d", place))) for place in range(12)
]


@pytest.fixture(params=["list", "sql"])
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Archive]:
    if request.param == "list":
        store = ListStore(Ticks())
        store.blocks, store.annotations = list(BLOCKS), list(ANNOTATIONS)
        yield ListArchive(store, Ticks())
        return
    sql = SqlStore(f"sqlite:///{tmp_path}/test.sqlite")
    await sql.open()
    try:
        turn = turn_row()
        await sql.write(CreateChat(chat=ChatRecord(turn.chat_id, turn.owner, None, {}, 0, 0)))
        await sql.write(StartTurns(turn_id=turn.id, owner=turn.owner, user_turn=None, assistant_turn=turn))
        for row in BLOCKS:
            await sql.write(SaveBlock(turn_id=turn.id, generation=GENERATION, row=row))
        await sql.write(SaveAnnotations(turn_id=turn.id, generation=GENERATION, rows=tuple(ANNOTATIONS)))
        yield StoreArchive(sql, new_log(), KeptParts())
    finally:
        await sql.close()


async def archived(
    archive: Archive, seq: int, *, next_block: int = 0, horizon: int = 1000
) -> list[tuple[int, str]]:
    """Return ids and names of the frames of all pages after `seq`, in the order of their ids."""
    client = Client()
    while seq < horizon:
        page = await archive.page_after(seq, next_block=next_block, horizon=horizon)
        assert page.large is None
        client.receive(page.data)
        seq, next_block = page.seq, page.next_block
    return [(frame.seq, frame.name) for frame in client.frames]


@pytest.mark.requirement("C2")
@pytest.mark.parametrize("page_bytes", [1, 500, 100_000])
async def test_an_archive_gives_what_ends_after_a_seq_in_order(
    archive: Archive, page_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "PAGE_BYTES", page_bytes)
    rows = [(row.last_seq, "block_catchup") for row in BLOCKS] + [(row.seq, "data") for row in ANNOTATIONS]
    for seq in (0, 8, 9, 10, 50, 119, 200):
        for horizon in (60, 119, 1000):
            expected = sorted(row for row in rows if seq < row[0] <= horizon)
            assert await archived(archive, seq, horizon=horizon) == expected


async def test_an_archive_begins_at_the_block_that_is_asked_for(archive: Archive) -> None:
    blocks = [seq for seq, name in await archived(archive, 15, next_block=5) if name == "block_catchup"]
    assert blocks == [row.last_seq for row in BLOCKS[5:]]
    assert "block_catchup" not in [name for _, name in await archived(archive, 0, next_block=12)]
    assert [await archive.count_until(seq) for seq in (0, 8, 9, 50, 200)] == [0, 0, 1, 5, 12]


@pytest.mark.requirement("C4")
async def test_who_joins_while_others_are_about_to_be_told_gets_no_empty_piece() -> None:
    """An empty piece would be the end of a chunked body."""
    async with FedTurn() as turn:
        await turn.feed(ContentBlockStart(0, "text"))
        first, second = turn.watch(), turn.watch()
        await drained(first)
        pieces: list[bytes] = []

        def take(data: bytes) -> bool:
            pieces.append(data)
            return True

        following = asyncio.get_running_loop().create_task(first.next(take))
        await asyncio.sleep(0)
        await drained(second)
        turn.log.append([StepStart(1)])  # a follower gets it in the loop's next iteration
        with pytest.raises(StopIteration):
            second.next().send(None)  # it takes the event before that,
        joining = second.next(take)
        joining.send(None)  # and follows now, with nothing to be told
        await asyncio.sleep(0)
        assert len(pieces) == 1
        assert b"step_start" in pieces[0]
        joining.close()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
