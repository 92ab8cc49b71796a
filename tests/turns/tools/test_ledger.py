"""The ledger of a turn's tool calls: the row before the call, the result before the model sees it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.turns.tools.scripted import ScriptedProvider, answer, blocks_of, calls, results, says, world_of
from tests.turns.world import SECONDS, World
from turnstream.core.blocks import Block
from turnstream.core.history import CANCELLED_BY_ERROR
from turnstream.safety.redaction import Redaction
from turnstream.store.base import Operation, TurnRecord
from turnstream.store.ledger.queries import ToolRunsOfTurn
from turnstream.store.operations.content import SaveBlock
from turnstream.store.queries import AllBlocks, GetTurn
from turnstream.tools import ToolContext
from turnstream.tools.base import ToolOutput
from turnstream.tools.ledger import OUTCOME_UNKNOWN
from turnstream.turns.tool_ledger import StoredLedger

DONE = answer(says("Done."))


def committed(folder: Path) -> list[tuple[Any, ...]]:
    """The ledger's rows in the file, as another process sees them."""
    with closing(sqlite3.connect(folder / "turns.sqlite")) as connection:
        return connection.execute(
            "SELECT turn_id || '-' || first_seq, tool_use_id, output FROM turnstream_tool_runs ORDER BY first_seq"
        ).fetchall()


def until_noted(folder: Path) -> None:
    """Return once the ledger has a result."""
    until = monotonic() + SECONDS
    while not any(row[2] == "two" for row in committed(folder)):
        assert monotonic() < until


@pytest.mark.requirement("Q4")
async def test_a_call_is_in_the_ledger_before_it_runs_and_its_result_before_the_model_sees_it(tmp_path: Path):
    seen: dict[str, list[tuple[Any, ...]]] = {}
    keys: dict[str, str] = {}
    second_is_noted = asyncio.Event()

    async def first(context: ToolContext) -> str:
        """Wait until the result of the other call is noted."""
        keys["first"] = context.key
        await second_is_noted.wait()
        seen["first"] = committed(tmp_path)
        return "one"

    async def second(context: ToolContext) -> str:
        """Look at the ledger."""
        keys["second"] = context.key
        seen["second"] = committed(tmp_path)
        return "two"

    provider = ScriptedProvider(answer(calls(1, "first"), calls(2, "second"), stop="tool_use"), DONE)
    async with world_of(tmp_path, provider, first, second) as world:
        started = await world.ask("go")
        turn_id = started.assistant_turn.id
        await asyncio.to_thread(until_noted, tmp_path)
        second_is_noted.set()
        blocks = await blocks_of(world, turn_id)
    assert (keys["second"], "call-2", None) in seen["second"]
    assert seen["first"] == [(keys["first"], "call-1", None), (keys["second"], "call-2", "two")]
    assert results(blocks) == [("call-1", "one", False), ("call-2", "two", False)]
    assert committed(tmp_path) == [], "the results are blocks now"


async def running_call(world: World, gate: asyncio.Event) -> tuple[TurnRecord, Block]:
    """A turn whose tool runs, and the block of its call."""
    turn_id = (await world.ask("go")).assistant_turn.id
    async with asyncio.timeout(SECONDS):
        await gate.wait()
    turn = await world.store.read(GetTurn(owner=None, turn_id=turn_id))
    rows = await world.store.read(AllBlocks(turn_id=turn_id))
    return turn, next(row.block for row in rows if row.block.block_type == "tool_use")


@pytest.mark.requirement("Q4")
async def test_a_call_that_has_begun_is_not_run_again_unless_it_is_idempotent(tmp_path: Path):
    """A second ledger is that of the executor which continues the turn after a crash."""
    begun, end = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        """Run until the test says so."""
        begun.set()
        await end.wait()
        return "mail to ada@example.org"

    async with world_of(
        tmp_path, ScriptedProvider(answer(calls(1, "work"), stop="tool_use"), DONE), work
    ) as world:
        turn, call = await running_call(world, begun)
        redaction = Redaction(shown=["email"]).shown
        ledger = StoredLedger(world.store, turn, redaction)
        entry = await ledger.begin(call, is_idempotent=False)
        assert entry.result == OUTCOME_UNKNOWN
        again = await ledger.begin(call, is_idempotent=True)
        assert (again.key, again.result) == (entry.key, None)
        await ledger.end(again, ToolOutput("mail to ada@example.org"))
        (run,) = await world.store.read(ToolRunsOfTurn(turn_id=turn.id))
        assert run.output == "mail to [email]", "what is stored is redacted"
        assert (await ledger.begin(call, is_idempotent=False)).result == ToolOutput("mail to [email]")
        end.set()
        await blocks_of(world, turn.id)


@pytest.mark.requirement("Q4")
async def test_a_turn_that_ends_after_a_crash_says_which_calls_may_have_run(tmp_path: Path):
    """Two calls ran, one had its result noted, and one waited for a free slot."""
    stuck = asyncio.Semaphore(0)
    never = asyncio.Event()

    async def work() -> str:
        """Never end."""
        stuck.release()
        await never.wait()
        return "never"

    async def quick() -> str:
        """End at once."""
        return "quick"

    asked = answer(calls(0, "work"), calls(1, "quick"), calls(2, "work"), calls(3, "quick"), stop="tool_use")
    provider = ScriptedProvider(asked, answer(says("On.")))
    async with world_of(tmp_path, provider, work, quick, parallel=2) as world:
        turn = (await world.ask("go")).assistant_turn
        async with asyncio.timeout(SECONDS):
            await stuck.acquire()
            await stuck.acquire()  # the result of the quick call is noted: its slot is free
        await world.crash()
    async with world_of(tmp_path, provider, work, quick) as world:
        state = await world.state(turn.id)
        assert results([row.block for row in state.blocks]) == [
            ("call-0", OUTCOME_UNKNOWN.text, True),
            ("call-1", "quick", False),
            ("call-2", OUTCOME_UNKNOWN.text, True),
            ("call-3", CANCELLED_BY_ERROR, True),
        ]
        following = await world.ask("go on", chat_id=turn.chat_id, prev_turn_id=turn.id)
        await world.ended(following.assistant_turn.id)
        told = [(block.content or {}).get("content") for block in provider.asked[-1].messages[-1].blocks[:4]]
        assert told == [OUTCOME_UNKNOWN.text, "quick", OUTCOME_UNKNOWN.text, CANCELLED_BY_ERROR]


@pytest.mark.requirement("Q4")
async def test_the_result_of_a_call_leaves_that_of_another_with_its_id_in_the_ledger(tmp_path: Path):
    """Some models give two calls one id. The process dies before the second result is a block."""
    provider = ScriptedProvider(
        answer(calls(0, "work", identity="same"), calls(1, "work", identity="same"), stop="tool_use"), DONE
    )
    runs: list[str] = []
    is_dead = asyncio.Event()

    async def work(context: ToolContext) -> str:
        """Count a run."""
        runs.append(context.key)
        return "done"

    async def die(operation: Operation[Any]) -> None:
        """Let no second result become a block."""
        if isinstance(operation, SaveBlock) and operation.row.block.sequence == 3:
            is_dead.set()
            await asyncio.Event().wait()

    async with world_of(tmp_path, provider, work) as world:
        world.store.before = die
        turn = (await world.ask("go")).assistant_turn
        async with asyncio.timeout(SECONDS):
            await is_dead.wait()
        (left,) = await world.store.read(ToolRunsOfTurn(turn_id=turn.id))
        assert (left.key, left.output) == (runs[1], "done")
        rows = await world.store.read(AllBlocks(turn_id=turn.id))
        ledger = StoredLedger(world.store, turn, None)
        again = await ledger.begin(rows[1].block, is_idempotent=True)
        assert again.result == ToolOutput("done"), "the next executor does not run it again"
        await world.crash()
    assert len(set(runs)) == len(runs) == 2
