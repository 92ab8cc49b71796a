"""Turns whose tools ask first, and watchers of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from tests.turnlog.watching import Client, Knowledge
from tests.turns.tools.scripted import ScriptedProvider, answer, calls, says, use
from tests.turns.world import OWNER, SECONDS, World
from turnstream.store.base import ApprovalRecord
from turnstream.tools import ToolLimits, ToolRunner, tool
from turnstream.tools.asking import ApprovalAnswer
from turnstream.tools.base import by_name
from turnstream.turnlog.subscription import Subscription
from turnstream.turns.new_turns import TurnState

YES = ApprovalAnswer(approved=True)
NO = ApprovalAnswer(approved=False, reason="not today")


class Deleting:
    """Two tools that ask, and one that does not. `ran` has their runs."""

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
    """The turn, once it waits."""
    state = await world.ended(turn_id)
    assert state.turn.status == "waiting"
    assert state.approvals
    return state


async def decide(
    world: World, approval: ApprovalRecord, given: ApprovalAnswer, owner: str = OWNER
) -> ApprovalRecord:
    async with asyncio.timeout(SECONDS):
        return await world.commands.approvals.answer(owner, approval.turn_id, approval.id, given)


def names_of(client: Client) -> list[str]:
    return [frame.name for frame in client.frames]


def ending_of(client: Client) -> str | None:
    ending = client.now.fold.ending
    return ending.name if ending is not None else None


async def asked_for_both(subscription: Subscription, knowledge: Knowledge | None = None) -> Client:
    """A watcher that has received both requests."""
    client = Client()
    client.now = (knowledge or Knowledge()).copy()
    async with asyncio.timeout(SECONDS):
        while len(client.now.fold.approvals) < 2:
            client.receive(await subscription.next() or b"")
    return client


def expire_approvals(database: Path) -> None:
    """Expire all unanswered approvals now."""
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        connection.execute("UPDATE turnstream_approvals SET expires_at = 1 WHERE approved IS NULL")
