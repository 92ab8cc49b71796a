"""Unusual turns: events that are too large for clients of AG-UI, and ends before any event."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.dialects.test_ag_ui_encoder import COMPLETE, Reading, answered, called, run
from tests.turnlog.scripted import START
from turnstream.core.blocks import Block
from turnstream.core.open_block import catchup_of
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockStart,
    BlockStop,
    Data,
    StepStart,
    StepStop,
    TurnCancelled,
    TurnError,
    TurnEvent,
)
from turnstream.dialects.ag_ui.event_writer import LONGEST_DELTA, RunFacts
from turnstream.dialects.ag_ui.messages import LONGEST_RESULT

HUGE = "\x01" * (3 * LONGEST_DELTA + 1)
"""A text whose JSON has six bytes for each character: 18 MiB."""


@pytest.mark.requirement("N4", "P3")
def test_a_long_text_comes_in_pieces() -> None:
    fold = run(BlockStart(0, "text"), BlockDelta(0, "text", "text", HUGE), BlockStop(0, "text"), COMPLETE)
    assert fold.texts() == [HUGE]
    assert fold.kinds.count("TEXT_MESSAGE_CONTENT") == 4
    caught_up = run(BlockCatchup(0, "text", complete=True, accumulated_text=HUGE), COMPLETE)
    assert caught_up.messages == fold.messages


@pytest.mark.requirement("N4", "P3")
@pytest.mark.parametrize("content", [HUGE, [{"type": "text", "text": HUGE}], {"value": HUGE}])
def test_a_long_result_is_left_out_for_those_who_watch_and_those_who_join(content: Any) -> None:
    events = [*called(0, "{}"), *answered(1, content)]
    watched = run(*events, COMPLETE)
    (result,) = [message for message in watched.messages if message["role"] == "tool"]
    assert "characters left out" in result["content"]
    joined = Reading(joins=True).show(START, *events, COMPLETE).fold
    assert joined.messages == watched.messages
    short = run(*called(0, "{}"), *answered(1, "x" * LONGEST_RESULT), COMPLETE)
    assert short.messages[-1]["content"] == "x" * LONGEST_RESULT


@pytest.mark.requirement("N4", "P3")
@pytest.mark.parametrize(
    "event",
    [
        Data("state", {"x": HUGE}),
        Data("part", HUGE),
        Data("state_delta", [{"op": "add", "path": "/x", "value": HUGE}]),
        Data("transient", HUGE, transient=True),
    ],
)
def test_a_value_that_is_too_large_is_a_notice(event: Data) -> None:
    fold = run(event, COMPLETE)
    assert fold.outcome == "success"
    assert (fold.state, len(fold.custom)) == ({}, 1)
    name, value = fold.custom[0]
    assert (name, value["code"]) == ("turnstream.notice", "event_too_large")


@pytest.mark.requirement("N4", "P3")
def test_a_seal_that_is_too_large_is_a_notice() -> None:
    sealed = [
        BlockStart(0, "thinking"),
        BlockDelta(0, "thinking", "signature", HUGE),
        BlockStop(0, "thinking"),
    ]
    fold = run(*sealed, COMPLETE)
    assert fold.custom[0][1]["code"] == "event_too_large"
    stored = catchup_of(Block(0, "thinking", "hm", {"signature": "s"}), complete=True)
    assert run(stored, COMPLETE).custom == []


@pytest.mark.requirement("N4", "P5")
@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize(
    ("end", "version_1", "kinds"),
    [
        (TurnCancelled(0), True, ["RUN_STARTED", "RUN_FINISHED"]),
        (TurnCancelled(0), False, ["RUN_ERROR"]),
        (TurnError("no", "refused", 0), True, ["RUN_ERROR"]),
        (COMPLETE, True, ["RUN_STARTED", "RUN_FINISHED"]),
    ],
)
def test_a_turn_that_ends_before_its_first_event_is_a_whole_run(
    end: TurnEvent, version_1: bool, kinds: list[str], joins: bool
) -> None:
    fold = Reading(joins=joins, facts=RunFacts("thread", "run", version_1)).show(end).fold
    assert fold.done
    if joins:  # a client that joins has a snapshot of its own messages first
        kinds = ["RUN_STARTED", "MESSAGES_SNAPSHOT", kinds[-1]]
    assert fold.kinds == kinds


@pytest.mark.requirement("N4", "H1")
def test_the_steps_of_a_workflow_have_the_names_of_its_stages() -> None:
    reading = Reading().show(START)
    stages: list[TurnEvent] = [StepStart(0, name="intent_analysis", progress=0.0), StepStop(0, "end_turn")]
    stages += [StepStart(1, name="execution", progress=0.5), StepStop(1, "end_turn"), StepStart(2)]
    data = b""
    for seq, event in enumerate([*stages, COMPLETE], 2):
        frames, reading.state = reading.encoder.encode(reading.state, seq, event)
        reading.fold.receive(frames)
        data += frames
    names = re.findall(rb'"type":"STEP_(STARTED|FINISHED)","stepName":"([^"]+)"', data)
    assert [b" ".join(pair).decode() for pair in names] == [
        f"{verb} {name}"
        for name in ("intent_analysis", "execution", "step-2")
        for verb in ("STARTED", "FINISHED")
    ]
