"""Memory: the growth of the server's resident size, per turn and per watcher.

Each result is the slope between two counts, so it does not include memory that the first request allocates
once.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import NamedTuple

import uvloop

from benchmarks.load import Stream, Tally
from benchmarks.processes import LOAD_CORE, Child, pinned
from benchmarks.report import Line
from benchmarks.systems import (
    WITH_TOOLS,
    System,
    Turnstream,
    end_streams,
    open_streams,
    running_relay,
    running_turnstream,
    running_upstream,
    watch_turn,
)
from benchmarks.upstream import Load

SMALL_RING, FULL_RING = 4096, 64 * 1024
BLOCK = 500
"""Deltas per block of a long turn. The memory apart from the text of the open block must be flat."""
RATE = 100.0
PASSES = 2
"""Bytes that the allocator may keep. They differ more between servers than the compared values do."""


class Length(NamedTuple):
    """Length of the turns: `events` in all, `batch` at a time. And the number of turns at once."""

    events: int
    batch: int
    turns: int


async def per_turn(upstream: Child, system: System, length: Length, rounds: int) -> float:
    """Return the bytes per running turn with one watcher, or per stream of a relay.

    A first round of turns fills the shared parts, such as the database's caches. Later rounds are measured.
    """
    load = Load(rate=RATE, batch=length.batch, events=length.events, block=BLOCK, hold=True)
    turns = length.turns
    await system.prepare((1 + rounds) * turns)
    streams: list[Stream] = []
    sizes: list[int] = []
    for number in range(1 + rounds):
        some = await open_streams(system, load, turns, Tally(), first=number * turns)
        await _all_received(some, length.events)
        sizes.append(await system.child.memory())
        streams.extend(some)
    await end_streams(upstream, streams)
    return (sizes[-1] - sizes[0]) / (rounds * turns)


async def _all_received(streams: list[Stream], events: int) -> None:
    async with asyncio.timeout(100):
        for stream in streams:
            await stream.received(events)


async def per_idle_watcher(upstream: Child, system: Turnstream, watchers: int) -> float:
    """Return the bytes per watcher of one silent turn."""
    await system.prepare(1)
    turn_id = await system.start(Load(events=10, hold=True))
    streams = await watch_turn(system, turn_id, watchers // 4, Tally())
    before = await system.child.memory()
    more = await watch_turn(system, turn_id, watchers, Tally())
    after = await system.child.memory()
    await end_streams(upstream, [*streams, *more])
    return (after - before) / watchers


async def per_stalled_watcher(upstream: Child, system: Turnstream, watchers: int, events: int) -> float:
    """Return the bytes per watcher that reads nothing, of one running turn."""
    await system.prepare(1)
    turn_id = await system.start(Load(rate=100, batch=100, events=events, hold=True))
    attentive = (await watch_turn(system, turn_id, 1, Tally()))[0]
    before = await system.child.memory()
    stalled = [_stalled_watcher(system, turn_id) for _ in range(watchers)]
    async with asyncio.timeout(100):
        await attentive.received(events)
    after = await system.child.memory()
    for connection in stalled:
        connection.close()
    await end_streams(upstream, [attentive])
    return (after - before) / watchers


def _stalled_watcher(system: Turnstream, turn_id: str) -> socket.socket:
    """Open a connection that requests the stream and never reads. Its window is as small as possible."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    connection.connect(("127.0.0.1", system.port))
    connection.sendall(system.watch(turn_id))
    return connection


def run(*, quick: bool) -> Iterator[Line]:
    """Yield all lines of this benchmark."""
    short, long = Length(1_000, 4, 150), Length(100_000, 25, 40)
    if quick:
        short, long = Length(500, 4, 50), Length(5_000, 25, 40)
    rounds = 1 if quick else 2
    with pinned(LOAD_CORE), running_upstream() as upstream:
        for ring, name, goal in ((SMALL_RING, "small ring", 30), (FULL_RING, "full ring", 100)):
            sizes = _with_and_without_tools(upstream, ring, short, rounds)
            for system, size in sizes.items():
                what = f"memory per active turn, {short.events:,} events, {name}"
                if system == WITH_TOOLS:
                    yield Line(f"{what}, two tools", size / 1024, "KiB")
                else:
                    yield Line(what, size / 1024, "KiB", goal)
        with running_turnstream(upstream, "--ring", str(FULL_RING)) as system:
            size = uvloop.run(per_turn(upstream, system, long, rounds))
        yield Line(f"memory per active turn, {long.events:,} events, full ring", size / 1024, "KiB", 100)
        with running_relay(upstream) as relay:
            size = uvloop.run(per_turn(upstream, relay, short, rounds))
        yield Line(f"memory per stream, {short.events:,} events: bare relay", size / 1024, "KiB")
        watchers = 500 if quick else 2_000
        with running_turnstream(upstream) as system:
            idle = uvloop.run(per_idle_watcher(upstream, system, watchers))
        yield Line("memory per idle watcher", idle / 1024, "KiB", 12)
        with running_turnstream(upstream) as system:
            some, events = (50, 50_000) if quick else (200, 200_000)
            stalled = uvloop.run(per_stalled_watcher(upstream, system, some, events))
        yield Line("memory per stalled watcher", stalled / 1024, "KiB")


def _with_and_without_tools(upstream: Child, ring: int, length: Length, rounds: int) -> dict[str, float]:
    """Return the bytes per turn of a server, and of one whose turns may call tools.

    Each is the least of several passes, which alternate.
    """
    best: dict[str, float] = {}
    for _ in range(PASSES):
        for options in ((), ("--tools",)):
            with running_turnstream(upstream, "--ring", str(ring), *options) as system:
                size = uvloop.run(per_turn(upstream, system, length, rounds))
                best[system.name] = min(best.get(system.name, size), size)
    return best
