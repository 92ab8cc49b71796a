"""An interrupt races against every other end of a turn, five hundred times each. There is one terminal event,
the partial is kept, and the status never changes afterwards. Each test proves that it saw both outcomes, and
the moments between them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

import pytest

from tests.turnlog.watching import Client
from tests.turns.world import OWNER, SECONDS, World, ticks
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    StreamEvent,
    TextDelta,
)
from turnstream.errors import Overloaded
from turnstream.store.queries import GetTurn
from turnstream.turns.executor import Executor

TURNS = 500
AT_ONCE = 50
PHASES = 40
"""The interrupt comes after 0 to 39 ticks of the loop, at the steps of the executor's task. In every other
race, it comes after five times as many, while the rows are written."""

TEXT = "".join(f"{number} " for number in range(12))


class Raced(NamedTuple):
    """Result of one race: the turn's status, and the executor's step at its stop."""

    status: str
    saving: bool
    ending: bool


Source = Callable[[], AsyncIterator[Sequence[StreamEvent]]]


async def completing() -> AsyncIterator[Sequence[StreamEvent]]:
    yield [ContentBlockStart(0, "text")]
    for word in TEXT.split(" ")[:-1]:
        await asyncio.sleep(0)
        yield [TextDelta(0, f"{word} ")]
    yield [ContentBlockStop(0), MessageStop("end_turn")]


async def failing() -> AsyncIterator[Sequence[StreamEvent]]:
    yield [ContentBlockStart(0, "text")]
    for word in TEXT.split(" ")[:-1]:
        await asyncio.sleep(0)
        yield [TextDelta(0, f"{word} ")]
    raise Overloaded("no")


async def closing_blocks() -> AsyncIterator[Sequence[StreamEvent]]:
    for number in range(4):
        yield [ContentBlockStart(number, "text"), TextDelta(number, TEXT), ContentBlockStop(number)]
        await asyncio.sleep(0)


async def race(world: World, chat_id: str, source: Source, number: int) -> Raced:
    executor = await world.start_foreign(source(), chat_id=chat_id)
    turn_id = executor.turn.id
    watching = asyncio.create_task(world.watched(turn_id))
    await ticks(number // 2 % PHASES * (1 + 4 * (number // 80 % 2)))
    raced = executor.writer.busy, executor.outcome is not None
    if number % 2:  # at this very tick; the commands below come when the store has answered them
        executor.stop("cancelled")
    answers = await asyncio.gather(*(world.commands.interrupt(OWNER, turn_id) for _ in range(2)))
    client = await watching
    await check(world, executor, [answer.turn.status for answer in answers], client)
    return Raced(answers[0].turn.status, *raced)


async def check(world: World, executor: Executor, answered: list[str], client: Client) -> None:
    turn_id = executor.turn.id
    assert executor.task is not None
    await executor.task
    state = await world.commands.interrupt(OWNER, turn_id)
    assert {state.turn.status, *answered} == {state.turn.status}
    late = await world.watched(turn_id)
    for watched in (client, late):
        assert len(watched.terminal_events()) == 1
        assert watched.now.fold.ending.data["status"] == state.turn.status
        assert watched.now.blocks == [row.block for row in state.blocks]
    sequences = [row.block.sequence for row in state.blocks]
    assert sequences == list(range(len(sequences)))
    for row in state.blocks:
        text = row.block.text_content or ""
        assert TEXT.startswith(text)
        assert row.block.partial == (text != TEXT) or state.turn.status != "complete"
    assert executor.unsaved is None


async def race_all(world: World, source: Source) -> Counter[Raced]:
    seen: Counter[Raced] = Counter()
    chat_id = await world.chat()

    async def some(first: int) -> None:
        for number in range(first, TURNS, AT_ONCE):
            seen[await race(world, chat_id, source, number)] += 1

    async with asyncio.timeout(60):
        await asyncio.gather(*(some(first) for first in range(AT_ONCE)))
    assert seen.total() == TURNS
    return seen


def statuses(seen: Counter[Raced]) -> Counter[str]:
    found: Counter[str] = Counter()
    for raced, count in seen.items():
        found[raced.status] += count
    return found


@pytest.mark.requirement("D1", "A4", "D7")
async def test_interrupt_against_completion(world: World) -> None:
    seen = await race_all(world, completing)
    found = statuses(seen)
    assert set(found) == {"cancelled", "complete"}
    assert min(found.values()) >= 10, found
    assert any(raced.ending for raced in seen), seen


@pytest.mark.requirement("D1", "A4", "D4")
async def test_interrupt_against_a_provider_s_error(world: World) -> None:
    found = statuses(await race_all(world, failing))
    assert set(found) == {"cancelled", "error"}
    assert min(found.values()) >= 10, found


@pytest.mark.requirement("D1", "A4", "B1", "J4")
async def test_interrupt_during_a_block_s_write(world: World) -> None:
    seen = await race_all(world, closing_blocks)
    assert set(statuses(seen)) <= {"cancelled", "complete"}
    during = sum(count for raced, count in seen.items() if raced.saving)
    assert during >= 100, seen
    assert statuses(seen)["cancelled"] >= 10, seen


@pytest.mark.requirement("D1")
async def test_two_interrupts_and_the_end_at_every_store_boundary(world: World) -> None:
    """At each write of the turn, before and after its commit, an interrupt arrives."""

    async def at(boundary: int, *, after: bool) -> str:
        seen = 0
        interrupts: list[asyncio.Task[object]] = []

        async def interfere(operation: object) -> None:
            nonlocal seen
            turn_id = getattr(operation, "turn_id", "")
            if type(operation).__name__ == "StartTurns" or turn_id not in world.registry._active:
                return
            seen += 1
            if seen == boundary:
                interrupts.append(asyncio.create_task(world.commands.interrupt(OWNER, turn_id)))
                await world.store.read(GetTurn(owner=OWNER, turn_id=turn_id))

        setattr(world.store, "after" if after else "before", interfere)
        executor = await world.start_foreign(completing(), chat_id=chat_id)
        client = await world.watched(executor.turn.id)
        setattr(world.store, "after" if after else "before", None)
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*interrupts)
        assert interrupts
        await check(world, executor, [], client)
        return executor.turn.status

    chat_id = await world.chat()
    outcomes = [await at(boundary, after=after) for boundary in (1, 2, 3) for after in (False, True)]
    assert set(outcomes) == {"cancelled", "complete"}
