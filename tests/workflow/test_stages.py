"""Stages as named steps of a turn: their events, their model calls, their ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.runs import (
    FAST,
    ended,
    engine_in,
    frames,
    silent,
    stored_events,
    text_of,
    usage_of,
    workflow_of,
)
from turnstream import LLM, ConfigurationError, InvalidRequest
from turnstream.core.stream_events import TextDelta
from turnstream.core.turn_events import Data, Source
from turnstream.errors import RateLimited
from turnstream.tools.base import tool
from turnstream.workflow import (
    Stage,
    StageRun,
    Workflow,
    WorkflowState,
    completed,
    done,
    fail,
    running,
    thinking,
)
from turnstream.workflow.stage import StageOutput

Run = StageRun[Any]


async def plan(run: Run) -> AsyncIterator[StageOutput]:
    yield thinking("how to answer", progress=0.5, words=len(run.state.query.split()))
    run.state.plan = {"steps": 2}
    yield done("planned", plan=run.state.plan)


async def speak(run: Run) -> AsyncIterator[StageOutput]:
    yield running("speaking")
    yield "Hello, "
    yield "world."
    yield Data("mark", 1)
    yield " Again."
    run.state.output = "Hello, world. Again."
    yield done()


@pytest.mark.requirement("H1")
async def test_each_stage_is_a_named_step_with_progress(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow_of(plan, speak).source("say hello please"))
        state = await ended(turn)
        assert (state.turn.status, state.turn.stop_reason) == ("complete", "end_turn")
        assert text_of(state) == "Hello, world. Again."
        seen = await frames(turn)
    starts = [data for name, data in seen if name == "step_start"]
    assert [(start["step"], start["name"], start["progress"]) for start in starts] == [
        (0, "plan", 0.0),
        (1, "speak", 0.5),
    ]
    names = [name for name, _ in seen]
    assert names[0] == "turn_start"
    assert names[-1] == "turn_complete"
    assert names.count("step_stop") == 2
    shown = [data["data"] for name, data in seen if name == "data" and data["name"] == "workflow"]
    assert [(event["type"], event["stage"], event["progress"]) for event in shown] == [
        ("thinking", "plan", 0.25),
        ("done", "plan", 0.5),
        ("running", "speak", 0.5),
        ("done", "speak", 1.0),
    ]
    assert all(
        {"type", "content", "progress", "timestamp", "stage", "node"} <= event.keys() for event in shown
    )
    assert shown[0]["metadata"] == {"words": 3}
    assert shown[1]["metadata"] == {"plan": {"steps": 2}}


async def test_a_late_watcher_sees_the_same_stages(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow_of(plan, speak).source("hello"))
        await ended(turn)
        assert [event["type"] for event in await stored_events(engine, turn.id)] == [
            "thinking",
            "done",
            "running",
            "done",
        ]
        states = await stored_events(engine, turn.id, "workflow_state")
    assert [state.get("stages_done", []) for state in states] == [[], ["plan"], ["plan", "speak"]]


async def test_model_calls_are_booked_with_their_cost(tmp_path: Path) -> None:
    async def twice(run: Run) -> AsyncIterator[StageOutput]:
        first = await run.ask("one two three")
        assert first
        async for text in run.answer("four"):
            yield text
        yield done()

    async def once(run: Run) -> AsyncIterator[StageOutput]:
        await run.ask("five six")
        yield done()

    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow_of(twice, once).source("x"))
        state = await ended(turn)
    assert usage_of(state) == [(0, 1, FAST), (0, 2, FAST), (1, 1, FAST)]
    assert state.turn.usage.input_tokens == 3 + 1 + 2
    counted = [attempt.usage.output_tokens or 0 for attempt in state.attempts]
    assert state.turn.usage.output_tokens == sum(counted)
    assert state.turn.cost is not None


async def test_a_call_that_is_cut_off_is_booked_as_an_estimate(tmp_path: Path) -> None:
    async def slow(run: Run) -> AsyncIterator[StageOutput]:
        async for text in run.answer("tell"):
            yield text
        yield done()

    workflow = Workflow(LLM("sim/story:pace=0.02,events=5000"), [slow])
    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow.source("x"))
        subscription = await turn.subscribe()
        async with asyncio.timeout(20):
            while b"block_delta" not in bytes(await subscription.next() or b""):
                pass
        subscription.close()
        state = await turn.interrupt()
    assert state.turn.status == "cancelled"
    assert text_of(state)
    assert [(attempt.outcome, attempt.estimated) for attempt in state.attempts] == [("cancelled", True)]
    assert state.turn.usage.output_tokens


@pytest.mark.requirement("N1")
async def test_the_thinking_of_a_model_is_not_part_of_its_answer(tmp_path: Path) -> None:
    async def answers(run: Run) -> AsyncIterator[StageOutput]:
        answer = run.answer("why?", model=LLM("sim/thinking:pace=0"))
        async for text in answer:
            yield text
        run.state.output = answer.text
        yield done()

    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow_of(answers).source("why?"))
        state = await ended(turn)
    assert {row.block.block_type for row in state.blocks} == {"text"}
    assert text_of(state)


async def raises(_run: Run) -> AsyncIterator[StageOutput]:
    yield "half"
    raise ValueError("inside")


async def is_refused(_run: Run) -> AsyncIterator[StageOutput]:
    yield "half"
    raise RateLimited("slow down")


async def ends_early(_run: Run) -> AsyncIterator[StageOutput]:
    yield "half"


async def fails(_run: Run) -> AsyncIterator[StageOutput]:
    yield "half"
    yield fail("there is no such note")
    yield "after the end"


async def is_wrong(_run: Run) -> AsyncIterator[Any]:
    yield "half"
    yield 7


async def breaks_the_state(run: Run) -> AsyncIterator[StageOutput]:
    yield "half"
    run.state.extra = {"x": object()}
    yield done()


@pytest.mark.requirement("H2")
@pytest.mark.parametrize(
    ("stage", "code", "words"),
    [
        (raises, "source_error", "the source of this turn failed"),
        (is_refused, "rate_limit_error", ""),
        (ends_early, "stage_unfinished", "ends_early"),
        (fails, "stage_failed", "there is no such note"),
        (is_wrong, "source_error", ""),
        (breaks_the_state, "stage_failed", "JSON"),
        (Stage("hangs", silent, seconds=0.05), "stage_timeout", "hangs took more than 0.05 s"),
    ],
)
async def test_a_stage_that_does_not_end_well_ends_the_run_as_failed(
    tmp_path: Path, stage: Any, code: str, words: str
) -> None:
    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow_of(stage, speak).source("x"))
        state = await ended(turn)
        seen = [name for name, _ in await frames(turn)]
    assert (state.turn.status, state.turn.error_code) == ("error", code)
    assert words in (state.turn.error_message or "")
    assert text_of(state) in {"half", ""}
    assert seen.count("turn_error") == 1
    assert seen[-1] == "turn_error"


async def test_what_follows_the_end_of_a_stage_is_not_shown(tmp_path: Path) -> None:
    closed: list[str] = []

    async def talkative(_run: Run) -> AsyncIterator[StageOutput]:
        try:
            yield "said"
            yield completed("enough")
            yield "too late"
        finally:
            closed.append("talkative")

    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow_of(talkative, speak).source("x"))
        state = await ended(turn)
        events = await stored_events(engine, turn.id)
    assert (state.turn.status, text_of(state)) == ("complete", "said")
    assert [event["type"] for event in events] == ["completed"]
    assert closed == ["talkative"]


async def test_stages_are_left_out_by_their_condition(tmp_path: Path) -> None:
    never = Stage("never", speak, when=lambda state: state.output is not None)
    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow_of(plan, never).source("x"))
        state = await ended(turn)
        states = await stored_events(engine, turn.id, "workflow_state")
    assert state.turn.status == "complete"
    assert states[-1]["stages_done"] == ["plan"]


async def test_the_state_may_have_fields_of_its_own(tmp_path: Path) -> None:
    class Notes(WorkflowState, kw_only=True):
        count: int = 0

    async def count(run: StageRun[Notes]) -> AsyncIterator[StageOutput]:
        run.state.count += 3
        yield done()

    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow_of(count, state=Notes).source("x"))
        await ended(turn)
        states = await stored_events(engine, turn.id, "workflow_state")
    assert states[-1]["count"] == 3


async def test_events_of_the_turn_and_adapters_pass_through(tmp_path: Path) -> None:
    async def gives(_run: Run) -> AsyncIterator[StageOutput]:
        yield Source("s1", title="A note")
        yield [TextDelta(500, "from a stream")]
        yield done()

    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow_of(gives).source("x"))
        state = await ended(turn)
        seen = [name for name, _ in await frames(turn)]
    assert "source" in seen
    assert text_of(state) == "from a stream"


def test_a_workflow_that_cannot_work_is_refused() -> None:
    @tool(ask="always")
    def delete(name: str) -> str:
        """Delete a note."""
        return name

    with pytest.raises(ConfigurationError, match="different names"):
        workflow_of(plan, plan)
    with pytest.raises(ConfigurationError, match="asks first"):
        workflow_of(plan, tools=[delete])
    with pytest.raises(InvalidRequest, match="chat_history"):
        workflow_of(plan).new_state("x", {"chat_history": "no list"})


async def test_a_function_that_is_no_generator_is_named(tmp_path: Path) -> None:
    async def plain(_run: Run) -> None:
        return None

    async with engine_in(tmp_path) as engine:
        turn = await engine.start(workflow_of(plain).source("x"))
        state = await ended(turn)
    assert "plain is not an async generator" in (state.turn.error_message or "")
