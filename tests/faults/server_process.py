"""The server and the simulated provider as processes of their own, for tests that kill them.

`run_server` joins the engine and uvicorn like `turnstream serve`. A plan may name a kill point: a place
between two steps of the store, or inside a tool, where the process kills itself with SIGKILL. So the crash is
exactly there. The engine has no code for it: the points are in this file's store and in the tools. Processes
are forked from one that has imported everything (see `processes.py`), so that a start takes little time.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import gc
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import sqlalchemy
from fastapi import FastAPI
from sqlalchemy import event

import turnstream.engine
import turnstream.model_loop.accounts
import turnstream.store.writers.committer
from tests.faults.killing import Death, InTool, KillPoint, die
from tests.faults.tools import Tools
from turnstream.config import (
    EngineSettings,
    NodeSettings,
    PriceSettings,
    ProviderSettings,
    RetrySettings,
    ServerSettings,
)
from turnstream.engine import NATIVE, PREFIX, VERSION, Engine
from turnstream.errors import TurnstreamError
from turnstream.server.application import build_application
from turnstream.server.fast_path import DirectRoutes
from turnstream.server.uvicorn_server import address_of, bind, loop_factory, run_application
from turnstream.simulator.server import SimulatorServer
from turnstream.store.base import Operation
from turnstream.store.sql import DEFAULT_WRITERS, SqlStore
from turnstream.telemetry import configure_logging

_PRICES = {"*/*": PriceSettings(input_per_million=Decimal(1), output_per_million=Decimal(2))}
"""Off: importing the list of prices would add a third of a second to each of these short processes."""


@dataclass(frozen=True)
class ServerPlan:
    """Options of a server process.

    Attributes:
        database: SQLite's file, or the URL of a database.
        page_limit: File with the largest number of the database's pages, which may change while it runs.
        log: File of the log.
        retry: Retry settings. By default, a model is called once.
        tool_notes: File of `tools.Tools`. The server has these tools if it is given.
        clock_offset: Seconds by which the wall clock of the process is fast.
        writers: Transactions that write to PostgreSQL at once.
    """

    database: Path | str
    log: Path
    providers: dict[str, ProviderSettings] = field(default_factory=dict)
    engine: EngineSettings = field(default_factory=EngineSettings)
    retry: RetrySettings = field(default_factory=lambda: RetrySettings(attempts=1, circuit_failures=1000))
    debug: bool = False
    log_level: str = "debug"
    environ: dict[str, str] = field(default_factory=dict)
    kill: Death | None = None
    store_timeout: float = 5.0
    page_limit: Path | None = None
    drain_seconds: float = 0.0
    tool_notes: Path | None = None
    nodes: NodeSettings = field(default_factory=NodeSettings)
    protocols: Sequence[str] = NATIVE
    clock_offset: float = 0.0
    writers: int = DEFAULT_WRITERS

    @property
    def url(self) -> str:
        return self.database if isinstance(self.database, str) else f"sqlite:///{self.database}"


class Started(NamedTuple):
    """First lines of a running server. `seconds`: from its first line to the first accepted connection."""

    url: str
    seconds: float


class Refused(NamedTuple):
    """Return the output of a process that could not start."""

    error: str
    message: str


def run_server(plan: ServerPlan, ready: Connection) -> None:
    """Serve by the plan until a signal. Send a Started or a Refused to `ready`."""
    began = time.perf_counter()
    _write_to(plan.log)
    os.environ.update(plan.environ)
    configure_logging(plan.log_level, stream=sys.stderr)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    turnstream.engine.SqlStore = lambda url, **_: _store(url, plan)
    if plan.clock_offset:
        _shift_clock(plan.clock_offset)
    if plan.page_limit is not None:
        _limit_pages(plan.page_limit)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            runner.run(_serve(plan, ready, began))
        except TurnstreamError as error:
            ready.send(Refused(type(error).__name__, error.message))
            raise SystemExit(1) from error


async def _serve(plan: ServerPlan, ready: Connection, began: float) -> None:
    engine = Engine(
        plan.url,
        settings=plan.engine,
        providers=plan.providers,
        server=ServerSettings(debug=plan.debug),
        tools=_tools(plan),
        prices=_PRICES,
        retry=plan.retry,
        nodes=plan.nodes,
    )
    async with engine:
        bound = bind("127.0.0.1", 0)
        url = address_of(bound, "127.0.0.1")
        router = engine.router(protocols=plan.protocols)
        application = build_application(
            router,
            version=VERSION,
            health=engine._background,
            direct=DirectRoutes(engine._context, router, PREFIX),
        )
        _add_inspection(application, engine)
        await run_application(
            application,
            bound,
            drain=engine.drain,
            grace=plan.drain_seconds,
            on_listening=lambda: ready.send(Started(url, time.perf_counter() - began)),
        )


def run_simulator(log: Path, ready: Connection) -> None:
    """Run the provider until the process is killed."""
    _write_to(log)

    async def serve() -> None:
        async with SimulatorServer(report=_log_line) as server:
            ready.send(Started(server.url, 0.0))
            await asyncio.get_running_loop().create_future()

    asyncio.run(serve())


def _log_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _write_to(log: Path) -> None:
    """Redirect all output of this process to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())


def _tools(plan: ServerPlan) -> list[Any]:
    if plan.tool_notes is None:
        return []
    return Tools(plan.tool_notes, plan.kill if isinstance(plan.kill, InTool) else None).functions


def _store(url: str, plan: ServerPlan) -> SqlStore:
    if not isinstance(plan.kill, KillPoint):
        store = SqlStore(url, write_timeout=plan.store_timeout)
    else:
        store = _MortalStore(url, plan.kill)
    store.writers = plan.writers
    return store


class _MortalStore(SqlStore):
    """A store that kills the process at one of its writes."""

    def __init__(self, url: str, kill: KillPoint) -> None:
        super().__init__(url)
        self._kill = kill
        self._seen = 0
        if kill.moment == "within":
            self._apply = turnstream.store.writers.committer.apply_all
            turnstream.store.writers.committer.apply_all = self._die_within

    async def write(self, operation: Operation[Any]) -> Any:
        if self._kill.moment == "within" or not self._is_due(operation):
            return await super().write(operation)
        if self._kill.moment == "after":
            await super().write(operation)
        return die()

    def _is_due(self, operation: Operation[Any]) -> bool:
        if not self._kill.counts(operation):
            return False
        self._seen += 1
        return self._seen == self._kill.occurrence

    def _die_within(
        self, connection: sqlalchemy.Connection, operations: Sequence[Operation[Any]]
    ) -> list[Any]:
        answers = self._apply(connection, operations)
        for operation in operations:
            if self._is_due(operation):
                die()
        return answers


def _shift_clock(seconds: float) -> None:
    """Shift the wall clock of this process. Its monotonic clocks stay right."""
    read, read_nanoseconds = time.time, time.time_ns
    time.time = lambda: read() + seconds
    time.time_ns = lambda: read_nanoseconds() + round(seconds * 1e9)
    turnstream.model_loop.accounts.time_ns = time.time_ns


def _limit_pages(file: Path) -> None:
    """Set the largest number of the database's pages, read from `file`, at each transaction."""

    @event.listens_for(sqlalchemy.Engine, "begin")
    def limit(connection: sqlalchemy.Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute(f"PRAGMA max_page_count = {int(file.read_text())}").fetchone()


def _add_inspection(application: FastAPI, engine: Engine) -> None:
    """`GET /inspection`: counts of the process. With `?quiet=true`, it waits up to ten seconds for the end of
    all turns and watchers. The route belongs to the tests."""
    registry = engine.commands.registry
    process = psutil.Process()

    def is_quiet() -> bool:
        return not (registry.active_count or registry._ended or engine._keep_alive.streams)

    @application.get("/inspection")
    async def inspection(*, quiet: bool = False) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 10.0
        while quiet and not is_quiet() and loop.time() < deadline:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)
        gc.collect()
        return {
            "tasks": sorted(task.get_name().rstrip("0123456789") for task in asyncio.all_tasks()),
            "active": registry.active_count,
            "ended": len(registry._ended),
            "streams": len(engine._keep_alive.streams),
            "resident": process.memory_info().rss,
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
        }
