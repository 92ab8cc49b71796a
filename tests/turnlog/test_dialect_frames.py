"""Frames of several dialects beside the ring. They are made once for watchers with equal states, bounded,
and never mixed."""

from __future__ import annotations

import json
from typing import NamedTuple, cast

from hypothesis import given
from hypothesis import strategies as st

from tests.turnlog.scripted import START, new_log
from tests.turnlog.test_ring import EVENTS
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import BlockDelta, BlockStart, BlockStop, TurnCancelled, TurnEvent
from turnstream.dialects.native import NativeEncoder
from turnstream.turnlog.base import DialectBatch
from turnstream.turnlog.ended_turns import flattened
from turnstream.turnlog.log import TurnLog


class Counted(NamedTuple):
    """The state of a `Chunks` encoder: the number of chunks so far, and the open block."""

    chunks: int
    block: int


class Chunks:
    """A dialect whose frames are numbered without gaps, name a block once, and contain text only."""

    def __init__(self, name: str = "chunks") -> None:
        self.name = name
        self.made = 0

    def begin(self) -> object:
        return Counted(0, -1)

    def settle(self, state: object) -> tuple[bytes, object]:
        return b"", state

    def is_settled(self, state: object) -> bool:
        return True

    def needs_replay(self, state: object) -> bool:
        return False

    def is_over(self, state: object) -> bool:
        return False

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        self.made += 1
        chunks, block = cast("Counted", state)
        if not isinstance(event, BlockDelta) or event.field == "content":
            return b"", state
        data: dict[str, object] = {"chunk": chunks, "delta": event.value}
        if event.block_index != block:
            data["block"] = event.block_index
        line = json.dumps(data) + "\n"
        return line.encode(), Counted(chunks + 1, event.block_index)


def growing(*texts: str, ring_limit: int = 64 * 1024) -> TurnLog:
    """1 turn_start, 2 block_start, and an event for each text from 3 on."""
    log, block = new_log(ring_limit=ring_limit), OpenBlock(0, 0, "text", None)
    log.show([START, BlockStart(0, "text")], block)
    say(log, *texts)
    return log


def say(log: TurnLog, *texts: str) -> None:
    block = log.open_block
    assert block is not None
    for text in texts:
        block.append(text)
        log.grow(BlockDelta(0, "text", "text", text))


def lines(batch: DialectBatch | None) -> list[dict[str, object]]:
    assert batch is not None
    return [json.loads(line) for line in batch.data.splitlines()]


def test_a_state_at_a_cursor_goes_on_from_there() -> None:
    log, chunks = growing("one", "two"), Chunks()
    batch = log.dialect_batch(chunks, 0, log.dialect_state(chunks, 0))
    assert lines(batch) == [{"chunk": 0, "delta": "one", "block": 0}, {"chunk": 1, "delta": "two"}]
    assert batch is not None
    assert (batch.seq, batch.state) == (4, Counted(2, 0))
    say(log, "three")
    assert lines(log.dialect_batch(chunks, batch.seq, batch.state)) == [{"chunk": 2, "delta": "three"}]
    assert log.dialect_batch(chunks, 5, Counted(3, 0)) == DialectBatch(b"", 5, Counted(3, 0))


def test_watchers_with_equal_states_share_the_frames() -> None:
    log, chunks = growing("one", "two"), Chunks()
    first = log.dialect_batch(chunks, 0, chunks.begin())
    made = chunks.made
    for seq in range(5):
        state = log.dialect_state(chunks, seq)
        batch = log.dialect_batch(chunks, seq, state)
        assert batch is not None
        assert first is not None
        assert first.data.endswith(batch.data)
    assert chunks.made == made == 4


def test_a_watcher_that_came_another_way_has_frames_of_its_own() -> None:
    """After a catch-up its numbers differ, and the other watchers' frames stay unchanged."""
    log, chunks = growing("one", "two"), Chunks()
    shared = log.dialect_batch(chunks, 2, Counted(0, -1))
    assert lines(log.dialect_batch(chunks, 2, Counted(7, 0)))[1] == {"chunk": 8, "delta": "two"}
    assert log.dialect_batch(chunks, 2, Counted(0, -1)) == shared


def test_dialects_do_not_mix() -> None:
    log, chunks, others = growing("one"), Chunks(), Chunks("others")
    native = log.batch_after(2).data
    assert lines(log.dialect_batch(chunks, 2, Counted(4, 0))) == [{"chunk": 4, "delta": "one"}]
    assert log.dialect_state(others, 3) is None
    assert lines(log.dialect_batch(others, 2, Counted(9, 0))) == [{"chunk": 9, "delta": "one"}]
    assert (log.dialect_state(chunks, 3), log.dialect_state(others, 3)) == (Counted(5, 0), Counted(10, 0))
    assert log.batch_after(2).data == native
    assert native == NativeEncoder(log.turn_id, log.generation).frame(3, BlockDelta(0, "text", "text", "one"))


def test_a_state_that_is_not_kept_is_none() -> None:
    log, chunks = growing("one", "two"), Chunks()
    log.dialect_batch(chunks, 2, Counted(0, 0))
    assert [log.dialect_state(chunks, seq) for seq in (1, 2, 5)] == [None, None, None]


def test_the_ring_counts_and_evicts_the_frames_of_all_dialects() -> None:
    limit = 8 * 1024
    log, dialects = growing(ring_limit=limit), [Chunks(), Chunks("others")]
    for number in range(200):
        say(log, f"{number:03} and more text")
        for chunks in dialects:
            log.dialect_batch(chunks, log.head - 1, Counted(number, 0))
        assert log.ring.size < 1.3 * limit
    held = [len(made) for made in log.ring._dialects.values()]
    assert held == [log.head - log.ring.first_seq + 1] * 2
    say(log, *["x"] * 200)
    assert log.ring.size <= limit
    assert all(made is None for frames in log.ring._dialects.values() for made in frames)


@given(
    st.lists(EVENTS, max_size=40), st.lists(st.integers(1, 5), max_size=12), st.sampled_from([600, 64 * 1024])
)
def test_the_size_comes_back_to_nothing(events: list[TurnEvent], steps: list[int], limit: int) -> None:
    """All bytes counted for frames are subtracted again, after a restart and when events leave."""
    log, chunks = new_log(ring_limit=limit), Chunks()
    plain = new_log(ring_limit=limit)
    pending = list(events)
    for step in steps:
        batch, pending = pending[:step], pending[step:]
        for shown in (log, plain):
            shown.append(batch)
        log.dialect_batch(chunks, max(log.first_seq - 1, log.head - step), Counted(0, -1))
    for shown in (log, plain):  # one event alone fills the ring, so that all before it leave
        shown.append([BlockDelta(0, "text", "text", "x" * limit)])
    assert log.ring.size == plain.ring.size


def test_another_generation_begins_without_frames() -> None:
    log, chunks = growing("one"), Chunks()
    log.dialect_batch(chunks, 0, chunks.begin())
    log.ring.restart(log.encoder, 10)
    assert log.dialect_state(chunks, 3) is None
    log.append([BlockStop(0, "text")])
    assert log.dialect_batch(chunks, 10, Counted(1, 0)) == DialectBatch(b"", 11, Counted(1, 0))


def test_an_ended_turn_holds_native_frames_only() -> None:
    log, chunks = growing("one"), Chunks()
    log.ended([BlockStop(0, "text")], TurnCancelled(1))
    ended = flattened(log, "local", 0.0).log(NativeEncoder)
    assert ended.batch_after(0).data == log.batch_after(0).data
    assert ended.dialect_batch(chunks, 0, chunks.begin()) is None
    assert ended.dialect_batch(chunks, ended.head, Counted(1, 0)) == DialectBatch(b"", 5, Counted(1, 0))
