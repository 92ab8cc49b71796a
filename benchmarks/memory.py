"""Memory: what the server's resident size grows by, per turn and per watcher.

Each is the slope between two counts, so that what a first request allocates once is not in it.
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
    Turnstream,
    end_streams,
    open_streams,
    running_turnstream,
    running_upstream,
    watch_turn,
)
from benchmarks.upstream import Load

SMALL_RING, FULL_RING = 4096, 64 * 1024
BLOCK = 500
"""Deltas per block of a long turn: what is flat is the memory beside the text of the open block."""


class TurnMemory(NamedTuple):
    """Bytes per active turn with one watcher, after few and after many events."""

    few: float
    many: float


async def per_turn(upstream: Child, ring: int, turns: int, few: int, many: int) -> TurnMemory:
    """Turns that fell silent after so many events, each with its watcher."""
    return TurnMemory(
        await _turn_slope(upstream, ring, turns, few), await _turn_slope(upstream, ring, turns, many)
    )


async def _turn_slope(upstream: Child, ring: int, turns: int, events: int) -> float:
    load = Load(events=events, block=BLOCK, hold=True)
    with running_turnstream(upstream, str(ring)) as system:
        await system.prepare(2 * turns)
        streams = await open_streams(system, load, turns, Tally())
        await _all_received(streams, events)
        before = system.child.memory()
        more = await open_streams(system, load, turns, Tally())
        await _all_received(more, events)
        after = system.child.memory()
        await end_streams(upstream, [*streams, *more])
    return (after - before) / turns


async def _all_received(streams: list[Stream], events: int) -> None:
    async with asyncio.timeout(100):
        for stream in streams:
            await stream.received(events)
    await asyncio.sleep(0.5)  # the journal of the last events is written meanwhile


async def per_idle_watcher(upstream: Child, watchers: int) -> float:
    """Bytes per watcher of one silent turn."""
    with running_turnstream(upstream) as system:
        await system.prepare(1)
        turn_id = await system.start(Load(events=10, hold=True))
        streams = await watch_turn(system, turn_id, watchers // 4, Tally())
        before = system.child.memory()
        more = await watch_turn(system, turn_id, watchers, Tally())
        after = system.child.memory()
        await end_streams(upstream, [*streams, *more])
    return (after - before) / watchers


async def per_stalled_watcher(upstream: Child, watchers: int, events: int) -> float:
    """Bytes per watcher that takes nothing, of one turn that goes on."""
    with running_turnstream(upstream) as system:
        await system.prepare(1)
        turn_id = await system.start(Load(rate=100, batch=100, events=events, hold=True))
        attentive = (await watch_turn(system, turn_id, 1, Tally()))[0]
        before = system.child.memory()
        stalled = [_stalled_watcher(system, turn_id) for _ in range(watchers)]
        async with asyncio.timeout(100):
            await attentive.received(events)
        after = system.child.memory()
        for connection in stalled:
            connection.close()
        await end_streams(upstream, [attentive])
    return (after - before) / watchers


def _stalled_watcher(system: Turnstream, turn_id: str) -> socket.socket:
    """A connection that asks for the stream and never reads, its window as small as the system allows."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    connection.connect(("127.0.0.1", system.port))
    connection.sendall(system.watch(turn_id))
    return connection


def run(*, quick: bool) -> Iterator[Line]:
    """All lines of this benchmark."""
    turns, few, many = (20, 1_000, 5_000) if quick else (50, 1_000, 100_000)
    watchers = 500 if quick else 2_000
    with pinned(LOAD_CORE), running_upstream() as upstream:
        for ring, name, goal in ((SMALL_RING, "small ring", 30), (FULL_RING, "full ring", 100)):
            seen = uvloop.run(per_turn(upstream, ring, turns, few, many))
            for events, size in zip((few, many), seen, strict=True):
                yield Line(f"memory per active turn, {events:,} events, {name}", size / 1024, "KiB", goal)
        idle = uvloop.run(per_idle_watcher(upstream, watchers))
        yield Line("memory per idle watcher", idle / 1024, "KiB", 12)
        stalled = uvloop.run(
            per_stalled_watcher(upstream, 50 if quick else 200, 50_000 if quick else 200_000)
        )
        yield Line("memory per stalled watcher", stalled / 1024, "KiB")
