"""Random faults of nodes, of their connections and of the database, while clients act on any node.

`make soak` runs it. A seed decides the faults, their times and places, and the acts of clients. The events of
turns that they meet depend on the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest

from tests.faults.tools import read_notes
from tests.faults.watching import GONE, Api, stored_blocks
from tests.nodes.cluster import LEASE, Cluster
from tests.nodes.proxy import TcpProxy
from tests.nodes.schedules.slots import Faults, Slot
from tests.nodes.witnesses import NativeWitness, ResponseWitness, UiWitness, Witness
from tests.postgresql import PostgresServer
from turnstream.core.identifiers import new_id
from turnstream.dialects.ai_sdk.chunk_writer import Major
from turnstream.store.migrations import upgrade_database
from turnstream.turns.ending import LOST_EXECUTOR
from turnstream.turns.takeover.restarting import MOST_RECOVERIES

FIRST, ROUNDS = int(os.environ.get("FAULT_SEED", "0")), int(os.environ.get("FAULT_ROUNDS", "3"))
"""First seed, and number of seeds."""
NODES = 3
TURNS = 6
ROUND_SECONDS = 90.0
SECONDS = 60.0 + ROUND_SECONDS * ROUNDS
BUSY_SECONDS = 2.5
"""Seconds in addition to the lease and one second, for a machine that runs other tests."""
PAUSE = 0.05
MODELS = (
    "sim/story:events=150,pace=0.01",
    "sim/story:events=60,pace=0.04",
    "sim/story:events=600,pace=0.01",
    "sim/story:events=200,pace=0.03",
    "sim/tools:pace=0.01",
    "sim/agent:pace=0.02",
    "sim/thinking:pace=0.01",
)
_LEFT = (
    "SELECT id, status, node, taken_from, generation FROM turnstream_turns"
    " WHERE status IN ('pending', 'streaming') AND role = 'assistant' AND (taken_from IS NOT NULL OR node IN"
    " (SELECT id FROM turnstream_nodes WHERE address LIKE ANY (%s)))"
)
"""Turns that ended nodes wrote."""
_RESETS = "SELECT resets FROM turnstream_turns WHERE id = %s"
REFUSALS = ("database_error", "unavailable", "draining")
"""Codes of a node that cannot answer now."""
MAJORS: tuple[Major, ...] = (5, 6, 7)
LOST = (*GONE, TimeoutError)


@dataclass
class WatchedTurn:
    """A turn, its watchers, and what clients did with it.

    Attributes:
        is_deleted: Its chat was deleted.
        stopped: Status that an interrupt answered with.
    """

    turn_id: str
    chat_id: str
    model: str
    natives: list[NativeWitness]
    others: tuple[Witness, ...]
    is_deleted: bool = False
    stopped: str | None = None


@dataclass
class Figures:
    """Counts over all rounds."""

    turns: Counter[str] = field(default_factory=Counter[str])
    notices: Counter[str] = field(default_factory=Counter[str])
    other_ends: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[str] = field(default_factory=Counter[str])
    taken_over: list[float] = field(default_factory=list[float])


class Round:
    """Turns of one seed, with faults and clients."""

    def __init__(self, seed: int, faults: Faults, direct: Cluster, session: aiohttp.ClientSession) -> None:
        self.faults = faults
        self._draw = random.Random(f"clients {seed}")
        self._direct, self._session = direct, session

    def api(self) -> Api:
        """Return a client of a random node, which may be away."""
        return Api(self._draw.choice(self.faults.slots).node.url, self._session)

    async def run(self, figures: Figures) -> None:
        """Let clients and faults act, then check all turns."""
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(self._client()) for _ in range(TURNS)]
            await self.faults.run()
            healed = max(monotonic(), *(slot.joined + LEASE for slot in self.faults.slots))
            await self._no_turn_is_left(healed, figures)
        figures.faults.update(fault.partition(" ")[0] for fault in self.faults.happened)
        for client in clients:
            await self._check(client.result(), figures)

    async def _client(self) -> WatchedTurn:
        """Start a turn at a random moment, and watch it to its end. Stop or delete some of them."""
        await asyncio.sleep(self._draw.uniform(0.0, 2.0))
        turn = await self._start(self._draw.choice(MODELS))
        async with asyncio.TaskGroup() as group:
            for witness in (*turn.natives, *turn.others):
                group.create_task(self._watch(turn, witness))
            if self._draw.random() < 0.15:
                group.create_task(self._later(partial(self._interrupt, turn)))
            elif self._draw.random() < 0.3 and not turn.others:
                group.create_task(self._later(partial(self._delete, turn)))
        return turn

    async def _later(self, act: Any) -> None:
        await asyncio.sleep(self._draw.uniform(0.0, 2.5))  # a random moment
        await act()

    async def _call(
        self, method: str, path: str, body: Any = None, key: str | None = None
    ) -> tuple[int, Any]:
        """Send a request to random nodes until one of them can answer."""
        headers = {"Idempotency-Key": key} if key else None
        while True:
            try:
                status, answer = await self.api().call(method, path, body, headers)
            except LOST:
                status, answer = 503, None
            if status not in {500, 503}:
                return status, answer
            assert answer is None or answer["error"]["code"] in REFUSALS, answer
            await asyncio.sleep(PAUSE)

    async def _start(self, model: str) -> WatchedTurn:
        status, chat = await self._call("POST", "/api/chats", {}, key=new_id())
        assert status == 201
        assert chat
        body = {"model": model, "turn_blocks": [{"block_type": "text", "text_content": "hello"}]}
        path, key = f"/api/chats/{chat['id']}/turns", new_id()
        answers = await asyncio.gather(
            *(self._call("POST", path, body, key) for _ in range(self._draw.randint(1, 3)))
        )
        assert {status for status, _ in answers} == {201}, answers
        started = {answer["assistant_turn"]["id"] for _, answer in answers}
        assert len(started) == 1, "one key starts one turn"
        turn = started.pop()
        others: tuple[Witness, ...] = ()
        if self._draw.random() < 0.8:
            major = self._draw.choice(MAJORS)
            others = UiWitness(turn, chat["id"], major), ResponseWitness(turn, chat["id"])
        return WatchedTurn(turn, chat["id"], model, [NativeWitness(turn), NativeWitness(turn)], others)

    async def _interrupt(self, turn: WatchedTurn) -> None:
        if turn.is_deleted:
            return
        status, answer = await self._call("POST", f"/api/turns/{turn.turn_id}/interrupt")
        assert status == 200 or turn.is_deleted, answer
        turn.stopped = answer.get("status")

    async def _delete(self, turn: WatchedTurn) -> None:
        turn.is_deleted = True
        status, answer = await self._call("DELETE", f"/api/chats/{turn.chat_id}")
        assert status in {204, 404}, answer  # a repetition finds nothing

    async def _watch(self, turn: WatchedTurn, witness: NativeWitness | Witness) -> None:
        """Watch a turn to its end, on random nodes."""
        while not witness.ended:
            if turn.is_deleted and isinstance(witness, NativeWitness) and witness.status == 404:
                return
            try:
                await witness.watch(self.api())
            except TimeoutError:
                pytest.fail(f"a watcher of {turn} waited too long")
            if not witness.ended:
                await asyncio.sleep(PAUSE)  # the pause of a client before it connects again

    async def _no_turn_is_left(self, healed: float, figures: Figures) -> None:
        """Wait until no turn is left that an ended node wrote. Fail if it takes too long."""
        ended = [f"%(pid {pid})" for slot in self.faults.slots for pid in slot.ended]
        began = monotonic()
        while rows := await self._direct.rows(_LEFT, ended):
            assert monotonic() - healed < LEASE + 1.0 + BUSY_SECONDS, f"left without a node: {rows}"
            await asyncio.sleep(PAUSE)  # a poll of rows
        figures.taken_over.append(max(0.0, monotonic() - max(began, healed)))

    async def _check(self, turn: WatchedTurn, figures: Figures) -> None:
        if turn.is_deleted:
            status, _ = await self._call("GET", f"/api/turns/{turn.turn_id}")
            assert status == 404
            figures.turns["deleted"] += 1
            return
        rows = [await self._call("GET", f"/api/turns/{turn.turn_id}") for _ in range(3)]
        assert all(row == rows[0] for row in rows), rows
        status, row = rows[0]
        assert status == 200, row
        stored = stored_blocks(row)
        code = (row["error"] or {}).get("code")
        figures.turns[f"{row['status']} {code or ''}".strip()] += 1
        if code is not None:
            assert code == LOST_EXECUTOR.error_code, row
            codes = [f.data["code"] for f in turn.natives[0].frames if f.name == "notice"]
            assert codes.count("recovered") >= MOST_RECOVERIES, "it was not lost too often to continue"
        if turn.stopped == "cancelled":
            assert row["status"] == "cancelled"
        late = NativeWitness(turn.turn_id)
        await self._watch(turn, late)
        for native in (*turn.natives, late):
            assert native.terminal_events() == [f"turn_{row['status']}"], (row, native.terminal_events())
            assert native.fold.blocks == stored
            missing = [block for block in native.acknowledged.values() if block not in stored]
            assert missing == [], "an acknowledged block is missing"
            if native.truncated:
                ((resets,),) = await self._direct.rows(_RESETS, turn.turn_id)
                first = min((index for _, index in json.loads(resets)), default=None)
                assert first is not None, (resets, native.truncated)
                assert first <= min(native.truncated), (resets, native.truncated)
            figures.notices["begun again"] += _check_ids(native)
            figures.notices.update(f.data["code"] for f in native.frames if f.name == "notice")
        for witness in turn.others:
            figures.other_ends[f"{witness.name} {witness.error or 'whole'}"] += 1
            await witness.check(self.api(), row, stored)


def _check_ids(native: NativeWitness) -> int:
    """Fail unless ids only grow, and no delta comes twice. Return the number of snapshots after the first.

    A node that is cut off from its database gives such a full snapshot, which begins with the turn's start.
    """
    snapshots = -1
    last, deltas = (0, 0), set[tuple[int, int]]()
    for number, frame in enumerate(native.frames):
        generation, seq = map(int, frame.id.split("-"))
        if frame.name == "turn_start":
            snapshots += 1
            last, deltas = (0, 0), set()
        around = native.frames[max(0, number - 5) : number + 5]
        assert last <= (generation, seq), f"ids only grow: {around}"
        last = generation, seq
        if frame.name == "block_delta":
            assert last not in deltas, f"no event comes twice: {around}"
            deltas.add(last)
    return snapshots


@pytest.fixture
def direct(own_postgres: PostgresServer, tmp_path: Path) -> Cluster:
    """The database without a proxy."""
    url = own_postgres.database()
    upgrade_database(url)
    return Cluster(url, tmp_path)


@pytest.fixture
async def slots(own_postgres: PostgresServer, direct: Cluster) -> AsyncIterator[list[Slot]]:
    notes = direct.folder / "notes"
    notes.touch()
    async with AsyncExitStack() as stack:
        slots: list[Slot] = []
        for number in range(NODES):
            proxy = stack.enter_context(TcpProxy(own_postgres.socket))
            folder = direct.folder / f"slot{number}"
            folder.mkdir()
            url = own_postgres.address_at(direct.url, proxy.port)
            slots.append(Slot(Cluster(url, folder), proxy, notes, direct.url))
            stack.push_async_callback(slots[-1].leave)
        await asyncio.gather(*(slot.join(drain=0.0) for slot in slots))
        yield slots


@pytest.mark.timeout(SECONDS)
@pytest.mark.requirement("C3", "Q3", "P3")
async def test_random_faults_lose_and_double_nothing(
    slots: list[Slot], own_postgres: PostgresServer, direct: Cluster, session: aiohttp.ClientSession
) -> None:
    figures = Figures()
    began = monotonic()
    for seed in range(FIRST, FIRST + ROUNDS):
        this = Round(seed, Faults(slots, own_postgres, f"plan {seed}"), direct, session)
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                await this.run(figures)
        except BaseException:
            print(f"seed {seed}: {this.faults.happened}")
            raise
        print(f"seed {seed} after {monotonic() - began:.1f} s: {this.faults.happened}")
        began_calls = read_notes(slots[0].notes).began
        assert max(began_calls.values(), default=0) <= 1, f"seed {seed}: a call ran twice"
    print(f"{ROUNDS} rounds in {monotonic() - began:.0f} s: {figures}")
