"""Engines and stages for the tests of workflows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from turnstream import LLM, Engine
from turnstream.core.turn_events import Data, TurnEvent
from turnstream.server.live_turn import LiveTurn
from turnstream.store.queries import StoredEvents
from turnstream.turns.new_turns import TurnState
from turnstream.workflow import StageRun, Workflow
from turnstream.workflow.stage import StageOutput

SECONDS = 20.0
FAST = "sim/demo:pace=0"


def engine_in(folder: Path) -> Engine:
    return Engine(f"sqlite:///{folder / 'workflow.sqlite'}", drain_seconds=None)


def workflow_of(*stages: Any, **options: Any) -> Workflow:
    return Workflow(LLM(FAST), stages or None, **options)


async def ended(turn: LiveTurn) -> TurnState:
    async with asyncio.timeout(SECONDS):
        return await turn.wait()


async def stored_events(engine: Engine, turn_id: str, name: str = "workflow") -> list[dict[str, Any]]:
    """Return the data of the stored `data` events of a turn with a name."""
    rows = await engine.commands.store.read(StoredEvents(turn_id=turn_id))
    events = [msgspec.json.decode(row, type=TurnEvent) for row in rows]
    return [event.data for event in events if isinstance(event, Data) and event.name == name]


async def frames(turn: LiveTurn) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the data of each event of a turn, from its beginning to its end."""
    found: list[tuple[str, dict[str, Any]]] = []
    subscription = await turn.subscribe(after=turn.beginning)
    async with asyncio.timeout(SECONDS):
        while (data := await subscription.next()) is not None:
            for frame in bytes(data).split(b"\n\n"):
                lines = dict(line.split(b": ", 1) for line in frame.split(b"\n") if line)
                if b"data" in lines:
                    found.append((lines[b"event"].decode(), msgspec.json.decode(lines[b"data"])))
    return found


def text_of(state: TurnState) -> str:
    return "".join(row.block.text_content or "" for row in state.blocks if row.block.block_type == "text")


async def silent(_run: StageRun[Any]) -> AsyncIterator[StageOutput]:
    """A stage that never gives an event."""
    await asyncio.Event().wait()
    yield ""


def usage_of(state: TurnState) -> list[tuple[int, int, str]]:
    return [(attempt.step, attempt.number, attempt.model) for attempt in state.attempts]
