"""A node is killed while PostgreSQL is down: another node continues its turns after the outage."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.faults.watching import Api, Frame, stored_blocks
from tests.nodes.cluster import Cluster
from tests.nodes.witnesses import NativeWitness
from tests.postgresql import PostgresServer
from turnstream.store.migrations import upgrade_database

SECONDS = 150.0
MODELS = ("sim/thinking:pace=0.03", "sim/story:events=250,pace=0.03", "sim/thinking:pace=0.05")
_PAUSE = 0.05


@pytest.mark.requirement("Q3", "Q7")
async def test_a_node_is_killed_while_its_database_restarts(
    own_postgres: PostgresServer, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Check that no acknowledged block is missing, and that each turn ends once, without a failure."""
    url = own_postgres.database()
    await asyncio.to_thread(upgrade_database, url)
    cluster = Cluster(url, tmp_path)
    async with asyncio.timeout(SECONDS), cluster.node() as one, cluster.node() as two:
        api = Api(one.url, session)
        witnesses = [
            NativeWitness(await api.start(await api.create_chat(), "hello", model)) for model in MODELS
        ]
        begun = asyncio.Event()

        def see(_: Frame) -> bool:
            if witnesses[0].acknowledged and all(len(witness.frames) > 5 for witness in witnesses):
                begun.set()  # a block of one turn is stored, and all turns have an open one
            return False

        watching = [asyncio.create_task(witness.watch(api, until=see)) for witness in witnesses]
        await begun.wait()
        await asyncio.to_thread(own_postgres.stop, "immediate")
        one.kill_now()
        assert await one.ended() == -9
        await asyncio.to_thread(own_postgres.start)
        await asyncio.gather(*watching)
        left = await cluster.rows("SELECT 1 FROM turnstream_turns WHERE status = 'streaming'")
        assert left, "turns were under way"
        other = Api(two.url, session)
        for witness in witnesses:
            while not witness.ended:
                await witness.watch(other)
                await asyncio.sleep(0 if witness.ended else _PAUSE)  # the pause of a client
            turn = await other.turn(witness.turn_id)
            assert (turn["status"], witness.terminal_events()) == ("complete", ["turn_complete"]), turn
            stored = stored_blocks(turn)
            assert witness.fold.blocks == stored
            assert witness.truncated == {}
            assert [stored[index] for index in witness.acknowledged] == [*witness.acknowledged.values()]
