"""What a watcher is sent, case by case; the general property is in test_subscription_properties.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.turnlog.scripted import (
    START,
    TURN_ID,
    ListArchive,
    ListStore,
    ScriptedTurn,
    Ticks,
    new_log,
    turn_row,
)
from tests.turnlog.watching import Client
from turnstream.core.blocks import Block
from turnstream.core.cursor import SEQ_STRIDE, Cursor, first_generation
from turnstream.core.identifiers import new_id
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    SignatureDelta,
    TextDelta,
)
from turnstream.core.turn_events import Data, Notice, Source, SourceEvent, StepStart, TurnError
from turnstream.dialects.native import NativeEncoder
from turnstream.errors import StoreError
from turnstream.model_loop.sources import ForeignSource
from turnstream.store.base import Annotation, BlockRecord, ChatRecord
from turnstream.store.operations import CreateChat, SaveAnnotations, SaveBlock, StartTurns
from turnstream.store.sql import SqlStore
from turnstream.turnlog import catch_up
from turnstream.turnlog.base import Fence, History
from turnstream.turnlog.catch_up import Archive, ArchivePage
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.subscription import Subscription
from turnstream.turnlog.view import REST_PIECE
from turnstream.turns.archive import KeptParts, StoreArchive
from turnstream.turns.executor import Executor

GENERATION = first_generation(TURN_ID)
SECONDS = 10.0


class FedTurn:
    """A turn whose source says what the test tells it to, when it tells it to."""

    def __init__(self, *, ring_limit: int = 64 * 1024) -> None:
        self.store = ListStore(Ticks())
        self.log = new_log(ring_limit=ring_limit)
        self.archive = ListArchive(self.store, Ticks())
        self.executor = Executor(turn_row(), self.log, self.store)
        self._events: asyncio.Queue[Sequence[SourceEvent] | None] = asyncio.Queue()
        self._taken = asyncio.Event()

    async def __aenter__(self) -> FedTurn:
        self.task = self.executor.start(ForeignSource(self._source()))
        self.executor.begin(START)
        await self.feed()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._events.put_nowait(None)
        async with asyncio.timeout(SECONDS):
            await self.task

    async def feed(self, *events: SourceEvent) -> None:
        """Returns when the executor has taken them in, and waits for more."""
        self._taken.clear()
        self._events.put_nowait(events)
        async with asyncio.timeout(SECONDS):
            await self._taken.wait()

    def watch(self, after: Cursor | None = None, *, from_block: int = 0) -> Subscription:
        return Subscription(self.log, self.archive, after=after, from_block=from_block)

    async def _source(self) -> AsyncIterator[Sequence[SourceEvent]]:
        while (events := await self._events.get()) is not None:
            yield events
            self._taken.set()


async def drained(subscription: Subscription, client: Client | None = None) -> Client:
    """What the subscription has ready; a live one is left waiting for more."""
    client = client or Client()
    async with asyncio.timeout(SECONDS):
        while subscription.cursor.seq < subscription.log.head:
            client.receive(await subscription.next() or b"")
    return client


def at(seq: int) -> Cursor:
    return Cursor(GENERATION, seq)


def text_block(index: int, text: str) -> tuple[SourceEvent, ...]:
    return ContentBlockStart(index, "text"), TextDelta(index, text), ContentBlockStop(index)


@pytest.mark.requirement("C2")
async def test_more_blocks_than_a_page_are_caught_up() -> None:
    async with FedTurn() as turn:
        for number in range(50):
            await turn.feed(*text_block(0, f"block {number}"))
        client = await drained(turn.watch())
        assert [block.text_content for block in client.now.blocks] == [f"block {n}" for n in range(50)]
        names = [frame.name for frame in client.frames]
        assert names == ["turn_start", *["block_catchup"] * 50]


@pytest.mark.requirement("C2")
async def test_a_join_while_a_block_is_being_stored_loses_nothing() -> None:
    async with asyncio.timeout(SECONDS):
        for hold_before, hold_after in [(True, False), (False, True)]:
            turn = HeldTurn(hold_before=hold_before, hold_after=hold_after)
            task = turn.begin()
            await turn.held.wait()
            stored_already = [row.block.sequence for row in turn.store.blocks]
            assert stored_already == ([0] if hold_after else [])
            joined = [Subscription(turn.log, ListArchive(turn.store, Ticks())) for _ in range(2)]
            early = [await drained(subscription) for subscription in joined]
            assert [client.now.blocks[0].text_content for client in early] == ["hello", "hello"]
            turn.go_on.set()
            await task
            for subscription, client in zip(joined, early, strict=True):
                while (data := await subscription.next()) is not None:
                    client.receive(data)
                assert client.now.blocks == [row.block for row in turn.store.blocks]
                assert len(client.terminal_events()) == 1


class HeldTurn(ScriptedTurn):
    """A turn whose first block stays in the middle of its store write until `go_on` is set."""

    def __init__(self, *, hold_before: bool, hold_after: bool) -> None:
        super().__init__([[*text_block(0, "hello"), *text_block(1, "there")]])
        self.held, self.go_on = asyncio.Event(), asyncio.Event()
        apply = self.store.write

        async def write(operation: object) -> object:
            is_first = isinstance(operation, SaveBlock) and not self.held.is_set()
            if is_first and hold_before:
                await self._hold()
            answer = await apply(operation)  # type: ignore[arg-type]
            if is_first and hold_after:
                await self._hold()
            return answer

        self.store.write = write  # type: ignore[method-assign]

    async def _hold(self) -> None:
        self.held.set()
        await self.go_on.wait()


@pytest.mark.requirement("C3")
@pytest.mark.parametrize(
    "cursor",
    [Cursor(GENERATION + 1, 3), Cursor(12345, 2), at(1000), Cursor(0, 0)],
    ids=["later generation", "other turn", "ahead", "nobody's"],
)
async def test_a_cursor_that_is_not_of_this_log_gets_a_full_snapshot(cursor: Cursor) -> None:
    async with FedTurn() as turn:
        await turn.feed(*text_block(0, "one"), ContentBlockStart(1, "text"), TextDelta(1, "tw"))
        client = await drained(turn.watch(cursor))
        assert client.frames[0].name == "turn_start"
        assert [block.text_content for block in client.now.blocks] == ["one", "tw"]


@pytest.mark.requirement("C3")
async def test_a_cursor_in_the_ring_gets_exactly_what_follows() -> None:
    async with FedTurn() as turn:
        await turn.feed(ContentBlockStart(0, "text"), TextDelta(0, "one"))
        head = turn.log.head
        await turn.feed(TextDelta(0, " two"))
        client = await drained(turn.watch(at(head)))
        assert [(frame.seq, frame.data["delta"]) for frame in client.frames] == [(head + 1, {"text": " two"})]


@pytest.mark.requirement("C3")
async def test_a_lasting_event_amid_a_block_does_not_pass_the_block() -> None:
    """In a catch-up it comes before the block around it: whoever is cut between the two still gets the block."""
    async with FedTurn() as turn:
        await turn.feed(
            ContentBlockStart(0, "text"), TextDelta(0, "before"), Source("s1"), TextDelta(0, " after")
        )
        subscription = turn.watch()
        client = Client()
        while client.cursor is None or client.frames[-1].name != "source":
            client.receive(await subscription.next() or b"")
        assert client.now.blocks == []
        resumed = turn.watch(at(client.frames[-1].seq))
        client.reconnect()
        await drained(resumed, client)
        assert client.now.blocks[0].text_content == "before after"
        assert len(client.now.lasting) == 1


@pytest.mark.requirement("C3")
async def test_blocks_that_the_client_has_are_left_out() -> None:
    async with FedTurn() as turn:
        for number in range(40):
            await turn.feed(*text_block(0, f"block {number}"))
        await turn.feed(ContentBlockStart(0, "text"), TextDelta(0, "open"))
        client = await drained(turn.watch(from_block=38))
        assert [block.sequence for block in client.now.blocks] == [38, 39, 40]
        assert turn.archive.blocks_read == 2
        assert "turn_start" not in [frame.name for frame in client.frames]


@pytest.mark.requirement("C3")
async def test_who_is_told_to_start_from_nothing_gets_the_blocks_that_it_had_left_out_too() -> None:
    async with FedTurn() as turn:
        await turn.feed(*text_block(0, "one"), *text_block(0, "two"))
        client = await drained(turn.watch(Cursor(12345, 2), from_block=1))
        assert client.frames[0].name == "turn_start"
        assert [block.text_content for block in client.now.blocks] == ["one", "two"]


@pytest.mark.requirement("C3")
async def test_blocks_that_a_watcher_is_told_to_drop_are_sent_again_whatever_it_left_out() -> None:
    log, archive = lost_and_recovered()
    client = await to_the_end(Subscription(log, archive, after=at(30), from_block=7))
    assert [frame.name for frame in client.frames] == ["notice", "block_catchup", "turn_error"]
    assert client.frames[1].data["block_index"] == 1


@pytest.mark.requirement("C4", "O2")
async def test_a_slow_watcher_gets_the_rest_of_the_open_block_and_each_byte_once() -> None:
    """It falls off the ring a hundred times, and is sent no more than there is."""
    async with FedTurn(ring_limit=4096) as turn:
        await turn.feed(ContentBlockStart(0, "text"))
        subscription = turn.watch()
        client = await drained(subscription)
        sent = 0
        fell_off = 0
        for number in range(100):
            for _ in range(40):
                await turn.feed(TextDelta(0, f"{number:03} word "))
            fell_off += not turn.log.ring.covers(subscription.cursor.seq)
            while subscription.cursor.seq < turn.log.head:
                data = await subscription.next() or b""
                sent += len(data)
                client.receive(data)
        assert fell_off == 100
        text = client.now.blocks[0].text_content or ""
        assert turn.log.open_block is not None
        assert text == turn.log.open_block.text()
        assert sent < 2.5 * len(text)
        names = [frame.name for frame in client.connection]
        assert names == ["turn_start", "block_catchup", *["block_delta"] * (len(names) - 2)]


@pytest.mark.requirement("C4")
async def test_passing_and_lasting_events_do_not_make_a_slow_watcher_start_again() -> None:
    async with FedTurn(ring_limit=2048) as turn:
        await turn.feed(ContentBlockStart(0, "text"), TextDelta(0, "x" * 20_000))
        subscription = turn.watch()
        client = await drained(subscription)
        seen = len(client.frames)
        for number in range(30):
            await turn.feed(Data("live", number, transient=True), *[TextDelta(0, "word ")] * 3)
            await turn.feed(Data("kept", number), *[TextDelta(0, "more ")] * 3)
            turn.executor.notify(Notice("passing", "on"))
            for _ in range(30):
                await turn.feed(TextDelta(0, "and more "))
            assert not turn.log.ring.covers(subscription.cursor.seq)
            await drained(subscription, client)
        later = client.frames[seen:]
        assert {frame.name for frame in later} == {"data", "block_delta"}
        assert [frame.data["data"] for frame in later if frame.name == "data"] == list(range(30))
        assert turn.log.open_block is not None
        assert client.now.blocks[0].text_content == turn.log.open_block.text()


@pytest.mark.requirement("C4")
@pytest.mark.parametrize("change", [SignatureDelta(0, "sig"), ContentDelta(0, {"citations": [1]})])
async def test_a_slow_watcher_that_missed_more_than_text_gets_the_block_whole(change: SourceEvent) -> None:
    async with FedTurn(ring_limit=1024) as turn:
        await turn.feed(ContentBlockStart(0, "thinking"), TextDelta(0, ""))
        subscription = turn.watch()
        client = await drained(subscription)
        await turn.feed(change)
        for _ in range(40):
            await turn.feed(Data("live", "x", transient=True))
        assert not turn.log.ring.covers(subscription.cursor.seq)
        await drained(subscription, client)
        assert client.frames[-1].name == "block_catchup"


@pytest.mark.requirement("C4", "O2")
async def test_a_large_open_block_is_caught_up_in_pieces() -> None:
    """One piece is all that a watcher who takes nothing has in memory; a cut between two of them loses nothing."""
    text = "0123456789abcdef" * (REST_PIECE // 4)
    async with FedTurn() as turn:
        await turn.feed(*text_block(0, "first"), ContentBlockStart(1, "text"), TextDelta(1, text))
        client = Client()
        subscription = turn.watch()
        largest = 0
        while subscription.cursor.seq < turn.log.head:
            data = await subscription.next() or b""
            largest = max(largest, len(data))
            client.receive(data)
            if len(client.frames) == 4:
                subscription = turn.watch(at(client.frames[-1].seq))
                client.reconnect()
        assert client.now.blocks[1].text_content == text
        assert largest < 1.1 * REST_PIECE + 300


@pytest.mark.requirement("C4")
async def test_a_block_that_ends_amid_its_pieces_is_sent_whole() -> None:
    text = "x" * (3 * REST_PIECE)
    async with FedTurn() as turn:
        await turn.feed(ContentBlockStart(0, "text"), TextDelta(0, text))
        subscription = turn.watch()
        client = Client()
        for _ in range(2):
            client.receive(await subscription.next() or b"")
        await turn.feed(TextDelta(0, "end"), ContentBlockStop(0), *text_block(1, "next"))
        await drained(subscription, client)
        assert [block.text_content for block in client.now.blocks] == [text + "end", "next"]


def lost_and_recovered() -> tuple[TurnLog, ListArchive]:
    """A turn whose first executor died at seq 30, of which 20 survived: block 0, and half of block 1."""
    store = ListStore(Ticks())
    partial = Block(1, "text", "half", partial=True)
    store.blocks = [
        BlockRecord(new_id(), TURN_ID, Block(0, "text", "whole"), 3, 10, 0),
        BlockRecord(new_id(), TURN_ID, partial, 11, SEQ_STRIDE, 0),
    ]
    log = TurnLog(TURN_ID, GENERATION + 1, NativeEncoder(TURN_ID, GENERATION + 1), head=SEQ_STRIDE)
    log.rebuilt(History((1, START), (), (Fence(GENERATION, 20),)), TurnError("lost", "orphaned", 1))
    return log, ListArchive(store, Ticks())


async def to_the_end(subscription: Subscription) -> Client:
    client = Client()
    async with asyncio.timeout(SECONDS):
        while (data := await subscription.next()) is not None:
            client.receive(data)
    return client


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
    """A watcher that is up to date is served without waking; one whose connection is full waits with what is left."""
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


# -- every archive keeps the same contract --------------------------------------------------------------------------

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
    """Ids and names of the frames of all pages after `seq`; their order is that of the ids."""
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
        turn.log.append([StepStart(1)])  # who follows is told when the loop comes round
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
