"""A turn's tools, step accounts and attempts are stored at each step, so that another process can rebuild the
request."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.turns.tools.scripted import ScriptedProvider, answer, calls, says, world_of
from tests.turns.world import OWNER, SECONDS
from turnstream.core.blocks import Block
from turnstream.core.history import PastTurn, build_history
from turnstream.core.stream_events import TextDelta
from turnstream.core.usage import Usage
from turnstream.store.operations.progress import SaveStep
from turnstream.store.queries import AttemptsOfTurn, GetTurn
from turnstream.store.sql import SqlStore
from turnstream.tools import tool
from turnstream.turns.commands import TurnRequest
from turnstream.turns.histories import read_history
from turnstream.wires.base import ModelRequest, ToolDefinition

CLIENTS = ToolDefinition("draw", "Draws. " * 100, {"type": "object", "properties": {}})


@tool
async def look(place: str) -> str:
    """Look somewhere."""
    return f"nothing in {place}"


class Halt:
    """File at which a scripted answer waits until the process is killed."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def __call__(self) -> TextDelta:
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError


async def reopened(path: Path) -> SqlStore:
    """The database as the next process finds it, before recovery."""
    store = SqlStore(f"sqlite:///{path}")
    await store.open()
    return store


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize(
    "clients", [(), (CLIENTS,)], ids=["the engine's tools", "a large one of the client's"]
)
async def test_what_a_killed_process_stored_of_its_steps_is_read_back(
    tmp_path: Path, rounds: int, clients: Any
):
    halt = Halt()
    asks = [
        answer(calls(0, "look", '{"place": "here"}', identity=f"c{n}"), stop="tool_use")
        for n in range(rounds)
    ]
    provider = ScriptedProvider(*asks, [*answer(says("so ")[:2], stop=None), halt])
    async with world_of(tmp_path, provider, look) as world:
        request = TurnRequest(
            chat_id=await world.chat(),
            blocks=(Block(0, "text", "What is there?"),),
            model="sim/m",
            system="Be brief.",
            params={"temperature": 0.5},
            tools=("look", *clients),
        )
        started = await world.commands.send(OWNER, request)
        turn_id = started.assistant_turn.id
        async with asyncio.timeout(SECONDS):
            await halt.reached.wait()
        running = await world.state(turn_id)
        assert running.attempts == (), "they are shown once the turn has ended"
        await world.journal.write()
        await world.crash()
    store = await reopened(tmp_path / "turns.sqlite")
    turn = await store.read(GetTurn(owner=OWNER, turn_id=turn_id))
    attempts = await store.read(AttemptsOfTurn(turn_id=turn_id))
    assert turn.tools == ("look", *clients)
    assert [(step.step, step.model, step.usage) for step in turn.steps] == [
        (number, "scripted/m", Usage(10, 5)) for number in range(rounds)
    ]
    assert [(kept.step, kept.number, kept.outcome) for kept in attempts] == [
        (number, 1, "complete") for number in range(rounds)
    ]
    path = await read_history(store, turn_id)
    past = [PastTurn(before.role, before.status, said) for before, said in path]
    asked = provider.asked[-1]
    rebuilt = ModelRequest(
        asked.model, build_history(past, for_next_call=True), turn.system, asked.tools, turn.params
    )
    assert rebuilt == asked
    assert [tool if isinstance(tool, str) else tool.name for tool in turn.tools or ()] == [
        definition.name for definition in asked.tools
    ]
    await store.close()
    async with world_of(tmp_path, provider, look) as world:
        ended = await world.state(turn_id)
        assert ended.turn.steps[:rounds] == turn.steps, "only the step that was lost is estimated"
        assert [step.estimated for step in ended.turn.steps] == [*[False] * rounds, True]
        assert (ended.turn.usage.input_tokens or 0) > 10 * rounds
        assert list(ended.attempts) == attempts


async def test_a_step_is_stored_while_its_tools_run(tmp_path: Path):
    entered, never = asyncio.Event(), asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        entered.set()
        await never.wait()
        return ""

    provider = ScriptedProvider(answer(calls(0, "wait"), stop="tool_use"), answer(says("done")))
    async with world_of(tmp_path, provider, wait) as world:
        started = await world.ask("go", model="sim/m")
        turn_id = started.assistant_turn.id
        async with asyncio.timeout(SECONDS):
            await entered.wait()
            saving = world.executor(turn_id).writer.saving
            assert saving is not None
            await saving
        await world.crash()
    store = await reopened(tmp_path / "turns.sqlite")
    turn = await store.read(GetTurn(owner=OWNER, turn_id=turn_id))
    assert turn.tools == ("wait",)
    assert [step.usage for step in turn.steps] == [Usage(10, 5)]
    assert len(await store.read(AttemptsOfTurn(turn_id=turn_id))) == 1
    await store.close()


async def test_a_turn_of_one_step_writes_nothing_more(tmp_path: Path):
    provider = ScriptedProvider(answer(says("done")))
    async with world_of(tmp_path, provider, look) as world:
        started = await world.ask("go", model="sim/m")
        ended = await world.ended(started.assistant_turn.id)
        assert not [write for _, write in world.store.writes if isinstance(write, SaveStep)]
        assert [(kept.step, kept.outcome) for kept in ended.attempts] == [(0, "complete")]


async def test_an_ended_turn_has_each_attempt_once(tmp_path: Path):
    provider = ScriptedProvider(
        answer(calls(0, "look", '{"place": "here"}'), stop="tool_use"), answer(says("done"))
    )
    async with world_of(tmp_path, provider, look) as world:
        started = await world.ask("go", model="sim/m")
        ended = await world.ended(started.assistant_turn.id)
        assert len([write for _, write in world.store.writes if isinstance(write, SaveStep)]) == 1
        assert [(kept.step, kept.number) for kept in ended.attempts] == [(0, 1), (1, 1)]
        assert [step.step for step in ended.turn.steps] == [0, 1]
        assert ended.turn.usage == Usage(20, 10)
