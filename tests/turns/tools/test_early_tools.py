"""Tools that run, or are prepared, while the model still answers."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.turns.tools.scripted import (
    ScriptedProvider,
    answer,
    blocks_of,
    calls,
    results,
    says,
    started,
    world_of,
)
from tests.turns.world import SECONDS, logged
from turnstream.core.stream_events import (
    StopReason,
    StreamEvent,
    ToolInputDelta,
)
from turnstream.tools import ToolContext, tool


@pytest.mark.requirement("G2")
async def test_an_idempotent_tool_runs_while_the_model_still_answers_and_no_other_does(
    tmp_path: Path,
) -> None:
    looked = asyncio.Event()
    written: list[int] = []

    @tool(idempotent=True)
    async def look() -> str:
        """Only look."""
        looked.set()
        return "seen"

    async def write() -> str:
        """Change the world."""
        written.append(1)
        return "written"

    provider = ScriptedProvider(
        answer(calls(0, "look"), calls(1, "write"), stop="tool_use"), answer(says("Fine."))
    )
    provider.hold = asyncio.Event()
    async with world_of(tmp_path, provider, look, write) as world:
        executor = await started(world)
        async with asyncio.timeout(SECONDS):
            await looked.wait()
        await logged(executor, lambda _log: executor.blocks_completed == 2)
        assert not written
        provider.hold.set()
        blocks = await blocks_of(world, executor.turn.id)
        assert results(blocks) == [("call-0", "seen", False), ("call-1", "written", False)]


@pytest.mark.requirement("G2")
async def test_a_tool_is_prepared_when_its_call_begins(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def connect(context: ToolContext) -> str:
        begun.set()
        return f"connected for {context.owner}, {context.tool_use_id}"

    @tool(prepare=connect)
    async def fetch(what: str, context: ToolContext) -> str:
        """Fetch it."""
        return f"{what} {context.prepared}"

    async def arguments() -> StreamEvent:
        await begun.wait()  # the model writes them only now: the tool was prepared before they were there
        return ToolInputDelta(0, '{"what": "rows"}')

    provider = ScriptedProvider(answer(calls(0, "fetch", arguments), stop="tool_use"), answer(says("Fine.")))
    async with world_of(tmp_path, provider, fetch) as world:
        blocks = await blocks_of(world, (await world.ask("go")).assistant_turn.id)
    assert results(blocks) == [("call-0", "rows connected for local, call-0", False)]


@pytest.mark.requirement("G2", "G3")
@pytest.mark.parametrize("kind", ["raises", "hangs", "takes nothing", "exits", "blocks"])
async def test_a_tool_whose_preparing_fails_runs_without(tmp_path: Path, kind: str) -> None:
    release = threading.Event()

    async def fails(_context: ToolContext) -> None:
        if kind == "hangs":
            await asyncio.Event().wait()
        if kind == "exits":
            raise SystemExit(1)
        raise LookupError("no connection")

    prepare: Any = {"takes nothing": lambda: 1, "blocks": lambda _context: release.wait(SECONDS)}.get(
        kind, fails
    )

    @tool(prepare=prepare, timeout=0.05)
    async def fetch(context: ToolContext) -> str:
        """Fetch it."""
        return f"without: {context.prepared}"

    provider = ScriptedProvider(answer(calls(0, "fetch"), stop="tool_use"), answer(says("Fine.")))
    try:
        async with world_of(tmp_path, provider, fetch) as world:
            turn_id = (await world.ask("go")).assistant_turn.id
            assert results(await blocks_of(world, turn_id)) == [("call-0", "without: None", False)]
            assert (await world.state(turn_id)).turn.status == "complete"
    finally:
        release.set()


@pytest.mark.requirement("G2", "D6")
@pytest.mark.parametrize("kind", ["cut arguments", "refused", "interrupted"])
async def test_preparing_for_a_call_that_never_comes_is_cancelled(tmp_path: Path, kind: str) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()
    ran: list[str] = []

    async def connect(_context: ToolContext) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @tool(prepare=connect)
    async def fetch(what: str) -> None:
        """Fetch it."""
        ran.append(what)

    async def arguments() -> StreamEvent:
        await begun.wait()
        if kind == "interrupted":
            await asyncio.Event().wait()
        return ToolInputDelta(0, '{"what": "ro' if kind == "cut arguments" else '{"what": "rows"}')

    stop: StopReason = "refusal" if kind == "refused" else "tool_use"
    provider = ScriptedProvider(answer(calls(0, "fetch", arguments), stop=stop), answer(says("Fine.")))
    async with world_of(tmp_path, provider, fetch) as world:
        executor = await started(world)
        async with asyncio.timeout(SECONDS):
            await begun.wait()
            if kind == "interrupted":
                executor.stop("cancelled")
            await cancelled.wait()
        await world.ended(executor.turn.id)
    assert not ran
