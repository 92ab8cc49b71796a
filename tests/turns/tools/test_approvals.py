"""Tools that ask first: the turn waits in the store, and continues once its calls are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.turns.tools.scripted import ScriptedProvider, answer, calls, results, says, use
from tests.turns.world import OWNER, SECONDS, World
from turnstream.store.base import ApprovalRecord
from turnstream.tools import ToolLimits, ToolRunner, tool
from turnstream.tools.asking import ApprovalAnswer
from turnstream.tools.base import by_name
from turnstream.turns.commands import TurnState

YES = ApprovalAnswer(approved=True)
NO = ApprovalAnswer(approved=False, reason="not today")


class Deleting:
    """Two tools that ask, and one that does not; `ran` has what they did."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    @property
    def functions(self) -> list[Any]:
        ran = self.ran

        @tool(ask="always")
        def delete(path: str) -> str:
            """Delete a file."""
            ran.append(f"delete {path}")
            return f"{path} is gone"

        @tool(ask="first")
        def send(to: str) -> str:
            """Send a mail."""
            ran.append(f"send {to}")
            return f"sent to {to}"

        def look(path: str) -> str:
            """Look at a file."""
            ran.append(f"look {path}")
            return f"{path} is there"

        return [delete, send, look]


TWO_CALLS = answer(
    says("On it."),
    calls(1, "delete", '{"path": "a"}'),
    calls(2, "look", '{"path": "b"}'),
    calls(3, "delete", '{"path": "c"}'),
    stop="tool_use",
)
DONE = answer(says("Done."))


@asynccontextmanager
async def deleting(
    path: Path, *answers: Any, files: Deleting | None = None, **limits: Any
) -> AsyncIterator[World]:
    runner = ToolRunner(by_name((files or Deleting()).functions), ToolLimits(**limits))
    async with World(path / "turns.sqlite", tools=runner) as world:
        use(world.catalog, ScriptedProvider(*(answers or (TWO_CALLS, DONE))))
        yield world


async def waiting(world: World, turn_id: str) -> TurnState:
    """The turn once it waits."""
    state = await world.ended(turn_id)
    assert state.turn.status == "waiting"
    assert state.approvals
    return state


async def decide(
    world: World, approval: ApprovalRecord, given: ApprovalAnswer, owner: str = OWNER
) -> ApprovalRecord:
    async with asyncio.timeout(SECONDS):
        return await world.commands.approvals.answer(owner, approval.turn_id, approval.id, given)


async def test_approved_calls_run_and_denied_calls_are_errors(tmp_path: Path) -> None:
    files = Deleting()
    async with deleting(tmp_path, files=files) as world:
        turn_id = (await world.ask("go")).assistant_turn.id
        state = await waiting(world, turn_id)
        assert files.ran == ["look b"]
        assert [approval.tool_use_id for approval in state.approvals] == ["call-1", "call-3"]
        first, second = state.approvals
        await decide(world, second, NO)
        assert (await world.state(turn_id)).turn.status == "waiting"
        await decide(world, first, YES)
        state = await world.ended(turn_id)
        assert (state.turn.status, state.turn.stop_reason) == ("complete", "end_turn")
        blocks = [row.block for row in state.blocks]
        assert [block.sequence for block in blocks] == list(range(len(blocks)))
        assert results(blocks) == [
            ("call-2", "b is there", False),
            ("call-1", "a is gone", False),
            ("call-3", "not approved, and nothing was run: not today", True),
        ]
        assert files.ran == ["look b", "delete a"]
        assert blocks[-1].text_content == "Done."
        assert [attempt.step for attempt in state.attempts] == [0, 1]
