"""The log of one turn numbers its events, wakes its watchers, shares its batches, and ends once."""

from __future__ import annotations

import asyncio

import pytest

from tests.turnlog.scripted import START, new_log
from tests.turnlog.watching import Client, Frame
from turnstream.core.cursor import Cursor, Fence, first_generation
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Data,
    Notice,
    Source,
    TurnCancelled,
    TurnEvent,
)
from turnstream.turnlog.base import History
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.position import NOTHING, WatchPosition
from turnstream.turnlog.view import REST_PIECE


def with_open_block(text: str = "", *, ring_limit: int = 64 * 1024) -> TurnLog:
    """A log with block 0 open, which holds `text`."""
    log = new_log(ring_limit=ring_limit)
    log.show([START, BlockStart(0, "text")], OpenBlock(0, 0, "text", None))
    if text:
        grow(log, text)
    return log


def grow(log: TurnLog, text: str) -> None:
    assert log.open_block is not None
    log.open_block.append(text)
    log.append([BlockDelta(0, "text", "text", text)])


def frames_of(data: bytes) -> list[Frame]:
    return Client().receive(data)


def test_events_are_numbered_from_one_without_gaps() -> None:
    log = with_open_block("hello")
    assert log.head == 3
    assert log.head_cursor == Cursor(first_generation(log.turn_id), 3)
    assert log.start == (1, START)
    assert log.open_first_seq == 2
    assert [frame.seq for frame in frames_of(log.batch_after(0).data)] == [1, 2, 3]


@pytest.mark.requirement("D7")
def test_nothing_follows_the_terminal_event() -> None:
    log = with_open_block()
    log.append([BlockStop(0, "text"), TurnCancelled(0)])
    assert log.terminal == (4, TurnCancelled(0))
    with pytest.raises(RuntimeError, match="has ended"):
        log.append([Notice("late", "too late")])
    assert log.head == 4


@pytest.mark.requirement("C1")
def test_watchers_at_one_cursor_share_the_bytes() -> None:
    log = with_open_block("hello")
    assert log.batch_after(1).data is log.batch_after(1).data
    grow(log, " there")
    assert b" there" in log.batch_after(1).data


def test_a_batch_says_how_much_of_the_open_block_it_completes() -> None:
    log = with_open_block("hello")
    batch = log.batch_after(2)
    assert (batch.after.seq, batch.after.block_index, batch.after.length) == (3, 0, 5)
    log.block_stored(BlockStop(0, "text"), None)
    batch = log.batch_after(2)
    assert (batch.after.seq, batch.after.block_index, batch.after.length) == (4, NOTHING, 0)


async def test_an_append_wakes_all_who_wait_and_no_other() -> None:
    log = with_open_block()
    loop = asyncio.get_running_loop()
    woken, gone = loop.create_future(), loop.create_future()
    log.add_waiter(woken)
    log.add_waiter(gone)
    log.discard_waiter(gone)
    gone.cancel()
    assert log.watchers_waiting == 1
    log.append([])
    assert not woken.done()
    grow(log, "x")
    assert woken.done()
    assert log.watchers_waiting == 0


async def test_a_waiter_that_was_cancelled_disturbs_nobody() -> None:
    log = with_open_block()
    loop = asyncio.get_running_loop()
    waiters = [loop.create_future() for _ in range(3)]
    for waiter in waiters:
        log.add_waiter(waiter)
    waiters[1].cancel()
    grow(log, "x")
    assert [waiter.cancelled() for waiter in waiters] == [False, True, False]
    assert waiters[0].done()
    assert waiters[2].done()


@pytest.mark.requirement("C3")
def test_only_the_last_piece_of_the_open_block_moves_the_cursor() -> None:
    text = "".join(chr(97 + number % 26) for number in range(2 * REST_PIECE + 5))
    log = with_open_block(text)
    position, pieces = WatchPosition(log.generation, 1), []
    for _ in range(3):
        batch = log.rest_after(position)
        pieces += frames_of(batch.data)
        position = batch.after
    assert [(frame.name, frame.seq) for frame in pieces] == [
        ("block_catchup", 1),
        ("block_delta", 1),
        ("block_delta", 3),
    ]
    client = Client()
    client.receive(log.rest_after(WatchPosition(log.generation, 1)).data)
    for frame in pieces[1:]:
        client.now.fold.feed(frame.name, frame.data)
    assert client.now.blocks[0].text_content == text


def test_there_is_no_rest_where_no_block_is_open() -> None:
    with pytest.raises(RuntimeError, match="no block"):
        new_log().rest_after(WatchPosition(1, 0))


@pytest.mark.parametrize(
    ("event", "exact"),
    [
        (BlockDelta(0, "text", "text", "x"), True),
        (BlockStop(0, "text"), True),
        (Source("s1"), False),
        (Data("d", 1), False),
        (Notice("n", "m"), False),
    ],
)
@pytest.mark.requirement("C3")
def test_a_cursor_at_a_lasting_event_says_nothing_of_the_block_around_it(
    event: TurnEvent, *, exact: bool
) -> None:
    log = with_open_block("hello")
    log.append([event])
    assert log.is_exact(log.head) == exact
    assert log.is_exact(0)
    assert not log.is_exact(log.head + 1)


def test_a_lost_generation_is_known_by_its_fence() -> None:
    log = new_log()
    log.rebuilt(History(None, (), (Fence(3, 40), Fence(4, 1 << 20))), TurnCancelled(0))
    assert log.fence_of(3) == 40
    assert log.fence_of(4) == 1 << 20
    assert log.fence_of(5) is None
