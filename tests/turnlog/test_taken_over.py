"""A generation that changes under live watchers. Watchers above its fence get a notice, and all end with the
same blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.turnlog.scripted import START, TURN_ID, ListArchive, ListStore, Ticks, new_log
from tests.turnlog.watching import Client
from turnstream.core.cursor import SEQ_STRIDE, Cursor, Fence, first_generation
from turnstream.core.identifiers import new_id
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import BlockDelta, BlockStart, BlockStop, Notice, TurnCancelled, TurnError
from turnstream.store.base import BlockRecord
from turnstream.turnlog.base import History, LogState
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.subscription import Subscription

G = first_generation(TURN_ID)
BASE = SEQ_STRIDE
SECONDS = 1.0


class OwnedTurn:
    """A turn whose log and store a test writes like its owner."""

    def __init__(
        self,
        *,
        ring_limit: int = 64 * 1024,
        ticks: tuple[int, ...] = (),
        store: ListStore | None = None,
        log: TurnLog | None = None,
    ) -> None:
        """With a `log` the turn is only watched: another owner writes it."""
        self.log = log or new_log(ring_limit=ring_limit)
        self.store = store or ListStore(Ticks())
        self.archive = ListArchive(self.store, Ticks(ticks), self.log)
        if log is None:
            self.log.append([START])

    def open(self, index: int) -> None:
        self.log.show([BlockStart(index, "text")], OpenBlock(index, 0, "text", None))

    def say(self, *texts: str) -> None:
        block = self.log.open_block
        assert block is not None
        for text in texts:
            block.append(text)
            self.log.grow(BlockDelta(block.sequence, "text", "text", text))

    def store_block(self) -> None:
        opened = self.log.open_block
        assert opened is not None
        block = opened.finish()
        row = BlockRecord(new_id(), TURN_ID, block, self.log.open_first_seq, self.log.head + 1, 0)
        self.store.blocks.append(row)
        self.log.block_stored(BlockStop(block.sequence, "text"), None)

    def take_over(self, fence: int, *, text: str | None, index: int = 0) -> None:
        """Another owner continues. Of the block `index`, `text` has survived."""
        log = self.log
        block = None if text is None else OpenBlock(index, 0, "text", None)
        if block is not None:
            block.append(text or "")
        base = (log.head // SEQ_STRIDE + 1) * SEQ_STRIDE
        fences = (*log.fences, Fence(log.generation, fence))
        stored = max((row.last_seq for row in self.store.blocks), default=0)
        history = History(log.start, log.resets, fences)
        log.taken_over(LogState(log.generation + 1, base, history, stored, block, log.open_first_seq))


class LiveWatcher:
    """A watcher whose sink takes the frames, or whose task takes them."""

    def __init__(self, turn: OwnedTurn, *, after: Cursor | None = None, takes: bool = True) -> None:
        self.client = Client()
        self.subscription = Subscription(turn.log, turn.archive, after=after)
        self._takes = takes
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while (data := await self.subscription.next(self._take if self._takes else None)) is not None:
            self.client.receive(data)

    def _take(self, data: bytes) -> bool:
        self.client.receive(data)
        return True

    @property
    def names(self) -> list[str]:
        return [frame.name for frame in self.client.frames]

    @property
    def texts(self) -> list[str | None]:
        return [block.text_content for block in self.client.now.blocks]


@asynccontextmanager
async def watching(turn: OwnedTurn, *, takes: bool = True) -> AsyncIterator[LiveWatcher]:
    watcher = LiveWatcher(turn, takes=takes)
    await until(lambda: watcher.subscription.waiting)
    async with asyncio.timeout(SECONDS):
        yield watcher
        await watcher.task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - a tick at a time, to interleave
            await asyncio.sleep(0)


@pytest.mark.requirement("C3", "P3")
@pytest.mark.parametrize("takes", [True, False], ids=["past its task", "in its task"])
async def test_a_live_watcher_above_the_fence_is_told_and_catches_up(*, takes: bool) -> None:
    turn = OwnedTurn()
    turn.open(0)
    async with watching(turn, takes=takes) as watcher:
        turn.say("one", " two", " lost")
        await until(lambda: watcher.subscription.lag == 0)
        turn.take_over(4, text="one two")
        turn.say(" three")
        await until(lambda: watcher.texts == ["one two three"])
        turn.store_block()
        turn.log.ended([], TurnCancelled(1))
    told = watcher.names[watcher.names.index("notice") :]
    assert told[:2] == ["notice", "block_catchup"]
    notice = watcher.client.frames[watcher.names.index("notice")]
    assert (notice.data["code"], notice.data["block_index"], notice.seq) == ("truncated", 0, 4)
    assert watcher.client.now.blocks == [row.block for row in turn.store.blocks]
    assert {frame.id.partition("-")[0] for frame in watcher.client.frames} == {str(G), str(G + 1)}
    assert len(watcher.client.terminal_events()) == 1


@pytest.mark.requirement("C3")
async def test_a_live_watcher_at_the_fence_is_told_nothing() -> None:
    turn = OwnedTurn()
    turn.open(0)
    async with watching(turn) as watcher:
        turn.say("one")
        turn.take_over(turn.log.head, text="one")
        turn.say(" two")
        turn.store_block()
        turn.log.ended([], TurnCancelled(1))
    assert "notice" not in watcher.names
    assert watcher.client.now.blocks == [row.block for row in turn.store.blocks]


@pytest.mark.requirement("C3")
async def test_a_block_of_which_nothing_survived_is_dropped() -> None:
    turn = OwnedTurn()
    turn.open(0)
    turn.say("kept")
    turn.store_block()
    fence = turn.log.head
    turn.open(1)
    async with watching(turn) as watcher:
        turn.say("lost")
        turn.take_over(fence, text=None)
        await until(lambda: watcher.texts == ["kept"])
        turn.open(1)
        turn.say("anew")
        turn.store_block()
        turn.log.ended([], TurnCancelled(2))
    assert watcher.texts == ["kept", "anew"]


@pytest.mark.requirement("C3")
async def test_a_generation_that_changes_while_a_page_is_read_sends_nothing_of_it() -> None:
    turn = OwnedTurn(ring_limit=0, ticks=(0, 3))
    turn.open(0)
    turn.say("one")
    turn.store_block()
    turn.open(1)
    turn.say("lost")
    watcher = LiveWatcher(turn)
    await until(lambda: watcher.names == ["turn_start"])
    turn.take_over(4, text=None)
    turn.open(1)
    turn.say("two")
    turn.store_block()
    turn.log.ended([], TurnCancelled(2))
    async with asyncio.timeout(SECONDS):
        await watcher.task
    assert watcher.texts == ["one", "two"]
    later = [frame.id.partition("-")[0] for frame in watcher.client.frames[1:]]
    assert set(later) == {str(G + 1)}


@pytest.mark.requirement("C3")
async def test_two_generations_may_be_lost_one_after_the_other() -> None:
    turn = OwnedTurn()
    turn.open(0)
    async with watching(turn) as watcher:
        turn.say("one", " lost")
        turn.take_over(3, text="one")
        await until(lambda: watcher.texts == ["one"])
        turn.say(" two", " lost too")
        turn.take_over(BASE + 1, text="one two")
        await until(lambda: watcher.texts == ["one two"])
        turn.store_block()
        turn.log.ended([], TurnCancelled(1))
    codes = [frame.data["code"] for frame in watcher.client.frames if frame.name == "notice"]
    assert codes == ["truncated", "truncated"]
    assert watcher.client.now.blocks == [row.block for row in turn.store.blocks]


@pytest.mark.requirement("C3")
async def test_a_watcher_that_slept_through_two_generations_is_told_once() -> None:
    turn = OwnedTurn()
    turn.open(0)
    turn.say("one", " lost")
    after = Cursor(G, turn.log.head)
    turn.take_over(3, text="one")
    turn.say(" two")
    turn.take_over(BASE + 1, text="one two")
    turn.store_block()
    turn.log.ended([], TurnCancelled(1))
    watcher = LiveWatcher(turn, after=after)
    async with asyncio.timeout(SECONDS):
        await watcher.task
    assert watcher.names.count("notice") == 1
    assert watcher.texts == ["one two"]


async def test_an_end_that_was_never_stored_is_void_when_another_owner_continues() -> None:
    turn = OwnedTurn()
    turn.open(0)
    turn.say("one")
    fence = turn.log.head
    turn.log.ended_unstored([], TurnError("lost", "database_error", 0))
    turn.take_over(fence, text="one")
    assert turn.log.terminal is None
    turn.say(" two")
    turn.store_block()
    turn.log.ended([], TurnCancelled(1))
    watcher = LiveWatcher(turn, after=Cursor(G, fence + 1))
    async with asyncio.timeout(SECONDS):
        await watcher.task
    assert watcher.names[0] == "notice"
    assert watcher.texts == ["one two"]


async def test_an_older_generation_cannot_take_over() -> None:
    turn = OwnedTurn()
    turn.log.append([Notice("passing", "on")])
    for generation in (G, G - 1):
        with pytest.raises(ValueError, match="not newer"):
            turn.log.taken_over(LogState(generation, BASE, History(None), 0))
    assert turn.log.head_cursor == Cursor(G, 2)


@pytest.mark.requirement("C3", "P3")
async def test_a_frame_of_the_watcher_s_own_does_not_move_its_cursor() -> None:
    """A watcher above the fence whose catch-up cannot be read reconnects with its cursor, and then gets the
    notice."""
    turn = OwnedTurn()
    turn.open(0)
    turn.say("one", " lost")
    after = Cursor(G, turn.log.head)
    turn.take_over(3, text="one")
    (frame,) = Client().receive(Subscription(turn.log, turn.archive, after=after).frame(Notice("n", "m")))
    assert frame.id == str(after)
    turn.store_block()
    turn.log.ended([], TurnCancelled(1))
    watcher = LiveWatcher(turn, after=after)
    async with asyncio.timeout(SECONDS):
        await watcher.task
    assert watcher.names[0] == "notice"
