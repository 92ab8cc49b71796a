"""The decisions for a watcher as a table: a log, a position, and the next step."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from tests.turnlog.scripted import START, TURN_ID, new_log
from tests.turnlog.watching import Client
from turnstream.core.cursor import SEQ_STRIDE, Cursor, Fence, first_generation
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import (
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Notice,
    Source,
    TurnCancelled,
    TurnError,
)
from turnstream.turnlog.base import History, LogState
from turnstream.turnlog.catch_up import ArchivePage, BlockPosition, LargeBlock, Parts
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.position import ALL, NOTHING, Batch, WatchPosition
from turnstream.turnlog.view import NO_BATCH
from turnstream.turnlog.watch_decision import (
    CountSurvivors,
    Decision,
    Pause,
    ReadPage,
    ReadPiece,
    SendFrames,
    begin,
    decide,
    is_at_end,
    needs_catch_up,
    page_sent,
    piece_sent,
    truncation_sent,
)

G = first_generation(TURN_ID)
LARGE = LargeBlock("row", 0, "text", False, 4, BlockPosition(0, 10, 0))


def empty() -> TurnLog:
    return new_log()


def closed() -> TurnLog:
    log = new_log()
    log.close()
    return log


def with_open_block(text: str = "hello", *, ring_limit: int = 64 * 1024) -> TurnLog:
    """1 turn_start, 2 block_start of block 0, 3 its text."""
    log, block = new_log(ring_limit=ring_limit), OpenBlock(0, 0, "text", None)
    log.show([START, BlockStart(0, "text")], block)
    block.append(text)
    log.show([BlockDelta(0, "text", "text", text)], block)
    return log


def evicted() -> TurnLog:
    """As `with_open_block`, then passing events that fill the small ring."""
    log = with_open_block(ring_limit=600)
    log.append([Notice("passing", "on") for _ in range(20)])
    return log


def grown_and_evicted() -> TurnLog:
    log = evicted()
    block = log.open_block
    assert block is not None
    block.append(" there")
    log.grow(BlockDelta(0, "text", "text", " there"))
    log.append([Notice("passing", "on") for _ in range(20)])
    return log


def with_stored_block() -> TurnLog:
    """Block 0 is stored as event 4."""
    log = with_open_block(ring_limit=0)
    log.block_stored(BlockStop(0, "text"), None)
    return log


def retracted() -> TurnLog:
    """Block 0 was stored as event 4, and retracted by event 5."""
    log = with_stored_block()
    log.retracted(BlockReset(0), None)
    log.append([Notice("passing", "on")])
    return log


def ended() -> TurnLog:
    """Block 0 is 2 to 4, and event 5 is the end."""
    log = with_open_block()
    log.ended([BlockStop(0, "text")], TurnCancelled(1))
    return log


def unstored() -> TurnLog:
    """The open block ends with event 3, and event 4 is an end that storage refused."""
    log = with_open_block(ring_limit=0)
    log.ended_unstored([], TurnError("lost", "database_error", 0))
    return log


def taken_over() -> TurnLog:
    """Of generation G the events up to 3 survived, with block 0 open."""
    log = with_open_block()
    fences = (Fence(G, 3),)
    log.taken_over(LogState(G + 1, SEQ_STRIDE, History(log.start, (), fences), 0, log.open_block, 2))
    return log


def behind(seq: int = 0, **fields: object) -> WatchPosition:
    return replace(WatchPosition(G, seq, is_behind=True), **fields)


def live(seq: int, **fields: object) -> WatchPosition:
    return replace(WatchPosition(G, seq), **fields)


class Case(NamedTuple):
    log: Callable[[], TurnLog]
    position: WatchPosition
    expected: Decision | WatchPosition | list[tuple[str, int]]
    """Return the decision; or names and seqs of the frames to send; or the position to move to without
    frames."""
    live: bool = False


CASES = {
    "nothing has begun": Case(empty, behind(), live(0)),
    "nothing has begun, up to date": Case(empty, live(0), Pause.WAIT),
    "the log is closed": Case(closed, live(0), Pause.END),
    "up to date": Case(with_open_block, live(3), Pause.WAIT),
    "at the end": Case(ended, live(5), Pause.END),
    "the ring has what follows": Case(
        with_open_block, live(1), [("block_start", 2), ("block_delta", 3)], live=True
    ),
    "the end follows": Case(ended, live(4), [("turn_cancelled", 5)], live=True),
    "from the beginning": Case(with_open_block, behind(), [("turn_start", 1)]),
    "from the beginning, with blocks": Case(with_open_block, behind(next_block=1), behind(1, next_block=1)),
    "the store has more": Case(with_stored_block, live(1), ReadPage(live(1), 4)),
    "the store has more, past some blocks": Case(
        with_stored_block, behind(1, next_block=3), ReadPage(behind(1, next_block=3), 4)
    ),
    "a large block is half sent": Case(
        with_stored_block, behind(1, large=LARGE), ReadPiece(behind(1, large=LARGE), LARGE)
    ),
    "a block was retracted": Case(retracted, live(4), [("block_reset", 4)]),
    "a retraction was told": Case(retracted, behind(4, reset_seq=5), ReadPage(behind(4, reset_seq=5), 5)),
    "the store has nothing after a retraction": Case(retracted, behind(5, reset_seq=5), live(5, reset_seq=5)),
    "a retraction comes before a half sent block": Case(
        retracted, behind(1, large=LARGE), [("block_reset", 1)]
    ),
    "the open block is unknown": Case(evicted, live(1), [("block_catchup", 23)]),
    "the open block is known": Case(
        grown_and_evicted, live(3, block_index=0, length=5, block_seq=3), [("block_delta", 44)]
    ),
    "the open block is known as of before its content changed": Case(
        evicted, live(3, block_index=0, length=5, block_seq=1), [("block_catchup", 23)]
    ),
    "only passing events were missed": Case(
        evicted, live(3, block_index=0, length=5, block_seq=3), live(23, block_index=0, length=5, block_seq=3)
    ),
    "the end could not be stored, and the block is unknown": Case(unstored, live(1), [("block_catchup", 3)]),
    "the end could not be stored, and the block is sent": Case(
        unstored,
        behind(1, block_index=0, length=5, block_seq=3),
        live(3, block_index=0, length=5, block_seq=3),
    ),
    "a lost generation, up to its fence": Case(taken_over, live(3), WatchPosition(G + 1, 3)),
    "a lost generation, above its fence": Case(taken_over, live(4), CountSurvivors(live(4), 3)),
    "a lost generation, above its fence, while it catches up": Case(
        taken_over, behind(9, large=LARGE), CountSurvivors(behind(9, large=LARGE), 3)
    ),
    "a generation that never was": Case(
        taken_over, WatchPosition(G + 7, 2, next_block=1), WatchPosition(G + 1, 0, is_behind=True)
    ),
}


@pytest.mark.requirement("C1", "C2", "C3", "C4")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_log_and_a_position_decide_what_comes_next(case: Case) -> None:
    log = case.log()
    decision = decide(log, case.position)
    assert decide(log, case.position) == decision
    if isinstance(case.expected, WatchPosition):
        assert decision == SendFrames(Batch(b"", case.expected))
    elif not isinstance(case.expected, list):
        assert decision == case.expected
    else:
        assert isinstance(decision, SendFrames)
        frames = Client().receive(decision.batch.data)
        assert [(frame.name, frame.seq) for frame in frames] == case.expected
        assert {frame.id.partition("-")[0] for frame in frames} == {str(log.generation)}
        assert decision.is_live == case.live


@pytest.mark.requirement("C1")
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in CASES.items() if not case.position.is_behind]
)
def test_the_fast_path_of_a_watcher_that_is_up_to_date_decides_the_same(case: Case) -> None:
    """A follower that is called for new events takes the frames that the decision would send."""
    log = case.log()
    decision, batch = decide(log, case.position), log.live_batch(case.position)
    if isinstance(decision, SendFrames) and decision.is_live and log.terminal is None:
        assert batch == decision.batch
    else:
        assert batch is (NO_BATCH if decision is Pause.WAIT else None)


@pytest.mark.parametrize(
    ("cursor", "position"),
    [
        (None, behind(next_block=2)),
        (Cursor(G, 0), live(0, next_block=2)),
        (Cursor(G, 3), live(3, next_block=2)),
        (Cursor(G, 4), behind()),
        (Cursor(G + 1, 3), behind()),
    ],
    ids=["none", "before the first event", "the head", "ahead", "another turn"],
)
def test_a_cursor_is_a_position(cursor: Cursor | None, position: WatchPosition) -> None:
    assert begin(with_open_block(), cursor, from_block=2) == position


def test_a_cursor_at_a_lasting_event_is_behind() -> None:
    log = with_open_block()
    log.event_stored(Source("s1"))
    assert begin(log, Cursor(G, 4)) == behind(4)


@pytest.mark.requirement("C3")
def test_a_cursor_of_a_lost_generation_keeps_it() -> None:
    log = taken_over()
    for seq in (2, 30):
        assert begin(log, Cursor(G, seq), from_block=1) == live(seq, next_block=1)
        assert needs_catch_up(log, live(seq))


@pytest.mark.requirement("D7")
def test_the_end_is_reached_in_the_log_s_generation_only() -> None:
    log = ended()
    assert is_at_end(log, live(5))
    assert not is_at_end(log, live(4))
    assert not is_at_end(log, WatchPosition(G - 1, 5))
    assert not is_at_end(with_open_block(), live(3))


def test_a_page_moves_to_its_end() -> None:
    log = with_stored_block()
    read = decide(log, live(1, block_index=0, length=2))
    assert isinstance(read, ReadPage)
    batch = page_sent(read, ArchivePage(b"frames", 4, 1)).batch
    assert batch.data == b"frames"
    assert batch.after == behind(4, block_index=0, length=2, next_block=1)
    batch = page_sent(read, ArchivePage(b"", 1, 0, LARGE)).batch
    assert isinstance(decide(log, batch.after), ReadPiece)


def test_a_large_block_ends_with_its_own_cursor() -> None:
    log, names = with_stored_block(), []
    position = behind(1, large=LARGE)
    while position.large is not None:
        sent = piece_sent(log, ReadPiece(position, LARGE), Parts([], "0123456789", "")).batch
        names += [(frame.name, frame.seq) for frame in Client().receive(sent.data)]
        position = sent.after
    assert names == [("block_catchup", 1), ("block_delta", 1), ("block_stop", 4)]
    assert position == behind(4, next_block=1)


def test_a_large_block_that_is_gone_sends_nothing() -> None:
    place = BlockPosition(0, 5, 0)
    sent = piece_sent(with_stored_block(), ReadPiece(behind(1, large=LARGE, place=place), LARGE), None)
    assert sent == SendFrames(sent.batch)
    assert (sent.batch.data, sent.batch.after) == (b"", behind(1))


@pytest.mark.requirement("C3")
def test_a_truncation_moves_to_the_fence_in_the_new_generation() -> None:
    log = taken_over()
    read = decide(log, live(9, block_index=0, length=30, contents=ALL, next_block=2))
    assert isinstance(read, CountSurvivors)
    batch = truncation_sent(log, read, 1).batch
    (frame,) = Client().receive(batch.data)
    assert (frame.id, frame.name) == (f"{G + 1}-3", "notice")
    assert (frame.data["code"], frame.data["block_index"]) == ("truncated", 1)
    assert batch.after == WatchPosition(G + 1, 3, NOTHING, next_block=1)
