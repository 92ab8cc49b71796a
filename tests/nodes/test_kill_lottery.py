"""`kill -9` of one of two nodes, many times: in mid-answer, and inside a tool that counts its calls."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import aiohttp
import pytest

from tests.faults.killing import InTool
from tests.faults.processes import RunningProcess
from tests.faults.tools import STEPS, read_notes
from tests.faults.watching import Api, stored_blocks
from tests.nodes.cluster import LEASE, Cluster
from tests.nodes.witnesses import PROTOCOLS, NativeWitness, ResponseWitness, UiWitness, Witness
from turnstream.dialects.ai_sdk.chunk_writer import Major

KILLS = int(os.environ.get("NODE_KILLS", "20"))
"""Nodes to kill. `make soak` kills more."""
SECONDS = 60.0 + 20.0 * KILLS
IN_TOOL_EVERY = 3
BUSY_SECONDS = 1.5
"""Seconds in addition to the lease and one second, for a machine that runs other tests."""
STORIES = ("sim/story:events=120,pace=0.01", "sim/story:events=60,pace=0.03", "sim/story:events=20,pace=0.01")
TOOLS = "sim/tools:pace=0.01"
MAJORS: tuple[Major, ...] = (5, 6, 7)


@dataclass(frozen=True)
class Watched:
    """A turn, and its watchers: a native one, and one in each other protocol."""

    native: NativeWitness
    others: tuple[Witness, ...]

    @property
    def turn_id(self) -> str:
        """Id of the turn."""
        return self.native.turn_id


class Figures:
    """Counts of a lottery, over all rounds."""

    def __init__(self) -> None:
        self.taken_over: list[float] = []
        self.turns = self.orphaned = self.begun_again = self.inside_tools = self.truncated = 0
        self.ends: dict[str, int] = {}
        self.other_ends: dict[str, int] = {}
        self.resumed = 0

    def count(self, watched: Watched) -> None:
        self.turns += 1
        frames = watched.native.frames
        codes = {frame.data.get("code") for frame in frames if frame.name == "notice"}
        self.begun_again += "recovered" in codes
        self.truncated += "truncated" in codes
        (end,) = watched.native.terminal_events()
        self.ends[end] = self.ends.get(end, 0) + 1
        for witness in watched.others:
            end = f"{witness.name} {witness.error or 'whole'}"
            self.other_ends[end] = self.other_ends.get(end, 0) + 1
            self.resumed += witness.connections > 1


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
        node = await self.stack.enter_async_context(
            self.cluster.node(tool_notes=self.notes, kill=kill, protocols=PROTOCOLS)
        )
        self.nodes.append(node)
        self.joined[node.pid] = monotonic()
        return node

    def api(self, node: RunningProcess | None = None) -> Api:
        return Api((node or self.draw.choice(self.nodes)).url, self.session)

    async def round(self, number: int) -> None:
        """Kill a node while it writes turns, and check everything that it had written.

        A node that must die inside a tool joins for one round only. So it takes over no turn with tools.
        """
        at_tool = number % IN_TOOL_EVERY == 0
        if at_tool:
            victim = await self.join(InTool(1, self.draw.randint(1, STEPS)))
        else:
            victim = self.nodes[0]
        survivors = [node for node in self.nodes if node is not victim]
        turns = [await self._start(victim, model) for model in (*STORIES[:2], TOOLS)]
        turns += [await self._start(survivors[0], self.draw.choice(STORIES))]
        watching = [
            asyncio.create_task(self._watch(witness))
            for watched in turns
            for witness in (watched.native, *watched.others)
        ]
        if not at_tool:
            await asyncio.sleep(self.draw.uniform(0.02, 0.9))  # a random moment
            victim.kill_now()
        assert await victim.ended() == -9
        killed = monotonic()
        self.nodes.remove(victim)
        await self._taken_over(victim.pid, min(self.joined[node.pid] for node in survivors), killed)
        if not at_tool:
            await self.join()
        await asyncio.gather(*watching)
        for watched in turns:
            await self._check(watched)
        began = read_notes(self.notes).began
        assert max(began.values(), default=0) <= 1, "no call of a tool ran twice"
        self.figures.inside_tools += at_tool

    async def _start(self, node: RunningProcess, model: str) -> Watched:
        api = self.api(node)
        chat = await api.create_chat()
        status, started = await api.post_turn(chat, "hello", model)
        while status == 503:  # with late heartbeats, the node refuses, and clients try again
            await asyncio.sleep(0.1)
            status, started = await api.post_turn(chat, "hello", model)
        assert status == 201, started
        turn = started["assistant_turn"]["id"]
        others = UiWitness(turn, chat, self.draw.choice(MAJORS)), ResponseWitness(turn, chat)
        return Watched(NativeWitness(turn), others)

    async def _watch(self, witness: NativeWitness | Witness) -> None:
        """Watch a turn to its end, on any running node."""
        while not witness.ended:
            await witness.watch(self.api())
            if not witness.ended:
                await asyncio.sleep(0.05)  # the pause of a client before it connects again

    async def _taken_over(self, victim: int, joined: float, killed: float) -> None:
        """Wait until no turn is left that the killed node wrote. Fail if it takes too long.

        `joined`: the time at which the oldest of the other nodes joined.
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

    async def _check(self, watched: Watched) -> None:
        self.figures.count(watched)
        native = watched.native
        rows = [await self.api(node).turn(watched.turn_id) for node in self.nodes]
        assert rows[0] == rows[1]
        stored = stored_blocks(rows[0])
        assert native.fold.blocks == stored
        missing = [block for block in native.acknowledged.values() if block not in stored]
        assert missing == [], "an acknowledged block is missing"
        assert native.truncated == {}, "these models' steps have one block before their tools"
        late = NativeWitness(watched.turn_id)
        await self._watch(late)
        assert late.terminal_events() == native.terminal_events()
        assert late.fold.blocks == stored
        for witness in watched.others:
            await witness.check(self.api(), rows[0], stored)


@pytest.mark.timeout(SECONDS)
@pytest.mark.requirement("C3", "Q3", "P3", "P4")
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
            f"ends: {figures.ends}; in other protocols: {figures.other_ends}, {figures.resumed} over more than "
            f"one connection; {len(read_notes(notes).began)} calls of tools, none twice"
        )
