"""A watcher's fold of frames equals the engine's fold of the model's events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.core.native_fold import NativeFold
from turnstream.core.open_block import catchup_of
from turnstream.core.sse import SseDecoder
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import BlockReset, Notice, TurnComplete, TurnEvent, TurnStart
from turnstream.dialects.native import NativeEncoder

TURN_ID = new_id()
START = TurnStart("chat", "assistant", "sim/demo", "2026-01-01T00:00:00Z")
TEXTS = st.text(max_size=12)


def told(fold: NativeFold, events: Sequence[TurnEvent]) -> None:
    """Feed events as a watcher gets them: as frames."""
    encoder = NativeEncoder(TURN_ID, 7)
    data = b"".join(encoder.frame(number, event) for number, event in enumerate(events))
    for name, body, _ in SseDecoder(event_limit=1 << 20).feed(data):
        assert name is not None
        fold.feed(name.decode(), msgspec.json.decode(body, type=dict[str, Any]))


class Writer:
    """The engine's side: it folds a model's events, and keeps the stored and the shown blocks."""

    def __init__(self) -> None:
        self.accumulator = Accumulator()
        self.stored: list[Block] = []
        self.shown: list[list[TurnEvent]] = []

    def write(self, event: StreamEvent) -> None:
        position = 0
        events: list[TurnEvent] = []
        while True:
            position = self.accumulator.fold([event], position)
            events += self.accumulator.take_changes()
            if self.accumulator.finished is None:
                break
            self.stored.append(self.accumulator.finished)
            events.append(self.accumulator.release())
        self.shown.append(events)

    def cut(self) -> None:
        events, cuts = self.accumulator.cut()
        self.shown.append(events)
        self.stored += [cut.block for cut in cuts]

    def snapshot(self) -> list[TurnEvent]:
        """Return the first events of a late watcher."""
        caught_up: list[TurnEvent] = [START, *(catchup_of(block) for block in self.stored)]
        if self.accumulator.shown is not None:
            caught_up.append(self.accumulator.shown.catchup())
        return caught_up


@st.composite
def blocks(draw: st.DrawFn, index: int) -> list[StreamEvent]:
    kind = draw(st.sampled_from(["text", "thinking", "tool_use", "image", "provider"]))
    content: dict[str, Any] | None = None
    deltas: list[StreamEvent] = []
    match kind:
        case "text":
            deltas = [TextDelta(index, text) for text in draw(st.lists(TEXTS, max_size=5))]
            if draw(st.booleans()):
                deltas += [ContentDelta(index, {"citations": [number]}) for number in range(2)]
        case "thinking":
            deltas = [ThinkingDelta(index, text) for text in draw(st.lists(TEXTS, max_size=5))]
            deltas += [SignatureDelta(index, text) for text in draw(st.lists(TEXTS, max_size=2))]
        case "tool_use":
            content = {"tool_use_id": "t", "tool_name": "find"}
            pieces = draw(st.sampled_from([(), ('{"a"', ": 1}"), ('{"a": ',), ('["no object"]',)]))
            deltas = [ToolInputDelta(index, piece) for piece in pieces]
        case _:
            content = {"url": draw(TEXTS)}
    return [ContentBlockStart(index, kind, content), *deltas, ContentBlockStop(index)]


@st.composite
def answers(draw: st.DrawFn) -> list[StreamEvent]:
    count = draw(st.integers(min_value=0, max_value=4))
    events = [event for index in range(count) for event in draw(blocks(index))]
    return events[: draw(st.integers(min_value=0, max_value=len(events)))]


@pytest.mark.requirement("A5", "C2", "P5")
@given(events=answers(), data=st.data())
def test_a_watcher_who_joins_anywhere_folds_the_stored_blocks(events: list[StreamEvent], data: st.DataObject):
    writer = Writer()
    join_at = data.draw(st.integers(min_value=0, max_value=len(events)), label="join_at")
    rejoin_at = data.draw(st.integers(min_value=join_at, max_value=len(events)), label="rejoin_at")
    first, late = NativeFold(), NativeFold()
    told(first, [START])
    for number, event in enumerate(events):
        if number in (join_at, rejoin_at):
            told(late, writer.snapshot())
        writer.write(event)
        told(first, writer.shown[-1])
        if number >= join_at:
            told(late, writer.shown[-1])
    if join_at == len(events):
        told(late, writer.snapshot())
    writer.cut()
    told(first, writer.shown[-1])
    told(late, writer.shown[-1])
    assert first.blocks == writer.stored
    assert late.blocks == writer.stored


def test_an_open_block_is_shown_as_if_it_were_cut_now():
    fold = NativeFold()
    writer = Writer()
    writer.write(ContentBlockStart(0, "text"))
    writer.write(TextDelta(0, "Hel"))
    told(fold, [START, *(event for events in writer.shown for event in events)])
    assert fold.blocks == [Block(0, "text", "Hel", partial=True)]
    assert fold.turn_id == TURN_ID
    assert fold.ending is None


@pytest.mark.requirement("C3")
@pytest.mark.parametrize(
    "taken_back",
    [BlockReset(1), Notice("truncated", "text that you had seen is gone", 1)],
    ids=["reset", "truncated"],
)
def test_blocks_that_are_taken_back_are_dropped(taken_back: TurnEvent):
    fold = NativeFold()
    kept = Block(0, "text", "kept")
    told(
        fold, [START, *(catchup_of(block) for block in (kept, Block(1, "text", "a"), Block(2, "text", "b")))]
    )
    told(fold, [taken_back])
    assert fold.blocks == [kept]


def test_other_notices_and_unknown_events_change_nothing():
    fold = NativeFold()
    told(fold, [START, catchup_of(Block(0, "text", "kept")), Notice("draining", "soon")])
    fold.feed("something_new", {"block_index": 0})
    assert fold.blocks == [Block(0, "text", "kept")]


def test_the_end_is_told_with_its_data():
    fold = NativeFold()
    told(fold, [START, TurnComplete("end_turn", 1, 2, 0)])
    assert fold.ending is not None
    assert fold.ending.name == "turn_complete"
    assert fold.ending.data["stop_reason"] == "end_turn"
