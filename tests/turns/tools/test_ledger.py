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
from turnstream.safety.redaction import Redaction
from turnstream.store.base import TurnRecord
from turnstream.store.ledger.queries import ToolRunsOfTurn
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
