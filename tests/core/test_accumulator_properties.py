"""Any events fold to the same blocks, however they are grouped and cut."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.folding import Reader, assert_shown_is_stored, pieces, seen
from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import BlockType
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import StreamBroken

# --- any events ---------------------------------------------------------------------------------------------

indexes = st.integers(0, 2)

contents = st.sampled_from(
    [{"citations": [1]}, {"citations": [2, 3]}, {"citations": "x"}, {"n": {"m": 1}}, {"tool_name": "f"}, {}]
)
any_event: st.SearchStrategy[StreamEvent] = st.one_of(
    st.builds(TextDelta, indexes, pieces),
    st.builds(ThinkingDelta, indexes, pieces),
    st.builds(ToolInputDelta, indexes, pieces),
    st.builds(SignatureDelta, indexes, st.sampled_from(["s", "t", ""])),
    st.builds(ContentDelta, indexes, contents),
    st.builds(ContentBlockStart, indexes, st.sampled_from(get_args(BlockType)), st.none() | contents),
    st.builds(ContentBlockStop, indexes),
    st.just(MessageStart("m", "model")),
    st.just(MessageStop("end_turn")),
    st.just(StreamNotice("n", "m")),
    st.builds(Metadata, st.builds(Usage, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9))),
)
any_events = st.lists(any_event, max_size=30)


def batches(events: list[StreamEvent], cuts: list[int]) -> list[list[StreamEvent]]:
    bounds = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    return [events[start:end] for start, end in itertools.pairwise(bounds)]


@settings(max_examples=500, deadline=None)
@given(any_events, st.lists(st.integers(0, 30), max_size=8), st.booleans())
@pytest.mark.requirement("B1", "B2", "B4", "B5")
def test_any_batches_fold_to_the_same_blocks(events: list[StreamEvent], cuts: list[int], ends: bool) -> None:
    readers = [Reader(), Reader(), Reader()]
    readers[0].fold(*events)
    for batch in batches(events, cuts):
        readers[1].fold(*batch)
    for event in events:
        readers[2].fold(event)
    for reader in readers:
        if ends:
            reader.end()
        else:
            reader.cut()
        assert_shown_is_stored(reader)
        assert reader.stored == readers[0].stored
        assert reader.accumulator.statistics[:2] == readers[0].accumulator.statistics[:2]
        assert reader.accumulator.usage == readers[0].accumulator.usage
    assert [block.sequence for block in readers[0].stored] == list(range(len(readers[0].stored)))


@settings(max_examples=400, deadline=None)
@given(any_events, st.lists(st.integers(0, 30), max_size=12))
@pytest.mark.requirement("B1", "B2", "B4")
def test_what_is_taken_at_once_is_what_would_have_been_folded(
    events: list[StreamEvent], cuts: list[int]
) -> None:
    folding, taking = Reader(Accumulator(max_length=40)), Reader(Accumulator(max_length=40))
    for batch in batches(events, cuts):
        try:
            folding.fold(*batch)
        except StreamBroken:
            assert not batch or taking.accumulator.extend_shown(batch) is None
            return
        changes = taking.accumulator.extend_shown(batch) if batch else None
        if changes is None:
            taking.fold(*batch)
        else:
            taking.shown += changes
        assert taking.shown == folding.shown
        assert taking.stored == folding.stored
        assert taking.accumulator.statistics == folding.accumulator.statistics


@pytest.mark.requirement("B2")
@pytest.mark.parametrize("delta", [TextDelta, ThinkingDelta, ToolInputDelta])
@pytest.mark.parametrize("block_type", get_args(BlockType))
def test_only_more_of_the_shown_block_is_taken_at_once(block_type: BlockType, delta: type[Any]) -> None:
    reader = Reader()
    reader.fold(ContentBlockStart(0, block_type))
    growing = {"thinking": ThinkingDelta, "tool_use": ToolInputDelta, "image": None, "document": None}
    fits = delta is growing.get(block_type, TextDelta)
    assert (reader.accumulator.extend_shown([delta(0, "a")]) is not None) is fits
    assert reader.accumulator.extend_shown([delta(1, "a")]) is None
    assert reader.accumulator.extend_shown([delta(0, "a"), ContentBlockStop(0)]) is None
    reader.accumulator.fold([ContentBlockStop(0)])
    assert reader.accumulator.extend_shown([delta(0, "a")]) is None


@settings(max_examples=300, deadline=None)
@given(any_events, st.lists(st.integers(0, 30), max_size=6))
@pytest.mark.requirement("C2")
def test_the_catch_up_of_the_open_block_is_what_was_shown_of_it(
    events: list[StreamEvent], cuts: list[int]
) -> None:
    reader = Reader()
    for batch in batches(events, cuts):
        reader.fold(*batch)
        client = seen(reader.shown)
        shown = reader.accumulator.shown
        assert (shown.sequence if shown else None) == client.open
        if shown is None:
            continue
        view = client.blocks[shown.sequence]
        catchup = shown.catchup()
        assert (catchup.block_index, catchup.block_type, catchup.complete) == (
            shown.sequence,
            view["type"],
            False,
        )
        text = catchup.input_partial if view["type"] == "tool_use" else catchup.accumulated_text
        assert (text or "") == view["text"]
        assert shown.length == len(view["text"])
        assert (catchup.content or {}) == view["content"]


@settings(max_examples=300, deadline=None)
@given(any_events, st.integers(0, 30))
@pytest.mark.requirement("B2", "J4")
def test_a_cut_at_any_event_keeps_what_came(events: list[StreamEvent], place: int) -> None:
    reader = Reader()
    reader.fold(*events[:place])
    reader.cut()
    assert_shown_is_stored(reader)
    whole = Reader()
    whole.fold(*events)
    whole.cut()
    for kept, full in zip(reader.stored, whole.stored, strict=False):
        assert kept.block_type == full.block_type
        begun = (kept.text_content or "").removesuffix("\ufffd")
        assert (full.text_content or "").startswith(begun)
