"""Approvals of tools in the UI message streams of the AI SDK."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from tests.dialects.test_ai_sdk_encoder import COMPLETE, call_events, result_events, said
from tests.turnlog.scripted import START, TURN_ID
from turnstream.core.turn_events import (
    ApprovalRequest,
    ApprovalResponse,
    StepStart,
    TurnCancelled,
    TurnEvent,
)
from turnstream.dialects.ai_sdk.chunk_writer import DONE
from turnstream.dialects.ai_sdk.encoder import Major, encoder_of

ASKED = ApprovalRequest("a1", "c1", "clock", "0" * 64, "2026-11-29T12:00:00Z")
BEFORE: tuple[TurnEvent, ...] = (START, StepStart(0), *call_events(0, "{}"), ASKED)


def encoded(
    events: tuple[TurnEvent, ...], major: Major, answered: frozenset[str] = frozenset()
) -> tuple[list[dict[str, Any]], object]:
    """The chunks of a turn that has not ended, and the encoder's state."""
    encoder = encoder_of(TURN_ID, "m1", major, answered=answered)
    state, frames = encoder.begin(), b""
    for seq, event in enumerate(events, 1):
        data, state = encoder.encode(state, seq, event)
        frames += data
    if not encoder.is_settled(state):
        data, state = encoder.settle(state)
        frames += data
        assert encoder.is_over(state)
    assert frames.endswith(DONE) == encoder.is_over(state)
    lines = frames.decode().removesuffix(DONE.decode()).split("\n\n")[:-1]
    return [cast("dict[str, Any]", json.loads(line.removeprefix("data: "))) for line in lines], state


@pytest.mark.parametrize("major", [6, 7])
def test_a_request_ends_the_stream_until_the_client_answers(major: Major) -> None:
    found, _ = encoded(BEFORE, major)
    assert found[-3:] == [
        {"type": "tool-approval-request", "approvalId": "a1", "toolCallId": "c1"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "tool-calls"},
    ]


def test_major_5_waits_in_silence() -> None:
    found, _ = encoded(BEFORE, 5)
    assert found[-1]["type"] == "tool-input-available"


@pytest.mark.parametrize("major", [6, 7])
@pytest.mark.parametrize("approved", [True, False])
def test_the_rest_of_the_turn_follows_the_request(major: Major, approved: bool) -> None:
    answer = ApprovalResponse("a1", "c1", approved, None if approved else "no")
    result = result_events(1, "12:00" if approved else "not approved", is_error=not approved)
    events = (*BEFORE, answer, *result, StepStart(1), *said(2, "Done"), COMPLETE)
    found, _ = encoded(events, major, frozenset({"a1"}))
    assert found[0] == {"type": "start", "messageId": "m1"}
    shown = found[1:]
    if major == 7:
        assert shown.pop(0)["approved"] is approved
    if approved:
        assert shown[0] == {"type": "tool-output-available", "toolCallId": "c1", "output": "12:00"}
    else:
        assert shown[0] == {"type": "tool-output-denied", "toolCallId": "c1"}
    assert [chunk["type"] for chunk in shown[1:]] == [
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]


def test_another_request_without_an_answer_ends_the_continued_stream() -> None:
    second = ApprovalRequest("a2", "c2", "clock", "0" * 64, "2026-11-29T12:00:00Z")
    events = (*BEFORE, second, ApprovalResponse("a1", "c1", approved=True))
    found, _ = encoded(events, 6, frozenset({"a1"}))
    assert [chunk["type"] for chunk in found] == ["start", "tool-approval-request", "finish"]


def test_a_turn_that_ended_without_the_request_ends_the_stream() -> None:
    found, _ = encoded((START, TurnCancelled(0)), 6, frozenset({"a1"}))
    assert [chunk["type"] for chunk in found] == ["start", "message-metadata", "abort"]
