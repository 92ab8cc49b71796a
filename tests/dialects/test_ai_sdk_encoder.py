"""Turns as UI message streams of the AI SDK."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings

from tests.dialects.ui_fold import UiMessageFold
from tests.turnlog.dialect_watching import play
from tests.turnlog.scripted import START, TURN_ID, ScriptedTurn
from tests.turnlog.test_subscription_properties import (
    ACTIONS,
    BATCHES,
    ENDS,
    LIMITS,
    SECONDS,
    TICKS,
    Action,
    End,
    Limits,
    patched,
    scripted,
)
from turnstream.core.blocks import Block
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Data,
    Notice,
    Source,
    SourceEvent,
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
from turnstream.dialects.ai_sdk.encoder import AiSdkEncoder, Major, encoder_of
from turnstream.dialects.repetition import RETRACTED

CALL = {"tool_use_id": "c1", "tool_name": "clock"}


def chunks(*events: TurnEvent, major: Major = 5, ends_message: bool = True) -> list[dict[str, Any]]:
    """Return the chunks of a turn's events, read by a strict client."""
    encoder = encoder_of(TURN_ID, "m1", major, ends_message=ends_message)
    state: object = encoder.begin()
    frames: list[bytes] = []
    for seq, event in enumerate((START, *events), 1):
        data, state = encoder.encode(state, seq, event)
        frames.append(data)
    fold = UiMessageFold(major)
    fold.receive(b"".join(frames))
    assert fold.message_id == "m1"
    assert fold.done == encoder.is_over(state)
    lines = b"".join(frames).decode().split("\n\n")[1:-1]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line != "data: [DONE]"]


def kinds(*events: TurnEvent, major: Major = 5) -> list[str]:
    return [chunk["type"] for chunk in chunks(*events, major=major)]


COMPLETE = TurnComplete("end_turn", 3, 2, 1, usage=Usage(3, 2))


def said(index: int, text: str, block_type: Any = "text") -> list[TurnEvent]:
    return [
        BlockStart(index, block_type),
        BlockDelta(index, block_type, "text", text),
        BlockStop(index, block_type),
    ]


def test_text_and_reasoning_are_parts_of_a_step() -> None:
    found = chunks(StepStart(0), *said(0, "hm", "thinking"), *said(1, "Hello"), StepStop(0), COMPLETE)
    assert [chunk["type"] for chunk in found] == [
        "start-step",
        "reasoning-start",
        "reasoning-delta",
        "reasoning-end",
        "text-start",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    assert found[5] == {"type": "text-delta", "id": f"{TURN_ID}-1", "delta": "Hello"}
    assert found[-1]["messageMetadata"] == {
        "usage": {"inputTokens": 3, "outputTokens": 2},
        "stopReason": "end_turn",
    }


def call_events(index: int, text: str, **content: Any) -> list[TurnEvent]:
    return [
        BlockStart(index, "tool_use", {**CALL, **content}),
        BlockDelta(index, "tool_use", "partial_json", text[:3]),
        BlockDelta(index, "tool_use", "partial_json", text[3:]),
        BlockStop(index, "tool_use"),
    ]


def result_events(index: int, content: Any, *, is_error: bool = False) -> list[TurnEvent]:
    return [
        BlockStart(index, "tool_result", CALL),
        BlockDelta(index, "tool_result", "content", {"content": content, "is_error": is_error}),
        BlockStop(index, "tool_result"),
    ]


def test_a_tool_that_ran_here_has_its_input_and_output_and_the_next_output_is_a_step() -> None:
    found = chunks(
        StepStart(0),
        *call_events(0, '{"zone": "UTC"}'),
        ToolProgress("c1", "asking"),
        *result_events(1, "12:00"),
        StepStart(1),
        *said(2, "Noon."),
        COMPLETE,
    )
    tool = [chunk for chunk in found if chunk["type"].startswith("tool-")]
    assert tool == [
        {"type": "tool-input-start", "toolCallId": "c1", "toolName": "clock"},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '{"z'},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": 'one": "UTC"}'},
        {"type": "tool-input-available", "toolCallId": "c1", "toolName": "clock", "input": {"zone": "UTC"}},
        {"type": "tool-output-available", "toolCallId": "c1", "output": "asking", "preliminary": True},
        {"type": "tool-output-available", "toolCallId": "c1", "output": "12:00"},
    ]
    assert [chunk["type"] for chunk in found].count("start-step") == 2


@pytest.mark.parametrize(
    ("events", "error"),
    [
        (call_events(0, "{nope"), "not valid JSON"),
        ([*call_events(0, '{"zone')[:-1], BlockStop(0, "tool_use", partial=True)], "the call was cut off"),
    ],
)
def test_a_call_without_valid_input_says_so(events: list[TurnEvent], error: str) -> None:
    (found,) = [chunk for chunk in chunks(*events, COMPLETE) if chunk["type"] == "tool-input-error"]
    assert error in found["errorText"]


def test_a_failed_tool_is_an_output_error_and_a_result_without_its_call_brings_the_call() -> None:
    found = chunks(*result_events(0, {"why": "no"}, is_error=True), COMPLETE)
    assert [chunk["type"] for chunk in found[:2]] == ["tool-input-available", "tool-output-error"]
    assert found[1]["errorText"] == '{"why":"no"}'
    assert kinds(ToolProgress("c9", "lost"), COMPLETE) == ["finish"]


def test_sources_files_and_data_have_parts_of_their_own() -> None:
    cited = {"citations": [{"url": "https://a.example", "title": "A"}, {"uri": "https://b.example"}, 7]}
    found = chunks(
        BlockStart(0, "text"),
        BlockDelta(0, "text", "content", cited),
        BlockDelta(0, "text", "content", {"citations": [{"url": "https://c.example"}]}),
        BlockStop(0, "text"),
        BlockStart(1, "image", {"media_type": "image/png", "data": "aGk="}),
        BlockStop(1, "image"),
        Source("s1", "https://s.example", "S"),
        Source("s2", None, "Paper", "application/pdf"),
        Data("weather", {"c": 3}),
        Data("tick", 1, transient=True),
        Notice("retrying", "once more"),
        COMPLETE,
    )
    assert [chunk["url"] for chunk in found if "url" in chunk] == [
        "https://a.example",
        "https://b.example",
        "https://c.example",
        "data:image/png;base64,aGk=",
        "https://s.example",
    ]
    assert {
        "type": "source-document",
        "sourceId": "s2",
        "mediaType": "application/pdf",
        "title": "Paper",
    } in found
    assert {"type": "data-weather", "data": {"c": 3}} in found
    assert {"type": "data-tick", "data": 1, "transient": True} in found
    assert [chunk["type"] for chunk in found].count("data-notice") == 1


@pytest.mark.parametrize(
    ("stop_reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool-calls"),
        ("refusal", "content-filter"),
        (None, "other"),
        ("anything", "other"),
    ],
)
def test_each_end_has_a_finish_reason(stop_reason: str | None, finish: str) -> None:
    found = chunks(*said(0, "x"), TurnComplete(stop_reason, 1, 1, 1))
    assert found[-1]["finishReason"] == finish


def test_an_error_before_and_after_output_and_a_cancel_end_the_stream_as_what_they_are() -> None:
    error = TurnError("the provider failed", "api_error", 0)
    assert kinds(error) == ["message-metadata", "message-metadata", "error"]
    assert chunks(BlockStart(0, "text"), BlockDelta(0, "text", "text", "x"), error)[-1] == {
        "type": "error",
        "errorText": "the provider failed",
    }
    cancelled = kinds(BlockStart(0, "text"), BlockStop(0, "text", partial=True), TurnCancelled(1))
    assert cancelled[-3:] == ["finish-step", "message-metadata", "abort"]


def test_the_seventh_major_takes_back_a_step_and_earlier_ones_fail() -> None:
    events = (StepStart(0), *said(0, "wrong"), BlockReset(0), *said(0, "right"), COMPLETE)
    assert chunks(*events)[-1] == {"type": "error", "errorText": RETRACTED.error}
    found = kinds(*events, major=7)
    assert found.count("reset-step") == 1
    assert found[-1] == "finish"
    later = (*call_events(0, "{}"), *result_events(1, "x"), StepStart(1), *said(2, "a"), BlockReset(0))
    assert kinds(*later, major=7)[-1] == "error"


def shown(index: int, text: str, **fields: Any) -> Block:
    return Block(index, fields.pop("block_type", "text"), text, **fields)


@pytest.mark.requirement("P5", "N3")
@pytest.mark.parametrize(
    ("again", "ending"),
    [
        (["Hel", "lo wor", "ld"], "stop"),
        (["Hello", " world"], "stop"),
        (["Hello world"], "stop"),
        (["Help"], "error"),
        (["Hell"], "error"),
        ([], "error"),
    ],
)
def test_an_attempt_that_repeats_what_was_shown_goes_on(again: list[str], ending: str) -> None:
    def open_block(*texts: str) -> list[TurnEvent]:
        return [BlockStart(1, "text"), *[BlockDelta(1, "text", "text", text) for text in texts]]

    retracted = BlockReset(0, (shown(0, "hm", block_type="thinking"), shown(1, "Hello", partial=True)))
    events = [
        StepStart(0),
        *said(0, "hm", "thinking"),
        *open_block("Hello"),
        retracted,
        *said(0, "hm", "thinking"),
        *open_block(*again),
        BlockStop(1, "text"),
        COMPLETE,
    ]
    found = chunks(*events)
    assert (found[-1]["type"] == "error") == (ending == "error")
    if ending == "stop":
        assert "".join(chunk["delta"] for chunk in found if chunk["type"] == "text-delta") == "Hello world"
        assert [chunk["type"] for chunk in found].count("text-start") == 1


@pytest.mark.parametrize(
    ("first", "events"),
    [
        (shown(0, "a"), said(0, "a", "thinking")),
        (shown(0, "a"), [*said(0, "ab")]),
        (
            shown(0, "", block_type="tool_use", content={**CALL, "input_json": "{}"}),
            call_events(0, "{}", tool_use_id="c2"),
        ),
        (None, said(0, "a")),
    ],
)
def test_an_attempt_that_differs_ends_with_an_error(first: Block | None, events: list[TurnEvent]) -> None:
    before = call_events(0, "{}") if first is not None and first.block_type == "tool_use" else said(0, "a")
    reset = BlockReset(0, None if first is None else (first,))
    assert chunks(*before, reset, *events, COMPLETE)[-1]["type"] == "error"


def test_a_second_failure_while_repeating_is_compared_anew() -> None:
    reset = BlockReset(0, (shown(0, "ab", partial=True),))
    half = [BlockStart(0, "text"), BlockDelta(0, "text", "text", "a")]
    again = BlockReset(0, (shown(0, "a", partial=True),))
    first = [BlockStart(0, "text"), BlockDelta(0, "text", "text", "ab")]
    found = chunks(*first, reset, *half, again, *said(0, "abc"), COMPLETE)
    assert "".join(chunk["delta"] for chunk in found if chunk["type"] == "text-delta") == "abc"
    assert found[-1]["type"] == "finish"


def test_a_reset_of_what_was_not_shown_changes_nothing() -> None:
    assert kinds(*said(0, "x"), BlockReset(1), COMPLETE)[-1] == "finish"


def test_a_turn_within_a_chain_leaves_the_message_open() -> None:
    call = call_events(0, "{}")
    assert chunks(StepStart(0), *call, TurnComplete("tool_use", 1, 1, 1), ends_message=False)[-1]["type"] == (
        "tool-input-available"
    )
    encoder = AiSdkEncoder(TURN_ID, "m1")
    part = AiSdkEncoder(TURN_ID, "m1", ends_message=False)
    state: object = part.begin()
    first, results, last = (
        UiMessageFold(),
        result_events(1, "12:00"),
        [StepStart(0), *said(0, "Noon."), COMPLETE],
    )
    for turn, events in (
        (part, [START, *call]),
        (part, [START, *results, COMPLETE]),
        (encoder, [START, *last]),
    ):
        for event in events:
            data, state = turn.encode(state, 1, event)
            first.receive(data)
    assert [part["type"] for part in first.parts] == ["step-start", "tool", "step-start", "text"]
    assert first.ending == "stop"


def test_usage_and_cost_are_metadata_of_the_message() -> None:
    found = chunks(UsageReport(Usage(1, 2, 3, None, 4), "0.000012", estimated=True), COMPLETE)
    assert found[0]["messageMetadata"] == {
        "usage": {"inputTokens": 1, "outputTokens": 2, "cachedInputTokens": 3, "reasoningTokens": 4},
        "cost": "0.000012",
        "estimated": True,
    }


def test_a_delta_of_text_does_not_change_the_state() -> None:
    encoder = AiSdkEncoder(TURN_ID, TURN_ID)
    _, state = encoder.encode(encoder.begin(), 1, BlockStart(0, "text"))
    assert encoder.encode(state, 2, BlockDelta(0, "text", "text", "x"))[1] is state
    _, state = encoder.encode(state, 3, BlockCatchup(0, "text", False, "rest"))
    assert encoder.encode(state, 4, BlockDelta(0, "text", "text", "x"))[1] is state


@pytest.mark.requirement("P2", "P5", "N3")
@pytest.mark.parametrize("major", [5, 7])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=BATCHES, limits=LIMITS, ticks=TICKS, archive_ticks=TICKS, actions=ACTIONS, end=ENDS)
def test_every_stream_is_valid_and_shows_the_stored_blocks(
    major: Major,
    batches: list[list[SourceEvent]],
    limits: Limits,
    ticks: list[int],
    archive_ticks: list[int],
    actions: list[Action],
    end: End,
) -> None:
    async def example() -> None:
        async with asyncio.timeout(SECONDS):
            turn = scripted(batches, limits, (ticks, ticks), end)
            watchers = await play(
                turn,
                actions,
                archive_ticks,
                lambda: (encoder_of(TURN_ID, TURN_ID, major), UiMessageFold(major)),
            )
            for watcher in watchers:
                check(turn, cast("UiMessageFold", watcher.fold))

    with ExitStack() as stack:
        patched(stack, limits._replace(part=32 * 1024))  # a call's id and name are never apart
        asyncio.run(example())


def check(turn: ScriptedTurn, fold: UiMessageFold) -> None:
    assert fold.done
    if fold.error == RETRACTED.error:
        assert turn.store.resets
        return
    if fold.ending == "error" and turn.store.resets:
        return  # what was retracted before the failure stays shown, beside the error
    stored = sorted((row.block for row in turn.store.blocks), key=lambda block: block.sequence)
    for block_type, kind in (("text", "text"), ("thinking", "reasoning")):
        texts = [block.text_content or "" for block in stored if block.block_type == block_type]
        assert fold.texts(kind) == texts
    endings = {"complete": {"stop", "other", "tool-calls"}, "error": {"error"}, "cancelled": {"abort"}}
    assert fold.ending in endings[turn.store.ends[0].outcome.status]
