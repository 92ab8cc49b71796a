"""Nodes are replaced one after another, while clients start and watch turns on any of them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from tests.faults.processes import RunningProcess
from tests.faults.watching import GONE, Api, Watcher, stored_blocks
from tests.nodes.cluster import Cluster
from turnstream.config import NodeSettings
from turnstream.core.identifiers import new_id
from turnstream.turns.takeover.restarting import MOST_RECOVERIES

TURN_SECONDS = float(os.environ.get("DEPLOY_TURN_SECONDS", "2"))
"""Seconds of each turn. `make soak` has longer turns."""
DRAIN_SECONDS = max(3 * TURN_SECONDS, 30.0)
CLIENTS = 6
NODES = 2
SECONDS = 90.0 + 8 * DRAIN_SECONDS
STOPS_SECONDS = 120.0
_PAUSE = 0.05
_PACE = 0.05


class Rotation:
    """Sends each request to any node. If the node refuses it, or is gone, another one gets it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.nodes: list[RunningProcess] = []
        self._session = session
        self._draw = random.Random("rotation")

    @property
    def any(self) -> Api:
        return Api(self._draw.choice(self.nodes).url, self._session)

    async def post(self, path: str, body: Any) -> Any:
        """Repeat a request until a node accepts it. Its idempotency key makes all attempts one."""
        headers = {"Idempotency-Key": new_id()}
        while True:
            try:
                status, answer = await self.any.call("POST", path, body, headers)
            except GONE:
                status, answer = 503, None
            if status == 201:
                return answer
            assert status == 503, answer
            await asyncio.sleep(_PAUSE)

    async def watch(self, watcher: Watcher) -> None:
        """Watch a turn to its end, over any number of connections."""
        while not watcher.ended:
            await watcher.watch(self.any)
            await asyncio.sleep(0 if watcher.ended else _PAUSE)


class Deployment:
    """Nodes in a rotation, and clients that start one turn after another."""

    def __init__(
        self, cluster: Cluster, session: aiohttp.ClientSession, stack: AsyncExitStack, drain: float
    ) -> None:
        self.rotation = Rotation(session)
        self.watchers: list[Watcher] = []
        self._cluster, self._stack, self._drain = cluster, stack, drain
        self._is_over = False

    async def add_node(self) -> None:
        node = self._cluster.node(drain_seconds=self._drain, nodes=NodeSettings())
        self.rotation.nodes.append(await self._stack.enter_async_context(node))

    async def replace_oldest(self) -> None:
        """Start a node. Then stop the oldest one, which leaves the rotation once it has ended."""
        await self.add_node()
        await self.has_begun(CLIENTS)
        oldest = self.rotation.nodes[0]
        os.kill(oldest.pid, signal.SIGTERM)
        try:
            assert await oldest.ended(SECONDS) == 0
        finally:
            self.rotation.nodes.remove(oldest)

    async def has_begun(self, turns: int) -> None:
        """Wait until `turns` more turns have shown text."""
        seen = self._with_text()
        while self._with_text() < seen + turns:  # noqa: ASYNC110 - frames of many watchers
            await asyncio.sleep(_PAUSE)

    def _with_text(self) -> int:
        return sum(len(watcher.frames) > 3 for watcher in self.watchers)

    async def run_client(self, number: int) -> None:
        model = f"sim/story:events={int(TURN_SECONDS / _PACE)},pace={_PACE},seed={number}"
        blocks = [{"block_type": "text", "text_content": "hello"}]
        while not self._is_over:
            chat = await self.rotation.post("/api/chats", {})
            body = {"model": model, "turn_blocks": blocks}
            started = await self.rotation.post(f"/api/chats/{chat['id']}/turns", body)
            watcher = Watcher(started["assistant_turn"]["id"])
            self.watchers.append(watcher)
            await self.rotation.watch(watcher)

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[None]:
        """Run clients within this context. Their last turns end with it."""
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self.run_client(number))
            yield
            self._is_over = True

    async def check(self) -> dict[str, int]:
        """Check that all turns are complete, and all watchers have the stored blocks. Return the figures."""
        figures: dict[str, int] = dict.fromkeys(("turns", "moved", "resets", "truncated"), 0)
        for watcher in self.watchers:
            row = await self.rotation.any.turn(watcher.turn_id)
            assert (row["status"], watcher.terminal_events()) == ("complete", ["turn_complete"]), row
            assert watcher.fold.blocks == stored_blocks(row)
            codes = [frame.data.get("code") for frame in watcher.frames if frame.name == "notice"]
            assert "recovered" not in codes, "no planned stop counts as a loss"
            ids = [tuple(map(int, frame.id.split("-"))) for frame in watcher.frames]
            names = [frame.name for frame in watcher.frames]
            deltas = [at for at, name in zip(ids, names, strict=True) if name == "block_delta"]
            assert all(one < other for one, other in pairwise(deltas)), "no event comes twice"
            figures["turns"] += 1
            figures["moved"] += "moved" in codes
            figures["truncated"] += "truncated" in codes
            figures["resets"] += "block_reset" in names
        return figures


@pytest.mark.requirement("Q6")
@pytest.mark.parametrize("drain", [DRAIN_SECONDS, 0.0], ids=["drain", "no-drain"])
async def test_a_rolling_deploy_fails_no_turn(
    cluster: Cluster, session: aiohttp.ClientSession, drain: float
) -> None:
    """If the drain is longer than the turns, no answer begins again. If it is shorter, answers may."""
    async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
        deployment = Deployment(cluster, session, stack, drain)
        for _ in range(NODES):
            await deployment.add_node()
        async with deployment.clients():
            for _ in range(NODES):
                await deployment.replace_oldest()
        figures = await deployment.check()
        print(f"{NODES} nodes replaced, drain {drain:g} s, turns of {TURN_SECONDS:g} s: 0 failed, {figures}")
        if drain:
            assert (figures["resets"], figures["truncated"]) == (0, 0)
        else:
            assert figures["moved"]


@pytest.mark.requirement("Q6")
async def test_planned_stops_do_not_count_toward_the_recoveries(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    """During one answer, more nodes are stopped than may be lost."""
    stops = MOST_RECOVERIES + 1
    async with asyncio.timeout(STOPS_SECONDS), AsyncExitStack() as stack:
        plan = NodeSettings()  # the default lease does not lapse on a busy machine
        nodes = [await stack.enter_async_context(cluster.node(nodes=plan)) for _ in range(stops + 1)]
        apis = [Api(node.url, session) for node in nodes]
        turn = await apis[0].start(await apis[0].create_chat(), "hello", "sim/story:events=400,pace=0.02")
        watcher = Watcher(turn)
        for _ in range(stops):
            ((address,),) = await cluster.rows(
                "SELECT address FROM turnstream_nodes JOIN turnstream_turns ON node = turnstream_nodes.id"
                " WHERE turnstream_turns.id = %s",
                turn,
            )
            pid = int(address.rpartition("pid ")[2].rstrip(")"))
            owner = next(node for node in nodes if node.pid == pid)
            seen = len(watcher.frames)
            await watcher.watch(
                Api(owner.url, session), until=lambda _, seen=seen: len(watcher.frames) > seen + 15
            )
            os.kill(owner.pid, signal.SIGTERM)
            assert await owner.ended() == 0
            nodes.remove(owner)
            while not await cluster.rows(  # noqa: ASYNC110 - a poll of a row
                "SELECT 1 FROM turnstream_turns WHERE id = %s AND taken_from IS NULL AND node IS NOT NULL",
                turn,
            ):
                await asyncio.sleep(0.05)
        (last,) = nodes
        while not watcher.ended:
            await watcher.watch(Api(last.url, session))
        row = await Api(last.url, session).turn(turn)
        assert (row["status"], watcher.terminal_events()) == ("complete", ["turn_complete"])
        assert watcher.fold.blocks == stored_blocks(row)
        codes = [frame.data.get("code") for frame in watcher.frames if frame.name == "notice"]
        assert codes.count("moved") == stops
        assert "recovered" not in codes
