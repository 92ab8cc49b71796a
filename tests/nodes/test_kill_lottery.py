"""kill -9 of one of two nodes, again and again: in mid-answer, and inside a tool that counts its calls."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import aiohttp
import pytest

from tests.faults.killing import InTool
from tests.faults.processes import RunningProcess
from tests.faults.tools import STEPS, read_notes
from tests.faults.watching import Api, Frame, Watcher, stored_blocks
from tests.nodes.cluster import LEASE, Cluster
from turnstream.core.blocks import Block

KILLS = int(os.environ.get("NODE_KILLS", "20"))
"""`make soak` asks for more."""
SECONDS = 60.0 + 20.0 * KILLS
IN_TOOL_EVERY = 3
BUSY_SECONDS = 1.5
"""Allowance for a machine that runs other tests, beside lease + 1 s."""
STORIES = ("sim/story:events=120,pace=0.01", "sim/story:events=60,pace=0.03", "sim/story:events=20,pace=0.01")
TOOLS = "sim/tools:pace=0.01"


@dataclass
class Witness(Watcher):
    """A watcher that remembers the blocks that it was told are complete, and not told to drop."""

    acknowledged: dict[int, Block] = field(default_factory=dict, repr=False)

    def take(self, frame: Frame) -> None:
        super().take(frame)
        match frame.name:
            case "block_stop":
                index = frame.data["block_index"]
                self.acknowledged[index] = self.stopped[index]
            case "block_reset":
                first = frame.data["block_index"]
                self.acknowledged = {n: block for n, block in self.acknowledged.items() if n < first}
            case "notice" if frame.data["code"] == "truncated":
                kept = frame.data.get("block_index") or 0
                assert not [n for n in self.acknowledged if n >= kept], (frame, self.acknowledged)
            case _:
                pass


class Figures:
    """Counts of a lottery, over all rounds."""

    def __init__(self) -> None:
        self.taken_over: list[float] = []
        self.turns = self.orphaned = self.begun_again = self.inside_tools = self.truncated = 0
        self.ends: dict[str, int] = {}

    def count(self, witness: Witness) -> None:
        self.turns += 1
        codes = {frame.data.get("code") for frame in witness.frames if frame.name == "notice"}
        self.begun_again += "recovered" in codes
        self.truncated += "truncated" in codes
        (end,) = witness.terminal_events()
        self.ends[end] = self.ends.get(end, 0) + 1


class Lottery:
    """Two nodes. Each round kills one of them, and starts another."""

    def __init__(
        self, cluster: Cluster, session: aiohttp.ClientSession, notes: Path, stack: AsyncExitStack
    ) -> None:
        self.cluster, self.session, self.notes, self.stack = cluster, session, notes, stack
        self.draw = random.Random("lottery")
        self.figures = Figures()
        self.nodes: list[RunningProcess] = []
        self.joined: dict[int, float] = {}

    async def join(self, kill: InTool | None = None) -> RunningProcess:
        node = await self.stack.enter_async_context(self.cluster.node(tool_notes=self.notes, kill=kill))
        self.nodes.append(node)
        self.joined[node.pid] = monotonic()
        return node

    def api(self, node: RunningProcess | None = None) -> Api:
        return Api((node or self.draw.choice(self.nodes)).url, self.session)

    async def round(self, number: int) -> None:
        """Kill a node while it writes turns, and check all that it had written.

        A node that is to die inside a tool joins for its round only. So it takes over no turn with tools.
        """
        at_tool = number % IN_TOOL_EVERY == 0
        if at_tool:
            victim = await self.join(InTool(1, self.draw.randint(1, STEPS)))
        else:
            victim = self.nodes[0]
        survivors = [node for node in self.nodes if node is not victim]
        calls = [await self._start(victim, model) for model in (*STORIES[:2], TOOLS)]
        calls += [await self._start(survivors[0], self.draw.choice(STORIES))]
        witnesses = [Witness(turn_id) for turn_id in calls]
        watching = [asyncio.create_task(self._watch(witness)) for witness in witnesses]
        if not at_tool:
            await asyncio.sleep(self.draw.uniform(0.02, 0.9))  # the moment is drawn
            victim.kill_now()
        assert await victim.ended() == -9
        killed = monotonic()
        self.nodes.remove(victim)
        await self._taken_over(victim.pid, min(self.joined[node.pid] for node in survivors), killed)
        if not at_tool:
            await self.join()
        await asyncio.gather(*watching)
        for witness in witnesses:
            await self._check(witness)
        began = read_notes(self.notes).began
        assert max(began.values(), default=0) <= 1, "no call of a tool ran twice"
        self.figures.inside_tools += at_tool

    async def _start(self, node: RunningProcess, model: str) -> str:
        api = self.api(node)
        return await api.start(await api.create_chat(), "hello", model)

    async def _watch(self, witness: Witness) -> None:
        """Watch a turn to its end, on any node that is there."""
        while not witness.ended:
            await witness.watch(self.api())
            if not witness.ended:
                await asyncio.sleep(0.05)  # the pause of a client before it connects again

    async def _taken_over(self, victim: int, joined: float, killed: float) -> None:
        """Wait until no turn is left that the killed node wrote. Fail if it takes too long.

        `joined`: when the oldest of the other nodes joined.
        """
        left = (
            "SELECT count(*) FROM turnstream_turns WHERE status IN ('pending', 'streaming')"
            " AND role = 'assistant' AND (taken_from IS NOT NULL OR node IN"
            " (SELECT id FROM turnstream_nodes WHERE address LIKE %s))"
        )
        of_victim = f"%(pid {victim})"
        ((orphaned,),) = await self.cluster.rows(left, of_victim)
        self.figures.orphaned += orphaned
        while (await self.cluster.rows(left, of_victim))[0][0]:
            assert monotonic() - killed < 6 * LEASE, "a turn is left without a node"
            await asyncio.sleep(0.05)  # a poll of rows
        if orphaned:
            # A node claims after a full lease of its own.
            since = max(killed, joined + LEASE / 5)
            took = monotonic() - since
            self.figures.taken_over.append(took)
            assert took < LEASE + 1.0 + BUSY_SECONDS, f"{took:.2f} s"

    async def _check(self, witness: Witness) -> None:
        self.figures.count(witness)
        rows = [await self.api(node).turn(witness.turn_id) for node in self.nodes]
        assert rows[0] == rows[1]
        stored = stored_blocks(rows[0])
        assert witness.fold.blocks == stored
        missing = [block for block in witness.acknowledged.values() if block not in stored]
        assert missing == [], "an acknowledged block is missing"
        late = await self.api().watched(witness.turn_id)
        assert late.terminal_events() == witness.terminal_events()
        assert late.fold.blocks == stored


@pytest.mark.timeout(SECONDS)
@pytest.mark.requirement("C3", "Q3", "P4")
async def test_kills_of_nodes_lose_no_acknowledged_block_and_run_no_tool_twice(
    cluster: Cluster, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.touch()
    async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
        lottery = Lottery(cluster, session, notes, stack)
        await lottery.join()
        await lottery.join()
        began = monotonic()
        for number in range(KILLS):
            await lottery.round(number)
        figures = lottery.figures
        print(
            f"{KILLS} kills in {monotonic() - began:.0f} s, {figures.inside_tools} of them inside a tool: "
            f"{figures.turns} turns, {figures.orphaned} of them left by a killed node; "
            f"taken over within {max(figures.taken_over):.2f} s (lease {LEASE:g} s); "
            f"{figures.begun_again} began again, {figures.truncated} watchers lost text that they saw; "
            f"ends: {figures.ends}; {len(read_notes(notes).began)} calls of tools, none twice"
        )
