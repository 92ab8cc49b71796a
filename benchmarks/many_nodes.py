"""Costs of turns on SQLite and on PostgreSQL, of watchers on another node, and of starts over a network.

    python -m benchmarks.many_nodes [--turns 40] [--seconds 10]

Each node is a process. Turns of the simulated model bring 20 events a second each, and each has one watcher.
CPU time is the time of a node's process, divided by the number of events. The model runs in the owner's
process. The feed's latency is the time from an event at a watcher on the owner's node to the same event at a
watcher on another node.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import aiohttp
import psutil
import psycopg

from benchmarks.machine import describe
from tests.faults.processes import RunningProcess, server
from tests.faults.server_process import ServerPlan
from tests.faults.watching import Api, Watcher
from tests.nodes.proxy import TcpProxy
from tests.postgresql import PostgresServer, postgres_server, programs
from turnstream.store.migrations import upgrade_database
from turnstream.store.sql import DEFAULT_WRITERS

PACE = 0.05
WARM_UP = 2.0
STARTS = 16
"""Requests under way at once while starts are counted."""
WRITERS = (1, 2, 4)
"""Numbers of writers of the node whose starts are counted."""
DELAY = 0.0005
"""Seconds that each direction to PostgreSQL takes: a round trip takes one millisecond."""
_WAL = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"


async def main() -> None:
    """Run all measurements, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as name, postgres_server(programs()[0]) as postgres:
        folder = Path(name)
        await measure("SQLite", f"sqlite:///{folder}/chats.sqlite", folder, options, nodes=1)
        await measure("PostgreSQL", new_database(postgres), folder, options, nodes=1)
        await measure("PostgreSQL, watched on another node", new_database(postgres), folder, options, nodes=2)
        with TcpProxy(postgres.socket) as proxy:
            proxy.delay = DELAY
            url = postgres.address_at(new_database(postgres), proxy.port)
            for writers in WRITERS * 2:
                await count_starts(url, folder, options.seconds, writers)


def new_database(postgres: PostgresServer) -> str:
    """Return the URL of a database at the newest schema."""
    url = postgres.database()
    upgrade_database(url)
    return url


async def number(url: str, query: str, *values: object) -> int:
    """Return the number that a query reads."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        own = (connection.info.backend_pid,) if "%s" in query else values
        row = await (await connection.execute(query.encode(), own)).fetchone()
        assert row is not None
        return int(row[0])


async def measure(name: str, url: str, folder: Path, options: argparse.Namespace, *, nodes: int) -> None:
    """Print the cost of an event: CPU time, and on PostgreSQL the write-ahead log and connections."""
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as session:
        running = [await start_node(stack, url, folder) for _ in range(nodes)]
        apis = [Api(node.url, session) for node in running]
        model = f"sim/story:events=100000,pace={PACE}"
        turns = [
            await apis[0].start(await apis[0].create_chat(), "hello", model) for _ in range(options.turns)
        ]
        watchers = [Watcher(turn) for turn in turns]
        tasks = [asyncio.create_task(watcher.watch(apis[-1])) for watcher in watchers]
        near = Watcher(turns[0])
        tasks.append(asyncio.create_task(near.watch(apis[0])))
        await asyncio.sleep(WARM_UP)
        wal = await number(url, _WAL) if url.startswith("postgresql") else 0
        processes = [psutil.Process(node.pid) for node in running]
        before = [sum(process.cpu_times()[:2]) for process in processes]
        began = monotonic()
        await asyncio.sleep(options.seconds)
        events = round((monotonic() - began) / PACE * options.turns)
        used = [sum(process.cpu_times()[:2]) - cpu for process, cpu in zip(processes, before, strict=True)]
        cpu = " + ".join(f"{seconds / events * 1e6:.0f}" for seconds in used)
        line = f"{name}: {events} events, {cpu} µs of CPU an event"
        if url.startswith("postgresql"):
            wal = await number(url, _WAL) - wal
            connections = await number(url, _CONNECTIONS)
            line += (
                f", {wal / events:.0f} bytes of WAL an event, {connections / nodes:.0f} connections a node"
            )
        if nodes > 1:
            line += f", feed latency {latencies(near, watchers[0])}"
        print(line)
        for turn in turns:
            await apis[0].call("POST", f"/api/turns/{turn}/interrupt")
        await asyncio.gather(*tasks)


async def start_node(
    stack: AsyncExitStack, url: str, folder: Path, writers: int = DEFAULT_WRITERS
) -> RunningProcess:
    """Start a node."""
    plan = ServerPlan(url, folder / "log", log_level="warning", writers=writers)
    return await stack.enter_async_context(server(plan))


def latencies(near: Watcher, far: Watcher) -> str:
    """Return the percentiles of the time from one watcher to the other, over the same events."""
    seen = {frame.id: frame.at for frame in near.frames}
    late = sorted(frame.at - seen[frame.id] for frame in far.frames if frame.id in seen)
    p50, p99 = (late[int(len(late) * share)] * 1000 for share in (0.5, 0.99))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms ({len(late)} events)"


async def count_starts(url: str, folder: Path, seconds: float, writers: int) -> None:
    """Print the starts a second if a round trip to PostgreSQL takes a millisecond.

    All turns have one owner, and end at once: each start comes with the writes of a whole turn.
    """
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as session:
        node = await start_node(stack, url, folder, writers)
        process, api = psutil.Process(node.pid), Api(node.url, session)
        chats = [await api.create_chat() for _ in range(STARTS)]
        until, started = monotonic() + seconds, 0
        before = sum(process.cpu_times()[:2])

        async def start(chat: str) -> None:
            nonlocal started
            while monotonic() < until:
                await api.start(chat, "hello", "sim/echo:pace=0")
                started += 1

        await asyncio.gather(*map(start, chats))
        cpu = (sum(process.cpu_times()[:2]) - before) / started * 1000
        print(
            f"{writers} writers: {started / seconds:.0f} starts a second at a round trip of 1 ms, "
            f"{STARTS} at once, {cpu:.1f} ms of CPU each"
        )


if __name__ == "__main__":
    asyncio.run(main())
