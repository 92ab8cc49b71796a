"""Frames for a watcher, case by case. The general property is in `test_subscription_properties`."""

from __future__ import annotations

import asyncio

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
    ListArchive,
    ScriptedTurn,
    Ticks,
)
from tests.turnlog.watching import Client
from turnstream.core.cursor import Cursor
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    SignatureDelta,
    TextDelta,
)
from turnstream.core.turn_events import Data, Notice, Source, SourceEvent
from turnstream.store.operations.content import SaveBlock
from turnstream.turnlog.subscription import Subscription
from turnstream.turnlog.view import REST_PIECE


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
    """A turn whose first block stays in its store write until `go_on` is set."""

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
    """In a catch-up the annotation comes before the block around it. A watcher that is cut between the two
    still gets the block."""
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
    """The watcher falls off the ring a hundred times, and gets no more than there is."""
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
    """A watcher that takes nothing has at most one piece in memory. A cut between two pieces loses
    nothing."""
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
