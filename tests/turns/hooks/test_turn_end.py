"""The hook of a host application that runs after each turn has ended, at least once."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.turns.world import SECONDS
from turnstream.config import EngineSettings
from turnstream.engine import Engine
from turnstream.turns import ended_hooks
from turnstream.turns.ended_hooks import FinishedTurn

ECHO = EngineSettings(default_model="sim/echo")
DIES = """
import asyncio, os, signal, sys
from turnstream.config import EngineSettings
from turnstream.engine import Engine

def die(finished):
    print(finished.turn.id, finished.turn.status, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    settings = EngineSettings(default_model="sim/echo")
    async with Engine(sys.argv[1], settings=settings, on_turn_end=die) as engine:
        turn = await engine.send("hello")
        await asyncio.Event().wait()

asyncio.run(main())
"""


def awaiting(path: Path) -> int:
    """Number of turns whose end the hook has not seen."""
    connection = sqlite3.connect(path)
    try:
        query = "SELECT count(*) FROM turnstream_turns WHERE awaits_hook IS NOT NULL"
        return connection.execute(query).fetchone()[0]
    finally:
        connection.close()


class Calls:
    """A hook that records its calls, and may fail the first ones."""

    def __init__(self, failures: int = 0) -> None:
        self.turns: list[FinishedTurn] = []
        self.succeeded = asyncio.Event()
        self._failures = failures

    async def hook(self, finished: FinishedTurn) -> None:
        self.turns.append(finished)
        if len(self.turns) <= self._failures:
            raise RuntimeError("the host's database is away")
        self.succeeded.set()


async def test_the_hook_gets_each_ended_turn_with_its_blocks(tmp_path: Path) -> None:
    calls = Calls()
    path = tmp_path / "a.sqlite"
    async with Engine(f"sqlite:///{path}", settings=ECHO, on_turn_end=calls.hook) as engine:
        turn = await engine.send("hello")
        async with asyncio.timeout(SECONDS):
            await calls.succeeded.wait()
    (finished,) = calls.turns
    assert (finished.turn.id, finished.turn.status) == (turn.id, "complete")
    assert [row.block.text_content for row in finished.blocks] == ["hello"]
    assert len(finished.attempts) == 1
    assert awaiting(path) == 0


async def test_a_failed_call_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_hooks, "FIRST_RETRY", 0.01)
    calls = Calls(failures=2)
    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", settings=ECHO, on_turn_end=calls.hook) as engine:
        await engine.send("hello")
        async with asyncio.timeout(SECONDS):
            await calls.succeeded.wait()
    assert len({finished.turn.id for finished in calls.turns}) == 1
    assert len(calls.turns) == 3


async def test_a_process_killed_in_the_hook_calls_it_again_at_its_next_start(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, f"sqlite:///{path}", stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(SECONDS):
        output, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    turn_id, status = output.decode().split()
    assert status == "complete"
    assert awaiting(path) == 1
    calls = Calls()
    async with Engine(f"sqlite:///{path}", settings=ECHO, on_turn_end=calls.hook):
        async with asyncio.timeout(SECONDS):
            await calls.succeeded.wait()
    assert [finished.turn.id for finished in calls.turns] == [turn_id]
    assert awaiting(path) == 0


async def test_turns_of_an_engine_without_the_hook_are_not_marked(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    async with Engine(f"sqlite:///{path}", settings=ECHO) as engine:
        async with asyncio.timeout(SECONDS):
            await (await engine.send("hello")).wait()
    assert awaiting(path) == 0
