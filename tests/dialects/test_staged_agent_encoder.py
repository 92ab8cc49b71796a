"""The staged agent's lines from events alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.blocks import Block
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Data,
    StepStart,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.dialects.staged_agent.encoder import encoder_of

START = TurnStart("chat", "assistant", None, "2026-11-21T03:54:42.418Z")
DONE = TurnComplete("end_turn", 3, 2, 1)
STEP = StepStart(1, name="execution", progress=0.5)


def encoded(events: list[TurnEvent]) -> list[dict[str, Any]]:
    encoder = encoder_of("s", 7)
    state, found = encoder.begin(), b""
    for seq, event in enumerate(events, 1):
        data, state = encoder.encode(state, seq, event)
        found += data
    lines = [line for line in found.decode().split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line[6:]) for line in lines]


def block(*texts: str) -> list[TurnEvent]:
    deltas = [BlockDelta(0, "text", "text", text) for text in texts]
    return [BlockStart(0, "text"), *deltas, BlockStop(0, "text")]


@pytest.mark.requirement("N1", "P5")
@pytest.mark.parametrize(
    ("end", "last"),
    [
        (DONE, {"type": "stream_complete", "content": "", "progress": 1.0, "stage": "completed"}),
        (
            TurnError("it failed", "stage_failed", 1),
            {
                "type": "fail",
                "content": "it failed",
                "progress": 0.5,
                "stage": "failed",
                "metadata": {"error": "it failed", "code": "stage_failed"},
            },
        ),
        (TurnCancelled(0), {"type": "interrupted", "content": "the answer was interrupted"}),
    ],
)
def test_each_end_has_its_line(end: TurnEvent, last: dict[str, Any]) -> None:
    lines = encoded([START, STEP, *block("a"), end, *block("after"), end])
    if last["type"] != "interrupted":
        last = {**last, "timestamp": START.timestamp}
    assert lines[-1] == last
    assert [line["type"] for line in lines] == ["session_start", "stream_chunk", last["type"]]


@pytest.mark.requirement("N1")
@given(st.lists(st.text(min_size=1), max_size=6))
def test_chunks_are_numbered_and_a_catch_up_gives_the_same_text(texts: list[str]) -> None:
    lines = encoded([START, STEP, *block(*texts), DONE])
    chunks = [line for line in lines if line["type"] == "stream_chunk"]
    assert [chunk["metadata"]["index"] for chunk in chunks] == list(range(len(texts)))
    assert [chunk["content"] for chunk in chunks] == texts
    assert all((chunk["stage"], chunk["progress"]) == ("execution", 0.5) for chunk in chunks)
    whole = BlockCatchup(0, "text", complete=True, accumulated_text="".join(texts))
    late = encoded([START, whole, DONE])
    assert "".join(line["content"] for line in late if line["type"] == "stream_chunk") == "".join(texts)


@pytest.mark.requirement("N1")
def test_an_event_of_a_workflow_is_shown_without_its_empty_fields() -> None:
    shown = {"type": "thinking", "content": "x", "progress": 0.0, "timestamp": "t", "stage": "", "node": ""}
    lines = encoded([START, Data("workflow", {**shown, "metadata": {}}), Data("other", 1), DONE])
    assert lines[1] == {"type": "thinking", "content": "x", "progress": 0.0, "timestamp": "t"}
    assert len(lines) == 3


@pytest.mark.requirement("N1", "P5")
def test_retracted_text_that_is_not_repeated_is_a_failure() -> None:
    reset = BlockReset(0, (Block(0, "text", "Hello", partial=True),))
    lines = encoded([START, *block("Hello")[:2], reset, *block("Good day"), DONE])
    assert [line["type"] for line in lines] == ["session_start", "stream_chunk", "fail"]
    assert lines[-1]["metadata"]["code"] == "retracted"
