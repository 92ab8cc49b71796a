"""A server process whose tool asks for approval, and notes each of its runs in a file that outlives the
process."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from tests.faults.server_process import Started
from turnstream.engine import VERSION, Engine
from turnstream.server.application import build_application
from turnstream.server.uvicorn_server import address_of, bind, loop_factory, run_application
from turnstream.tools import tool


class AskingPlan(NamedTuple):
    """A server with a tool that asks. Each run of the tool adds a line to the file `notes`.

    `database`: SQLite's file, or a URL.
    """

    database: Path | str
    notes: Path

    @property
    def url(self) -> str:
        return self.database if isinstance(self.database, str) else f"sqlite:///{self.database}"


def run_asking_server(plan: AskingPlan, ready: Connection) -> None:
    """Serve until the process is killed."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(plan, ready))


async def _serve(plan: AskingPlan, ready: Connection) -> None:
    @tool(ask="always")
    def delete(path: str) -> str:
        """Delete a file."""
        with plan.notes.open("a") as notes:
            notes.write(f"{path}\n")
        return f"{path} is gone"

    async with Engine(plan.url, tools=[delete]) as engine:
        bound = bind("127.0.0.1", 0)
        url = address_of(bound, "127.0.0.1")
        await run_application(
            build_application(engine.router(), version=VERSION),
            bound,
            drain=engine.drain,
            grace=0.0,
            on_listening=lambda: ready.send(Started(url, 0.0)),
        )
