"""A server process with a staged agent that notes each run of a stage in a file that outlives the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.server_process import Started
from turnstream import LLM
from turnstream.engine import Engine
from turnstream.server.uvicorn_server import address_of, bind, loop_factory, run_application
from turnstream.workflow import StageRun, Workflow, done, thinking
from turnstream.workflow.stage import StageOutput

Run = StageRun[Any]


class AgentPlan(NamedTuple):
    """Options of the server.

    Attributes:
        notes: File that gets a line for each run of a stage.
        holds: True if the second stage never ends.
    """

    database: Path
    notes: Path
    holds: bool = False


def run_agent_server(plan: AgentPlan, ready: Connection) -> None:
    """Serve until killed."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(plan, ready))


def workflow(plan: AgentPlan) -> Workflow:
    def note(run: Run, stage: str) -> None:
        with plan.notes.open("a") as notes:
            notes.write(f"{run.state.query}: {stage}\n")

    async def prepare(run: Run) -> AsyncIterator[StageOutput]:
        note(run, "prepare")
        yield thinking(f"preparing {run.state.query}")
        run.state.plan = {"echo": await run.ask(run.state.query)}
        yield done(plan=run.state.plan)

    async def execute(run: Run) -> AsyncIterator[StageOutput]:
        note(run, "execute")
        answer = run.answer(run.state.plan["echo"])
        async for text in answer:
            yield text
        if plan.holds:
            await asyncio.Event().wait()
        run.state.output = answer.text
        yield done()

    return Workflow(LLM("sim/echo:pace=0.001"), [prepare, execute])


async def _serve(plan: AgentPlan, ready: Connection) -> None:
    engine = Engine(f"sqlite:///{plan.database}", workflow=workflow(plan), drain_seconds=None)
    bound = bind("127.0.0.1", 0)
    url = address_of(bound, "127.0.0.1")
    async with engine:
        await run_application(
            engine.application(),
            bound,
            drain=engine.drain,
            grace=0.0,
            on_listening=lambda: ready.send(Started(url, 0.0)),
        )
