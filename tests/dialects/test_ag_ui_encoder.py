"""Turns as AG-UI runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dialects.run_fold import RunFold
from tests.turnlog.scripted import START, TURN_ID
from turnstream.core.blocks import Block
from turnstream.core.open_block import catchup_of
from turnstream.core.turn_events import (
    ApprovalRequest,
    ApprovalResponse,
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Data,
    Notice,
    Source,
    StepStart,
    StepStop,
    ToolProgress,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    UsageReport,
)
from turnstream.core.usage import Usage
from turnstream.dialects.ag_ui import messages as ag_ui_messages
from turnstream.dialects.ag_ui.encoder import AgUiEncoder, EarlierMessages
from turnstream.dialects.ag_ui.event_writer import RunFacts
from turnstream.dialects.ag_ui.run_state import ShownRun

FACTS = RunFacts("thread", "run")
QUESTION = {"id": "q", "role": "user", "content": "Well?"}
EARLIER = EarlierMessages(b'{"id":"q","role":"user","content":"Well?"}')
COMPLETE = TurnComplete("end_turn", 3, 2, 1, usage=Usage(3, 2))
CALL = {"tool_use_id": "c1", "tool_name": "clock"}


class Reading:
    """A client of one encoder, and the encoder's state."""

    def __init__(self, *, joins: bool = False, facts: RunFacts = FACTS) -> None:
        self.encoder = AgUiEncoder(TURN_ID, facts, EARLIER, joins=joins)
        self.state: object = self.encoder.begin()
        self.fold = RunFold([QUESTION])
        self.seq = 0

    def show(self, *events: TurnEvent) -> Reading:
        for event in events:
            self.seq += 1
            data, self.state = self.encoder.encode(self.state, self.seq, event)
            self.fold.receive(data)
        assert self.fold.done == self.encoder.is_over(self.state)
        return self

    def settle(self) -> Reading:
        while not self.encoder.is_settled(self.state):
            data, self.state = self.encoder.settle(self.state)
            self.fold.receive(data)
        return self

    def replay(self, *events: TurnEvent) -> Reading:
        """Return the turn's events again, as a snapshot of the remaining ones."""
        assert self.encoder.needs_replay(self.state)
        last, self.seq = self.seq, 0
        self.show(START, *events).settle()
        self.seq = max(self.seq, last)
        return self


def run(*events: TurnEvent, facts: RunFacts = FACTS) -> RunFold:
    return Reading(facts=facts).show(START, *events).fold


def said(index: int, text: str, block_type: Any = "text") -> list[TurnEvent]:
    return [
        BlockStart(index, block_type),
        BlockDelta(index, block_type, "text", text),
        BlockStop(index, block_type),
    ]


def called(index: int, text: str, **content: Any) -> list[TurnEvent]:
    return [
        BlockStart(index, "tool_use", {**CALL, **content}),
        BlockDelta(index, "tool_use", "partial_json", text[:3]),
        BlockDelta(index, "tool_use", "partial_json", text[3:]),
        BlockStop(index, "tool_use"),
    ]


def answered(index: int, content: Any, call_id: str = "c1", **facts: Any) -> list[TurnEvent]:
    return [
        BlockStart(index, "tool_result", {"tool_use_id": call_id}),
        BlockDelta(index, "tool_result", "content", {"content": content, "is_error": False, **facts}),
        BlockStop(index, "tool_result"),
    ]


def message(index: int) -> str:
    return f"{TURN_ID}-{index}"


@pytest.mark.requirement("N4")
def test_text_and_reasoning_are_messages_and_a_step_is_closed() -> None:
    fold = run(
        StepStart(0),
        BlockStart(0, "thinking"),
        BlockDelta(0, "thinking", "text", "hm"),
        BlockDelta(0, "thinking", "signature", "sig"),
        BlockDelta(0, "thinking", "signature", "nature"),
        BlockStop(0, "thinking"),
        *said(1, "Hello"),
        COMPLETE,
    )
    assert fold.kinds == [
        "RUN_STARTED",
        "STEP_STARTED",
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_ENCRYPTED_VALUE",
        "REASONING_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "STEP_FINISHED",
        "RUN_FINISHED",
    ]
    assert fold.messages[1:] == [
        {"id": message(0), "role": "reasoning", "content": "hm", "encryptedValue": "signature"},
        {"id": message(1), "role": "assistant", "content": "Hello"},
    ]
    assert fold.ending == {
        "type": "RUN_FINISHED",
        "threadId": "thread",
        "runId": "run",
        "outcome": {"type": "success"},
        "result": {"turnId": TURN_ID, "stopReason": "end_turn"},
        "usage": [{"inputTokens": 3, "outputTokens": 2}],
    }


@pytest.mark.requirement("N4")
def test_calls_belong_to_the_text_before_them_and_results_follow_them() -> None:
    fold = run(
        StepStart(0),
        *said(0, "On it."),
        *called(1, '{"zone": "UTC"}'),
        *called(2, "", tool_use_id="c2", provider_executed=True),
        StepStop(0),
        ToolProgress("c1", "asking"),
        *answered(3, [{"type": "text", "text": "12"}, {"type": "text", "text": ":00"}]),
        *answered(4, {"why": "no"}, "c2", is_error=True),
        StepStart(1),
        *called(5, "{}", tool_use_id="c3"),
        TurnComplete("tool_use", 1, 1, 6),
    )
    function = {"name": "clock", "arguments": '{"zone": "UTC"}'}
    own = {"id": "c2", "type": "function", "function": {"name": "clock", "arguments": ""}}
    own["metadata"] = {"providerExecuted": True}
    assert fold.messages[1:] == [
        {
            "id": message(0),
            "role": "assistant",
            "content": "On it.",
            "toolCalls": [{"id": "c1", "type": "function", "function": function}, own],
        },
        {"id": message(3), "role": "tool", "toolCallId": "c1", "content": "12:00"},
        {
            "id": message(4),
            "role": "tool",
            "toolCallId": "c2",
            "content": '{"why":"no"}',
            "metadata": {"isError": True},
        },
        {
            "id": message(5),
            "role": "assistant",
            "toolCalls": [{"id": "c3", "type": "function", "function": {"name": "clock", "arguments": "{}"}}],
        },
    ]
    assert fold.ending is not None
    assert fold.ending["outcome"] == {"type": "success", "pendingToolCallIds": ["c3"]}
    assert ("turnstream.tool_progress", {"tool_use_id": "c1", "text": "asking"}) in fold.custom


@pytest.mark.requirement("N4")
def test_data_is_state_and_the_rest_is_custom() -> None:
    fold = run(
        Data("a/b", {"c": None}),
        Data("a/b", {"c": 3}),
        Data("tick", 1, transient=True),
        Data("state_delta", [{"op": "add", "path": "/n", "value": 1}]),
        Data("state_delta", [{"op": "jump"}]),
        Source("s1", "https://s.example"),
        Notice("retrying", "once more"),
        UsageReport(Usage(1, 2)),
        BlockStart(0, "image", {"media_type": "image/png", "data": "aGk="}),
        BlockStop(0, "image"),
        BlockStart(1, "text", {"citations": [{"url": "https://c.example"}]}),
        BlockStop(1, "text"),
        COMPLETE,
    )
    assert fold.state == {"a/b": {"c": 3}, "n": 1, "state_delta": [{"op": "jump"}]}
    assert fold.custom == [
        ("tick", 1),
        ("turnstream.source", {"source_id": "s1", "url": "https://s.example"}),
        ("turnstream.notice", {"code": "retrying", "message": "once more"}),
        ("turnstream.image", {"turn_id": TURN_ID, "block_index": 0, "media_type": "image/png"}),
        ("turnstream.citations", {"messageId": message(1), "citations": [{"url": "https://c.example"}]}),
    ]
    assert run(Data("state", {"all": 1}), COMPLETE).state == {"all": 1}


@pytest.mark.requirement("N4", "P5")
@pytest.mark.parametrize(
    ("end", "knows_cancelled", "outcome", "code"),
    [
        (TurnComplete("max_tokens", 1, 1, 1), True, "success", None),
        (TurnComplete("refusal", 1, 1, 1), True, "success", None),
        (TurnComplete(None, None, None, 1), True, "success", None),
        (TurnCancelled(1), True, "cancelled", None),
        (TurnCancelled(1), False, "error", "cancelled"),
        (TurnError("the provider failed", "api_error", 1), True, "error", "api_error"),
        (TurnError("", "draining", 1), True, "error", "draining"),
    ],
)
def test_each_end_before_and_after_output(
    end: TurnEvent, knows_cancelled: bool, outcome: str, code: str | None
) -> None:
    facts = RunFacts("thread", "run", knows_cancelled)
    open_text = [StepStart(0), BlockStart(0, "text"), BlockDelta(0, "text", "text", "x")]
    for events in ([], open_text):
        fold = run(*events, end, facts=facts)
        assert fold.outcome == outcome
        assert (fold.ending or {}).get("code") == code
        assert Reading(joins=True, facts=facts).show(START, *events, end).fold.outcome == outcome


@pytest.mark.requirement("N4")
def test_a_waiting_turn_ends_with_its_interrupts_and_a_resumed_run_goes_on() -> None:
    calls = [*called(0, "{}"), *called(1, "{}", tool_use_id="c2")]
    first = ApprovalRequest("a1", "c1", "clock", "d", "2026-11-29T12:00:00.000Z")
    second = ApprovalRequest("a2", "c2", "clock", "d", "2026-11-29T12:00:00.000Z")
    fold = Reading().show(START, *calls, first, second).settle().fold
    assert fold.ending is not None
    interrupts = fold.ending["outcome"]["interrupts"]
    assert [one["id"] for one in interrupts] == ["a1", "a2"]
    assert interrupts[0] == {
        "id": "a1",
        "reason": "tool_call",
        "message": "clock asks for an approval",
        "toolCallId": "c1",
        "responseSchema": {
            "type": "object",
            "properties": {"approved": {"type": "boolean"}, "reason": {"type": "string"}},
            "required": ["approved"],
        },
        "expiresAt": "2026-11-29T12:00:00.000Z",
    }
    yes, no = ApprovalResponse("a1", "c1", approved=True), ApprovalResponse("a2", "c2", approved=False)
    half = Reading(joins=True).show(START, *calls, first, second, yes).settle().fold
    assert half.ending is not None
    assert [one["toolCallId"] for one in half.ending["outcome"]["interrupts"]] == ["c2"]
    resumed = Reading(joins=True).show(START, *calls, first, second, yes, no).settle()
    assert not resumed.fold.done
    resumed.show(*answered(2, "12:00"), *answered(3, "denied", "c2"), *said(4, "Noon."), COMPLETE)
    assert resumed.fold.outcome == "success"
    assert resumed.fold.texts() == ["Noon."]
    cancelled = Reading(joins=True).show(START, *calls, first, second, *answered(2, "x"), TurnCancelled(3))
    assert cancelled.fold.outcome == "cancelled"


WHOLE: list[TurnEvent] = [
    *said(0, "hm", "thinking"),
    *said(1, "On it."),
    *called(2, '{"zone": "UTC"}'),
    *called(3, "{}", tool_use_id="c2"),
    *answered(4, "12:00"),
    *answered(5, "13:00", "c2"),
    *called(6, "{}", tool_use_id="c3"),
    *answered(7, "14:00", "c3"),
    *said(8, "Noon."),
    COMPLETE,
]


@pytest.mark.requirement("N4")
@pytest.mark.parametrize("place", range(len(WHOLE) + 1))
def test_a_snapshot_at_any_event_has_the_messages_that_were_shown(place: int) -> None:
    shown = run(*WHOLE[:place])
    joined = Reading(joins=True).show(START, *WHOLE[:place]).settle()
    assert joined.fold.kinds[:2] == ["RUN_STARTED", "MESSAGES_SNAPSHOT"]
    assert joined.fold.messages == shown.messages
    joined.show(*WHOLE[place:])
    assert joined.fold.messages == run(*WHOLE).messages
    assert joined.fold.ending == run(*WHOLE).ending


@pytest.mark.requirement("N4", "P5")
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_retracted_text_is_taken_back_by_a_snapshot(kept: int) -> None:
    first = [
        *said(0, "hm", "thinking"),
        *said(1, "wrong"),
        BlockStart(2, "text"),
        BlockDelta(2, "text", "text", "x"),
    ]
    reset: TurnEvent = BlockReset(kept)
    reading = Reading().show(START, StepStart(0), Data("d", 1), Notice("n", "once"), *first, reset)
    left = [catchup_of(Block(0, "thinking", "hm")), catchup_of(Block(1, "text", "wrong"))][:kept]
    reading.replay(Data("d", 1), Notice("n", "once"), *left, Data("e", 2))
    assert reading.fold.kinds.count("RUN_STARTED") == 1
    assert [one for one in reading.fold.custom if one[0] == "turnstream.notice"] == [
        ("turnstream.notice", {"code": "n", "message": "once"})
    ]
    assert reading.fold.state == {"d": 1}, "data of an event that was shown before is not shown again"
    reading.show(*said(kept, "right"), COMPLETE)
    assert reading.fold.texts() == [*["wrong"][: kept - 1 if kept else 0], "right"]
    assert reading.fold.texts("reasoning") == (["hm"] if kept else [""])
    assert reading.fold.outcome == "success"


def test_events_after_a_retraction_are_ignored_until_the_turn_comes_again() -> None:
    reading = Reading().show(START, *said(0, "x"), BlockReset(0), *said(0, "y"), COMPLETE)
    assert reading.fold.kinds[-1] == "TEXT_MESSAGE_END"
    assert reading.replay(catchup_of(Block(0, "text", "y")), COMPLETE).fold.texts() == ["y"]
    assert reading.fold.outcome == "success"


def test_a_retraction_of_what_was_not_shown_changes_nothing() -> None:
    assert run(*said(0, "x"), BlockReset(1), COMPLETE).outcome == "success"
    assert run(*said(0, "x"), Notice("truncated", "gone", 1), COMPLETE).outcome == "success"


def test_a_turn_that_comes_again_is_a_snapshot() -> None:
    reading = Reading().show(START, *said(0, "x"), START, BlockCatchup(0, "text", False, "y")).settle()
    assert reading.fold.texts() == ["y"]
    reading.show(BlockDelta(0, "text", "text", "z"), BlockStop(0, "text"), COMPLETE)
    assert reading.fold.texts() == ["yz"]


def test_a_watcher_that_fell_behind_gets_the_rest_of_the_open_block() -> None:
    reading = Reading().show(
        START,
        BlockStart(0, "thinking"),
        BlockDelta(0, "thinking", "signature", "sig"),
        BlockCatchup(0, "thinking", True, "hm", None, {"signature": "signature"}),
        BlockCatchup(1, "text", False, "Hel"),
        BlockCatchup(1, "text", False, "lo"),
        BlockStop(1, "text"),
        COMPLETE,
    )
    assert reading.fold.texts() == ["Hello"]
    assert reading.fold.messages[1]["encryptedValue"] == "signature"


def test_a_delta_of_text_does_not_change_the_state() -> None:
    reading = Reading().show(START, BlockStart(0, "text"))
    before = reading.state
    assert reading.show(BlockDelta(0, "text", "text", "x")).state is before
    joined = Reading(joins=True).show(START, BlockCatchup(0, "text", False, "x")).settle()
    before = joined.state
    assert isinstance(before, ShownRun)
    assert joined.show(BlockDelta(0, "text", "text", "x")).state is before


def test_watchers_share_frames_if_their_run_is_the_same() -> None:
    name = AgUiEncoder(TURN_ID, FACTS, EARLIER).name
    assert name == AgUiEncoder(TURN_ID, FACTS, joins=True).name
    others = [RunFacts("thread", "run", False), RunFacts("t", "run"), RunFacts("thread", "r")]
    assert len({name, *(AgUiEncoder(TURN_ID, facts).name for facts in others)}) == 4


@pytest.mark.requirement("N4", "P3")
def test_a_large_snapshot_leaves_out_large_results_and_one_of_text_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ag_ui_messages, "LARGEST_SNAPSHOT", 4000)
    long = Reading(joins=True).show(START, *called(0, "{}"), *answered(1, "x" * 5000)).settle()
    assert long.fold.texts("tool") == ["[5,000 characters left out]"]
    text = Reading(joins=True).show(START, *said(0, "x" * 5000)).settle()
    assert text.fold.ending is not None
    assert text.fold.ending["code"] == "snapshot_too_large"
    encoder = AgUiEncoder(TURN_ID, FACTS, EarlierMessages(None), joins=True)
    _, state = encoder.encode(encoder.begin(), 1, START)
    assert b"snapshot_too_large" in encoder.settle(state)[0]
