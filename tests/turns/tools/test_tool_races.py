"""An interrupt races against the ends of two tools, one in the event loop and one in a thread, two hundred
times in each order. Each call has one result, which says whether it was used, and nothing changes afterwards
(G2, G5, D1)."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults.histories import check_answers
from tests.turns.world import OWNER, World, ticks
from turnstream.core.blocks import Block
from turnstream.core.history import CANCELLED, PastTurn, build_history
from turnstream.tools import ToolContext, ToolRunner
from turnstream.tools.base import by_name
from turnstream.turns.new_turns import TurnState

TURNS = 200
AT_ONCE = 20
PHASES = 20
"""The interrupt comes 0 to 19 ticks of the loop after the tools may end. In every other race, it comes after
eight times as many, while the results are written and the model gets them."""


class Raced(NamedTuple):
    """Result of one race: the turn's status, the number of tools with a result, and the step at the
    interrupt."""

    status: str
    answered: int
    saving: bool
    running: bool


class Bench:
    """Two tools. Each call waits until its turn's race lets it end."""

    def __init__(self) -> None:
        self.runs: Counter[tuple[str, str]] = Counter()
        self._begun: dict[str, asyncio.Semaphore] = {}
        self._gates: dict[str, tuple[asyncio.Event, threading.Event]] = {}
        self._loop = asyncio.get_running_loop()

    def prepare(self, chat_id: str) -> None:
        self._begun[chat_id] = asyncio.Semaphore(0)
        self._gates[chat_id] = asyncio.Event(), threading.Event()

    async def step(self, context: ToolContext) -> str:
        """Work in the event loop."""
        race = self._begin(context)
        context.progress("at it")
        await self._gates[race][0].wait()
        await ticks(4)
        return "stepped"

    def work(self, context: ToolContext) -> str:
        """Work in a thread."""
        race = self._begin(context)
        context.progress("at it")
        assert self._gates[race][1].wait(10)
        return "worked"

    def _begin(self, context: ToolContext) -> str:
        race = str(context.metadata["race"])
        self.runs[context.turn_id, context.tool_use_id] += 1
        self._loop.call_soon_threadsafe(self._begun[race].release)
        return race

    async def both_run(self, race: str) -> None:
        for _ in range(2):
            await self._begun[race].acquire()

    def let_end(self, race: str) -> None:
        for gate in self._gates[race]:
            gate.set()


def results_of(blocks: list[Block]) -> list[tuple[str, str, bool]]:
    found = [block.content or {} for block in blocks if block.block_type == "tool_result"]
    return [(content["tool_use_id"], content["content"], content["is_error"]) for content in found]


async def check(world: World, chat_id: str, turn_id: str, state: TurnState) -> int:
    """Check for one result per call, one end, and a history that continues. Return the number of answered
    calls."""
    executor = world.executor(turn_id)
    assert executor.task is not None
    await executor.task
    assert executor.unsaved is None
    again = await world.commands.interrupt(OWNER, turn_id)
    assert again == state == await world.state(turn_id)
    blocks = [row.block for row in state.blocks]
    assert [block.sequence for block in blocks] == list(range(len(blocks)))
    assert blocks == [row.block for row in await world.stored(turn_id)]
    late = await world.watched(turn_id)
    assert late.now.blocks == blocks
    assert len(late.terminal_events()) == 1
    assert late.now.fold.ending.data["status"] == state.turn.status
    called = [(block.content or {})["tool_use_id"] for block in blocks if block.block_type == "tool_use"]
    results = results_of(blocks)
    assert [result[0] for result in results] == called
    assert len(called) == 2
    names = {
        (block.content or {})["tool_use_id"]: (block.content or {})["tool_name"] for block in blocks[1:3]
    }
    said = {"step": "stepped", "work": "worked"}
    for identity, content, is_error in results:
        assert (content, is_error) in ((said[names[identity]], False), (CANCELLED, True))
    messages = build_history(
        [
            PastTurn("user", "complete", (Block(0, "text", "go"),)),
            PastTurn("assistant", state.turn.status, blocks),
            PastTurn("user", "complete", (Block(0, "text", "and?"),)),
        ]
    )
    assert check_answers(messages) == 2
    answered = [not is_error for _, _, is_error in results]
    assert answered in ([True, True], [True, False], [False, False]), "results come in the order of the calls"
    return sum(answered)


async def comes(is_there: Callable[[], bool]) -> None:
    """Let other tasks of the loop run until a condition is true."""
    while not is_there():  # noqa: ASYNC110 - every tick counts
        await asyncio.sleep(0)


async def race(world: World, bench: Bench, chat_id: str, number: int) -> Raced:
    name = f"{chat_id} {number}"
    bench.prepare(name)
    started = await world.ask("go", chat_id=chat_id, model="sim/tools:pace=0", metadata={"race": name})
    turn_id = started.assistant_turn.id
    executor = world.executor(turn_id)
    watching = asyncio.create_task(world.watched(turn_id))
    await bench.both_run(name)
    bench.let_end(name)
    if number % 20 == 7:  # however slow the machine is, some interrupts come when all is done
        await executor.ended.wait()
    elif number % 20 == 13:  # and some while a result is written
        await comes(lambda: executor.writer.busy or executor.ended.is_set())
    elif number % 20 == 17:  # and some when both tools have ended
        await comes(lambda: not executor.progress.runs_tools or executor.ended.is_set())
    else:
        await ticks(number // 2 % PHASES * (1, 8, 60)[number // 40 % 3])
    saving, running = executor.writer.busy, executor.progress.runs_tools
    if number % 2:  # at this very tick; the command below comes when the store has answered it
        executor.stop("cancelled")
    state = await world.commands.interrupt(OWNER, turn_id)
    client = await watching
    answered = await check(world, chat_id, turn_id, state)
    assert client.now.blocks == [row.block for row in state.blocks]
    assert len(client.terminal_events()) == 1
    return Raced(state.turn.status, answered, saving, running)


@pytest.mark.requirement("G2", "G5", "D1", "A4")
@pytest.mark.parametrize("first", ["step", "work"])
async def test_interrupt_against_the_end_of_tools(tmp_path: Path, first: str) -> None:
    bench = Bench()
    functions: list[Any] = [bench.step, bench.work] if first == "step" else [bench.work, bench.step]
    seen: Counter[Raced] = Counter()
    async with World(tmp_path / "turns.sqlite", tools=ToolRunner(by_name(functions))) as world:
        chat_id = await world.chat()

        async def some(start: int) -> None:
            for number in range(start, TURNS, AT_ONCE):
                seen[await race(world, bench, chat_id, number)] += 1

        async with asyncio.timeout(60):
            await asyncio.gather(*(some(start) for start in range(AT_ONCE)))
    assert seen.total() == TURNS
    assert {*bench.runs.values()} == {1}
    assert len(bench.runs) == 2 * TURNS
    answered = Counter(dict.fromkeys(range(3), 0))
    statuses: Counter[str] = Counter()
    for raced, count in seen.items():
        answered[raced.answered] += count
        statuses[raced.status] += count
        assert raced.status == "cancelled" or raced.answered == 2
    assert min(answered.values()) >= 5, (answered, statuses)
    assert set(statuses) == {"cancelled", "complete"}, statuses
    assert sum(count for raced, count in seen.items() if raced.saving) >= 5, seen
    assert any(raced.status == "cancelled" and raced.answered == 2 for raced in seen), seen
