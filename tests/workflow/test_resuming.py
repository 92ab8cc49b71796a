"""Runs that are resumed after a failure or a stop: stages that have ended do not run again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.workflow.runs import SECONDS, engine_in, text_of
from turnstream import LLM
from turnstream.errors import NotFound
from turnstream.turns.new_turns import TurnRequest
from turnstream.workflow import StageRun, Workflow, done, fail
from turnstream.workflow.commands import WorkflowCommands
from turnstream.workflow.stage import StageOutput

Run = StageRun[Any]
Trouble = Literal["fails", "raises", "is stopped"]


class Stages:
    """Two stages. The second one is in trouble until `trouble` is None."""

    def __init__(self, trouble: Trouble | None) -> None:
        self.trouble = trouble
        self.ran: list[str] = []
        self.hangs = asyncio.Event()

    async def plan(self, run: Run) -> AsyncIterator[StageOutput]:
        self.ran.append("plan")
        run.state.plan = {"echo": await run.ask("one two three four")}
        yield done()

    async def write(self, run: Run) -> AsyncIterator[StageOutput]:
        self.ran.append("write")
        match self.trouble:
            case "fails":
                yield fail("not today")
            case "raises":
                raise ValueError("inside")
            case "is stopped":
                self.hangs.set()
                await asyncio.Event().wait()
            case None:
                answer = run.answer(f"said {run.state.plan['echo']}")
                async for text in answer:
                    yield text
                run.state.output = answer.text
                yield done()


@pytest.mark.requirement("H3", "I1")
@pytest.mark.parametrize("trouble", ["fails", "raises", "is stopped"])
async def test_a_run_continues_with_the_stage_that_has_not_ended(tmp_path: Path, trouble: Trouble) -> None:
    stages = Stages(trouble)
    async with asyncio.timeout(SECONDS), engine_in(tmp_path) as engine:
        workflow = Workflow(LLM("sim/echo:pace=0"), [stages.plan, stages.write])
        runs = WorkflowCommands(engine.commands, workflow)
        chat = await engine.commands.chats.create("local")
        run_id = (await runs.start("local", "go", TurnRequest(chat_id=chat.id))).assistant_turn.id
        if trouble == "is stopped":
            await stages.hangs.wait()
            assert (await runs.resume("local", run_id)).assistant_turn.id == run_id, "it still runs"
            await runs.cancel("local", run_id)
        first = await runs.wait("local", run_id)
        stages.trouble = None
        resumed = await asyncio.gather(*(runs.resume("local", run_id) for _ in range(3)))
        (again,) = {started.assistant_turn.id for started in resumed}
        second = await runs.wait("local", again)
        state = await engine.commands.state("local", again)
        with pytest.raises(NotFound):
            await runs.resume("another owner", run_id)
    assert first.turn.status == ("cancelled" if trouble == "is stopped" else "error")
    assert (second.turn.status, text_of(state)) == ("complete", "said one two three four")
    assert stages.ran == ["plan", "write", "write"]
    assert (first.turn.usage.input_tokens, second.turn.usage.input_tokens) == (4, 5)
    assert second.turn.prev_turn_id == first.turn.prev_turn_id, "the resumed run is a sibling of the first"
