"""Random stages that raise, hang, end early, or continue after their end. Each run has one true end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workflow.runs import FAST, SECONDS, ended, engine_in, frames, text_of
from turnstream import LLM
from turnstream.core.native_fold import TERMINAL_NAMES
from turnstream.workflow import Stage, StageRun, Workflow, completed, done, fail, running
from turnstream.workflow.stage import StageOutput

End = Literal["done", "completed", "fail", "early", "raise", "hang", "stubborn"]
GOOD: frozenset[End] = frozenset({"done", "completed"})
LATE: frozenset[End] = frozenset({"hang", "stubborn"})


class Script(NamedTuple):
    """The texts, events and model calls of a stage, its end, and True if it yields more after its end."""

    actions: tuple[str, ...]
    end: End
    goes_on: bool


scripts = st.builds(
    Script,
    st.lists(st.sampled_from(["text", "event", "ask", "answer"]), max_size=4).map(tuple),
    st.sampled_from(["done", "done", "done", "completed", "fail", "early", "raise", "hang", "stubborn"]),
    st.booleans(),
)


def stage_of(number: int, script: Script) -> Stage:
    async def perform(run: StageRun[Any]) -> AsyncIterator[StageOutput]:
        for place, action in enumerate(script.actions):
            match action:
                case "text":
                    yield f"[{number}.{place}]"
                case "event":
                    yield running(f"{number}.{place}")
                case "ask":
                    await run.ask(f"hidden {number}.{place}")
                case _:
                    async for text in run.answer(f"({number}.{place})", system="Repeat."):
                        yield text
        match script.end:
            case "done":
                yield done()
            case "completed":
                yield completed()
            case "fail":
                yield fail("it failed")
            case "raise":
                raise ValueError("inside")
            case "hang":
                await asyncio.Event().wait()
            case "stubborn":  # it catches the cancellation of its deadline
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                yield "too late"
                yield done()
            case _:
                return
        if script.goes_on:
            yield "after the end"
            yield done()

    return Stage(f"stage-{number}", perform, seconds=0.05 if script.end in LATE else 20)


def expected_text(stages: list[Script]) -> tuple[str, bool]:
    """Return the text of a run, and True if the run is complete."""
    text = ""
    for number, script in enumerate(stages):
        for place, action in enumerate(script.actions):
            if action == "text":
                text += f"[{number}.{place}]"
            elif action == "answer":
                text += f"({number}.{place})"
        if script.end not in GOOD:
            return text, False
        if script.end == "completed":
            return text, True
    return text, True


@pytest.mark.requirement("H2", "D7", "P5")
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(scripts, min_size=1, max_size=4))
def test_every_run_has_one_true_end(stages: list[Script]) -> None:
    asyncio.run(_check(stages))


async def _check(stages: list[Script]) -> None:
    agent = Workflow(LLM(FAST.replace("demo", "echo")), [stage_of(*entry) for entry in enumerate(stages)])
    text, is_complete = expected_text(stages)
    with TemporaryDirectory() as folder:
        async with asyncio.timeout(SECONDS), engine_in(Path(folder)) as engine:
            turn = await engine.start(agent.source("x"))
            state = await ended(turn)
            names = [name for name, _ in await frames(turn)]
    assert (state.turn.status == "complete") == is_complete
    assert (state.turn.status == "error") == (not is_complete)
    assert text_of(state) == text or (not is_complete and any(s.end in LATE for s in stages))
    assert text.startswith(text_of(state))
    assert [name for name in names if name in TERMINAL_NAMES] == names[-1:]
