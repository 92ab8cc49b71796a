"""Places for nodes, each with its own connection to the database, and the faults of a schedule."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import psycopg

from tests.faults.processes import NotStarted, RunningProcess
from tests.nodes.cluster import LEASE, Cluster
from tests.nodes.process_control import pause, paused, resume, terminate
from tests.nodes.proxy import TcpProxy
from tests.nodes.witnesses import PROTOCOLS
from tests.postgresql import PostgresServer

DRAINS = (0.0, 0.0, 2.0)


@dataclass
class Slot:
    """A place for one node at a time. A node that has ended gets a successor."""

    cluster: Cluster
    proxy: TcpProxy
    notes: Path
    direct_url: str
    """URL of the database without the proxy."""
    ended: list[int] = field(default_factory=list)
    """Process ids of the nodes that have ended here."""
    joined: float = 0.0
    """Monotonic time at which the node here served."""
    is_busy: bool = False
    """True while a fault concerns this slot."""
    _node: RunningProcess | None = None

    @property
    def node(self) -> RunningProcess:
        """The node, which may have ended."""
        assert self._node is not None
        return self._node

    async def join(self, *, drain: float) -> None:
        """Start a node here. `drain`: seconds that it has to end its turns after SIGTERM."""
        node = self.cluster.node(tool_notes=self.notes, protocols=PROTOCOLS, drain_seconds=drain)
        await node.__aenter__()
        self._node, self.joined = node, monotonic()

    async def leave(self) -> None:
        """Kill the node, unless it has ended."""
        if self._node is not None:
            await self._node.__aexit__(None, None, None)


class Planned(NamedTuple):
    """A fault of a schedule: its time in seconds, and the number of its slot."""

    at: float
    fault: str
    place: int


class Faults:
    """Faults of nodes, of their connections, and of the database.

    Args:
        seed: Decides the kinds of the faults, their times and their places.
    """

    def __init__(self, slots: list[Slot], postgres: PostgresServer, seed: str) -> None:
        self.slots, self._postgres = slots, postgres
        self._draw = random.Random(seed)
        self.planned = sorted(
            Planned(self._draw.uniform(0.0, 4.0), self._draw.choice(KINDS), self._draw.randrange(len(slots)))
            for _ in range(self._draw.randint(2, 5))
        )
        self.happened: list[str] = []

    async def run(self) -> None:
        """Let the faults happen. Return once all are over."""
        async with asyncio.TaskGroup() as group:
            for planned in self.planned:
                group.create_task(self._run(planned))

    async def _run(self, planned: Planned) -> None:
        await asyncio.sleep(planned.at)  # a random moment
        slot = self.slots[planned.place]
        # One node must stay that can take the turns over.
        if slot.is_busy or sum(not slot.is_busy for slot in self.slots) < 2:
            return
        slot.is_busy = True
        self.happened.append(f"{planned.fault} {slot.node.pid}")
        try:
            await getattr(self, planned.fault)(slot)
        finally:
            slot.is_busy = False

    async def kill(self, slot: Slot) -> None:
        """`kill -9`, and a successor."""
        slot.node.kill_now()
        assert await slot.node.ended() == -9
        await self._replace(slot)

    async def drain(self, slot: Slot) -> None:
        """SIGTERM, and a successor once the node has ended."""
        terminate(slot.node.pid)
        assert await slot.node.ended(40.0) == 0
        await self._replace(slot)

    async def sleep(self, slot: Slot) -> None:
        """SIGSTOP for longer than the lease."""
        await self._stop_for(slot, self._draw.uniform(1.1, 2.0) * LEASE)

    async def doze(self, slot: Slot) -> None:
        """SIGSTOP for less than the lease."""
        await self._stop_for(slot, self._draw.uniform(0.1, 0.9) * LEASE)

    async def cut(self, slot: Slot) -> None:
        """The connections of a node are reset, several times."""
        for _ in range(self._draw.randint(1, 5)):
            slot.proxy.cut()
            await asyncio.sleep(self._draw.uniform(0.0, 0.3))

    async def refuse(self, slot: Slot) -> None:
        """A node cannot reach the database for a time."""
        slot.proxy.refuse()
        slot.proxy.cut()
        await asyncio.sleep(self._draw.uniform(0.2, 2.0) * LEASE)
        slot.proxy.accept()

    async def stall(self, slot: Slot) -> None:
        """No byte of a node's connections arrives for a time."""
        slot.proxy.stall()
        await asyncio.sleep(self._draw.uniform(0.2, 2.0) * LEASE)
        slot.proxy.resume()

    async def half_open(self, slot: Slot) -> None:
        """The database has lost the connections of a node, which is not told."""
        slot.proxy.half_open()

    async def delay(self, slot: Slot) -> None:
        """Each round trip takes longer for a time."""
        slot.proxy.delay = self._draw.uniform(0.01, 0.2)
        await asyncio.sleep(self._draw.uniform(0.5, 2.0) * LEASE)
        slot.proxy.delay = 0.0

    async def restart(self, slot: Slot) -> None:
        """The database is restarted."""
        del slot
        await asyncio.to_thread(self._postgres.stop, self._draw.choice(("immediate", "fast")))
        await asyncio.sleep(self._draw.uniform(0.0, 1.0))
        await asyncio.to_thread(self._postgres.start)

    async def freeze(self, slot: Slot) -> None:
        """The database stands still for a time."""
        del slot
        with paused(self._postgres.pid):
            await asyncio.sleep(self._draw.uniform(0.2, 1.5) * LEASE)

    async def lock(self, slot: Slot) -> None:
        """Another program locks a table for a time."""
        table = self._draw.choice(("turns", "blocks", "journal", "nodes", "tool_runs"))
        async with await psycopg.AsyncConnection.connect(slot.direct_url) as connection:
            await connection.execute(f"LOCK TABLE turnstream_{table} IN ACCESS EXCLUSIVE MODE".encode())
            await asyncio.sleep(self._draw.uniform(0.1, 1.0) * LEASE)
            await connection.rollback()

    async def disconnect(self, slot: Slot) -> None:
        """The database ends half of its sessions."""
        async with await psycopg.AsyncConnection.connect(slot.direct_url, autocommit=True) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'turnstream' AND datname = current_database() AND random() < 0.5"
            )

    async def _stop_for(self, slot: Slot, seconds: float) -> None:
        pid = slot.node.pid
        pause(pid)
        try:
            await asyncio.sleep(seconds)
        finally:
            resume(pid)

    async def _replace(self, slot: Slot) -> None:
        slot.ended.append(slot.node.pid)
        await asyncio.sleep(self._draw.uniform(0.0, 0.5))
        drain = self._draw.choice(DRAINS)
        while True:
            try:
                return await slot.join(drain=drain)
            except NotStarted as error:
                if error.refused is None or error.refused.error != "StoreError":
                    raise  # else the database is being restarted
            await asyncio.sleep(0.2)  # the pause of a supervisor


KINDS = (
    "kill",
    "kill",
    "kill",
    "drain",
    "sleep",
    "sleep",
    "doze",
    "cut",
    "refuse",
    "stall",
    "half_open",
    "delay",
    "restart",
    "freeze",
    "lock",
    "disconnect",
)
