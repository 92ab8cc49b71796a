"""The ring drops the oldest events, frames each event once, merges many events, and counts its size."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.turnlog.scripted import TURN_ID
from tests.turnlog.watching import Client
from turnstream.core.turn_events import BlockDelta, BlockStart, BlockStop, Data, TurnEvent
from turnstream.dialects.native import NativeEncoder
from turnstream.turnlog.ring import DEFAULT_LIMIT, Ring

EVENTS: st.SearchStrategy[TurnEvent] = st.one_of(
    st.builds(BlockDelta, st.integers(0, 1), st.just("text"), st.just("text"), st.text(max_size=9)),
    st.builds(BlockDelta, st.integers(0, 1), st.just("thinking"), st.just("signature"), st.just("abc")),
    st.builds(BlockDelta, st.just(0), st.just("text"), st.just("content"), st.just({"citations": [1]})),
    st.builds(BlockStart, st.integers(0, 1), st.just("text")),
    st.builds(BlockStop, st.integers(0, 1), st.just("text")),
    st.builds(Data, st.just("d"), st.integers(0, 9)),
)


class CountingEncoder(NativeEncoder):
    """Counts the encoded frames."""

    __slots__ = ("frames",)

    def __init__(self) -> None:
        super().__init__(TURN_ID, 7)
        self.frames = 0

    def frame(self, seq: int, event: TurnEvent) -> bytes:
        self.frames += 1
        return super().frame(seq, event)


def filled(events: Sequence[TurnEvent], *, limit: int = DEFAULT_LIMIT, last_seq: int = 0) -> Ring:
    ring = Ring(CountingEncoder(), last_seq=last_seq, limit=limit)
    for event in events:
        ring.append([event])
    return ring


def frames_of(data: bytes) -> list[tuple[int, str, object]]:
    client = Client()
    client.receive(data)
    return [(frame.seq, frame.name, frame.data) for frame in client.frames]


@given(st.lists(EVENTS, min_size=1, max_size=60), st.integers(0, 3000), st.integers(0, 5000))
def test_it_covers_exactly_the_newest_events_and_always_the_last(
    events: list[TurnEvent], limit: int, last_seq: int
) -> None:
    ring = filled(events, limit=limit, last_seq=last_seq)
    assert ring.last_seq == last_seq + len(events)
    held = ring.last_seq - ring.first_seq + 1
    assert 1 <= held <= len(events)
    assert ring.size <= limit or held == 1
    for seq in range(last_seq, ring.last_seq + 1):
        assert ring.covers(seq) == (seq >= ring.first_seq - 1)
        expected = events[seq - last_seq - 1] if ring.first_seq <= seq else None
        assert ring.event_at(seq) is expected
    assert ring.event_at(ring.last_seq + 1) is None


@given(st.lists(EVENTS, min_size=1, max_size=60), st.data())
def test_merged_frames_fold_like_single_ones(events: list[TurnEvent], data: st.DataObject) -> None:
    ring = filled(events)
    seq = data.draw(st.integers(0, ring.last_seq - 1))
    encoder = NativeEncoder(TURN_ID, 7)
    single, merged = Client(), Client()
    single.receive(
        b"".join(encoder.frame(seq + 1 + place, event) for place, event in enumerate(events[seq:]))
    )
    merged.receive(ring.encode_after(seq))
    assert merged.now.blocks == single.now.blocks
    assert merged.now.lasting == single.now.lasting
    assert merged.cursor == single.cursor


@pytest.mark.requirement("C4")
def test_a_long_backlog_of_deltas_is_one_frame_with_the_last_id() -> None:
    events: list[TurnEvent] = [BlockStart(0, "text")]
    events += [BlockDelta(0, "text", "text", f"{number} ") for number in range(100)]
    events += [BlockDelta(0, "text", "content", {"citations": [1]}), BlockStop(0, "text")]
    ring = filled(events)
    frames = frames_of(ring.encode_after(0))
    assert [(seq, name) for seq, name, _ in frames] == [
        (1, "block_start"),
        (101, "block_delta"),
        (102, "block_delta"),
        (103, "block_stop"),
    ]


@pytest.mark.requirement("C1")
def test_a_frame_is_made_once_for_all_and_none_for_nobody() -> None:
    ring = filled([BlockDelta(0, "text", "text", "x") for _ in range(10)])
    encoder = ring._encoder
    assert isinstance(encoder, CountingEncoder)
    assert encoder.frames == 0
    for _ in range(5):
        ring.encode_after(4)
        ring.encode_after(9)
    assert encoder.frames == 6


def test_an_event_that_cannot_be_framed_leaves_the_ring_whole() -> None:
    ring = filled([BlockStart(0, "text")])
    with pytest.raises(TypeError):
        ring.append([Data("d", object())])
    ring.append([BlockStop(0, "text")])
    assert [(seq, name) for seq, name, _ in frames_of(ring.encode_after(0))] == [
        (1, "block_start"),
        (2, "block_stop"),
    ]


@pytest.mark.requirement("K1")
@given(st.lists(EVENTS, min_size=1, max_size=16), st.integers(0, 1), st.booleans())
def test_withdrawn_blocks_leave_their_numbers_only(events: list[TurnEvent], index: int, framed: bool) -> None:
    ring, expected = filled(events), filled([])
    if framed:
        ring.encode_after(0)
    ring.withdraw(index)
    for event in events:
        if isinstance(event, BlockDelta | BlockStart | BlockStop) and event.block_index >= index:
            expected.skip(1)
        else:
            expected.append([event])
    if framed:
        expected.encode_after(0)
    assert (ring.first_seq, ring.last_seq, ring.size) == (1, len(events), expected.size)
    assert ring.encode_after(0) == expected.encode_after(0)


def test_clearing_keeps_the_numbering() -> None:
    ring = filled([BlockDelta(0, "text", "text", "x") for _ in range(5)])
    ring.restart(CountingEncoder(), ring.last_seq)
    assert (ring.size, ring.last_seq, ring.covers(5), ring.covers(4)) == (0, 5, True, False)
    ring.append([BlockStop(0, "text")])
    assert frames_of(ring.encode_after(5))[0][:2] == (6, "block_stop")


@pytest.mark.requirement("O2", "C4")
@pytest.mark.parametrize("framed", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize(
    "text", ["word ", "字" * 900, "🙂🙃", "x" * 900], ids=["short", "chinese", "emoji", "long"]
)
def test_the_estimate_is_near_what_is_allocated(text: str, *, framed: bool) -> None:
    """The ring never takes more than 1.5 times its limit, and uses it."""
    ring = Ring(NativeEncoder(TURN_ID, 7), limit=DEFAULT_LIMIT)

    def append_many(count: int) -> None:
        for number in range(count):
            ring.append([BlockDelta(0, "text", "text", f"{text}{number}")])
            if framed:
                ring.encode_after(ring.last_seq - 1)

    gc.collect()
    tracemalloc.start()
    try:
        append_many(3000)
        allocated, _ = tracemalloc.get_traced_memory()
        append_many(10_000)
        later, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.45 * DEFAULT_LIMIT < later < 1.5 * DEFAULT_LIMIT
    assert abs(later - allocated) < 0.2 * DEFAULT_LIMIT
