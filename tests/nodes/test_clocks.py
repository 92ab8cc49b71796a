"""Clocks of a node and of the database that are wrong by an hour. No running turn is claimed, and lists keep
their order."""

from __future__ import annotations

import asyncio
from time import monotonic

import aiohttp
import pytest

from tests.faults.watching import Api, Watcher, stored_blocks
from tests.nodes.cluster import LEASE, Cluster

SECONDS = 90.0
HOUR = 3600
LONG = "sim/story:events=40000,pace=0.01"
LEASES = 1.5
"""Leases to wait before and after a step. A node that claims turns does so within one lease."""
_CLAIMED = "SELECT count(*) FROM turnstream_turns WHERE fences <> '[]' OR taken_from IS NOT NULL"


class SteppedDatabase:
    """A database whose clock can be set. Its sessions call this `clock_timestamp` instead of the server's."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def prepare(self) -> None:
        """Replace the clock of all sessions that begin later."""
        ((name,),) = await self._cluster.rows("SELECT current_database()")
        for statement in (
            "CREATE SCHEMA stepped",
            "CREATE TABLE stepped.clock AS SELECT interval '0' AS offset_of",
            """
            CREATE FUNCTION stepped.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
            'SELECT pg_catalog.clock_timestamp() + offset_of FROM stepped.clock'
            """,
            f'ALTER DATABASE "{name}" SET search_path = stepped, pg_catalog, public',
        ):
            await self._cluster.execute(statement)
        ((offset,),) = await self._cluster.rows(
            "SELECT extract(epoch FROM clock_timestamp() - pg_catalog.clock_timestamp())"
        )
        assert abs(offset) < 60
        await self.step(HOUR)
        ((offset,),) = await self._cluster.rows(
            "SELECT extract(epoch FROM clock_timestamp() - pg_catalog.clock_timestamp())"
        )
        assert abs(offset - HOUR) < 60, "the sessions use this clock"
        await self.step(0)

    async def step(self, seconds: int) -> None:
        """Set the clock to the server's own time plus `seconds`."""
        await self._cluster.execute(f"UPDATE stepped.clock SET offset_of = interval '{seconds} seconds'")


async def watch_for(watcher: Watcher, api: Api, seconds: float) -> None:
    """Watch a turn for `seconds`. The turn must last longer."""
    until = monotonic() + seconds
    await watcher.watch(api, until=lambda frame: frame.at > until)
    assert not watcher.ended, watcher.frames[-1]


async def check_whole(cluster: Cluster, api: Api, watchers: list[Watcher]) -> None:
    """Check that each turn runs in its first generation until its stop, and that no watcher saw a notice."""
    for watcher in watchers:
        assert (await api.turn(watcher.turn_id))["status"] == "streaming"
        status, _ = await api.call("POST", f"/api/turns/{watcher.turn_id}/interrupt")
        assert status == 200
        await watcher.watch(api)
        assert watcher.terminal_events() == ["turn_cancelled"]
        assert watcher.fold.blocks == stored_blocks(await api.turn(watcher.turn_id))
        assert [frame for frame in watcher.frames if frame.name in {"notice", "block_reset"}] == []
    assert await cluster.rows(_CLAIMED) == [(0,)]


async def listed(api: Api) -> list[str]:
    """Return the ids of all chats, the newest first, from all pages."""
    ids: list[str] = []
    path = "/api/chats?limit=4"
    while True:
        status, page = await api.call("GET", path)
        assert status == 200, page
        ids += [chat["id"] for chat in page["chats"]]
        if page["next"] is None:
            return ids
        path = f"/api/chats?limit=4&before={page['next']}"


async def make_chats(apis: tuple[Api, Api], made: list[str]) -> None:
    """Create chats on both nodes, alternately."""
    made += [await apis[number % 2].create_chat() for number in range(4)]


@pytest.mark.requirement("Q3", "Q7")
async def test_a_node_whose_clock_is_an_hour_fast_claims_nothing_and_orders_lists(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with (
        asyncio.timeout(SECONDS),
        cluster.node(clock_offset=HOUR) as fast,
        cluster.node(clock_offset=-HOUR) as slow,
    ):
        apis = Api(fast.url, session), Api(slow.url, session)
        made: list[str] = []
        await make_chats(apis, made)
        turns = [await api.start(chat, "hello", LONG) for api, chat in zip(apis, made, strict=False)]
        watchers = [Watcher(turn) for turn in turns]
        crosswise = list(zip(watchers, reversed(apis), strict=True))
        await asyncio.gather(*(watch_for(watcher, api, LEASES * LEASE) for watcher, api in crosswise))
        rest, newest = made[2:], [*made[:2]]
        await make_chats(apis, rest)
        # A chat's place in the list is the time of its newest turn.
        assert await listed(apis[0]) == await listed(apis[1]) == [*rest[:1:-1], *newest[::-1], *rest[1::-1]]
        await check_branches(apis, rest[0])
        await check_whole(cluster, apis[0], watchers)


async def check_branches(apis: tuple[Api, Api], chat: str) -> None:
    """Add branches on both nodes, alternately. Check that they are listed in the order of their creation."""
    added: list[str] = []
    for number in range(4):
        status, started = await apis[number % 2].post_turn(chat, f"branch {number}", "sim/echo:pace=0")
        assert status == 201, started
        added.append(started["user_turn"]["id"])
    for api in apis:
        status, siblings = await api.call("GET", f"/api/turns/{added[0]}/siblings")
        assert status == 200, siblings
        assert [turn["id"] for turn in siblings["turns"]] == added


@pytest.mark.requirement("Q3", "Q7")
@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_step_of_the_databases_clock_claims_nothing_and_orders_lists(
    cluster: Cluster, session: aiohttp.ClientSession, step: int
) -> None:
    database = SteppedDatabase(cluster)
    await database.prepare()
    async with asyncio.timeout(SECONDS), cluster.node() as one, cluster.node() as two:
        apis = Api(one.url, session), Api(two.url, session)
        made: list[str] = []
        await make_chats(apis, made)
        turns = [await api.start(chat, "hello", LONG) for api, chat in zip(apis, made, strict=False)]
        watchers = [Watcher(turn) for turn in turns]
        crosswise = list(zip(watchers, reversed(apis), strict=True))
        await asyncio.gather(*(watch_for(watcher, api, LEASES * LEASE) for watcher, api in crosswise))
        await database.step(step)
        rest = made[2:]
        await make_chats(apis, rest)
        await asyncio.gather(*(watch_for(watcher, api, LEASES * LEASE) for watcher, api in crosswise))
        await make_chats(apis, rest)
        expected = [*rest[:1:-1], *made[:2][::-1], *rest[1::-1]]
        assert await listed(apis[0]) == await listed(apis[1]) == expected
        await check_whole(cluster, apis[0], watchers)
