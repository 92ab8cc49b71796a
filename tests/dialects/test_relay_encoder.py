"""The relay's frames from events alone: resumed positions, retracted and lost text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.server.protocols.document_readers import FetchReader
from turnstream.core.blocks import Block
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    TurnComplete,
    TurnEvent,
    TurnStart,
)
from turnstream.dialects.relay.encoder import LOST, encoder_of, parse_position

START = TurnStart("chat", "assistant", "sim/demo", "2026-11-21T03:54:42.418Z")
END = TurnComplete("end_turn", 3, 2, 1, cost="0.000039")


def encoded(events: list[TurnEvent], shown: int = 0) -> bytes:
    encoder = encoder_of("turn", shown)
    state, frames = encoder.begin(), []
    for seq, event in enumerate(events, 1):
        data, state = encoder.encode(state, seq, event)
        frames.append(data)
    assert encoder.is_over(state)
    return b"".join(frames)


def read(data: bytes) -> FetchReader:
    reader = FetchReader()
    reader.take(data)
    return reader


def answer(texts: list[str]) -> list[TurnEvent]:
    deltas = [BlockDelta(0, "text", "text", text) for text in texts]
    return [START, BlockStart(0, "text"), *deltas, BlockStop(0, "text"), END]


@pytest.mark.requirement("N2")
@given(st.lists(st.text(min_size=1, max_size=5), max_size=8), st.data())
def test_every_id_resumes_after_its_frame(texts: list[str], data: st.DataObject) -> None:
    whole = encoded(answer(texts))
    frames = [frame + b"\n\n" for frame in whole.split(b"\n\n") if frame]
    place = data.draw(st.integers(0, len(frames) - 2))
    position = parse_position(frames[place].split(b"\n")[0].removeprefix(b"id: ").decode())
    assert position is not None
    assert position.shown is not None
    before = read(b"".join(frames[: place + 1]))
    whole_text = "".join(texts)
    caught_up: list[TurnEvent] = [
        START,
        BlockCatchup(0, "text", complete=True, accumulated_text=whole_text),
        END,
    ]
    for rest in (encoded(answer(texts), position.shown), encoded(caught_up, position.shown)):
        assert before.text + read(rest).text == whole_text
        assert read(rest).names[-2:] == ["cost", "done"]


@pytest.mark.requirement("N2", "P5")
def test_text_that_is_lost_is_an_error() -> None:
    reader = read(encoded(answer(["short"]), shown=9))
    assert reader.events == [("error", {"error": LOST})]


@pytest.mark.requirement("N2", "P5")
def test_retracted_text_is_repeated_or_an_error() -> None:
    first = [START, BlockStart(0, "text"), BlockDelta(0, "text", "text", "Hello")]
    reset = BlockReset(0, (Block(0, "text", "Hello", partial=True),))
    for again, names in (("Hello world", ["chunk", "cost", "done"]), ("Good day", ["chunk", "error"])):
        events = [
            *first,
            reset,
            BlockStart(0, "text"),
            BlockDelta(0, "text", "text", again),
            BlockStop(0, "text"),
        ]
        reader = read(encoded([*events, END]))
        assert reader.names == names
        assert reader.text == ("Hello world" if "done" in names else "Hello")


@pytest.mark.parametrize("text", ["", "turn", "turn:", "turn:1", "turn:1-x", "turn:-1", ":1-2", "turn:1-²"])
def test_what_is_no_position(text: str) -> None:
    assert parse_position(text) is None
