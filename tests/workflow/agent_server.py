"""A server process with a staged agent that notes each run of a stage in a file that outlives the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.server_process import Started
from turnstream import LLM
from turnstream.config import PriceSettings
from turnstream.engine import Engine
from turnstream.server.uvicorn_server import address_of, bind, loop_factory, run_application
from turnstream.workflow import StageRun, Workflow, done, thinking
from turnstream.workflow.stage import StageOutput

Run = StageRun[Any]
ECHO = "sim/echo:pace=0.001"
PRICES = {"sim/*": PriceSettings(input_per_million=3, output_per_million=15)}


class AgentPlan(NamedTuple):
    """Options of the server.

    Attributes:
        notes: File that gets a line for each run of a stage.
        holds: Queries whose second stage never ends.
        together: Runs that begin their second stage at the same time.
        hidden: Model of the first stage, whose answer is not shown.
        shown: Model of the second stage.
    """

    database: Path
    notes: Path
    holds: frozenset[str] = frozenset()
    together: int = 1
    hidden: str = ECHO
    shown: str = ECHO


def run_agent_server(plan: AgentPlan, ready: Connection) -> None:
    """Serve until killed."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(plan, ready))


def workflow(plan: AgentPlan) -> Workflow:
    together, shown = asyncio.Barrier(plan.together), LLM(plan.shown)

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
        await together.wait()
        answer = run.answer(run.state.plan["echo"], model=shown)
        async for text in answer:
            yield text
        if run.state.query in plan.holds:
            await asyncio.Event().wait()
        run.state.output = answer.text
        yield done()

    return Workflow(LLM(plan.hidden), [prepare, execute])


async def _serve(plan: AgentPlan, ready: Connection) -> None:
    url = f"sqlite:///{plan.database}"
    engine = Engine(url, workflow=workflow(plan), prices=PRICES, drain_seconds=None)
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
