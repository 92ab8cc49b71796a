"""Catch-up: the time and the size of a late join, in a turn of many deltas.

The turn has one block with all the deltas. This is the worst case: one `block_catchup` has everything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import NamedTuple

import uvloop

from benchmarks.load import Stream, Tally
from benchmarks.processes import LOAD_CORE, Child, pinned
from benchmarks.report import Line
from benchmarks.systems import Turnstream, end_streams, running_turnstream, running_upstream
from benchmarks.upstream import Load

GOAL = 50.0


class CaughtUp(NamedTuple):
    """Milliseconds from the request to the last missed event, and the frames and bytes until then."""

    milliseconds: float
    frames: int
    bytes: int


async def catch_up(upstream: Child, system: Turnstream, deltas: int, passes: int) -> dict[str, CaughtUp]:
    """Measure a late join while the block is open, and one after the turn's end. The best pass counts."""
    tally = Tally()
    await system.prepare(1)
    turn_id = await system.start(Load(events=deltas, hold=True))
    first = await Stream.connect(system.port, tally)
    first.ask(system.watch(turn_id))
    async with asyncio.timeout(60):
        await first.received(deltas)
    joined = [await _join(system, turn_id, deltas) for _ in range(passes)]
    await end_streams(upstream, [first])
    ended = [await _join(system, turn_id, deltas) for _ in range(passes)]
    return {"open": min(joined), "ended": min(ended)}


async def _join(system: Turnstream, turn_id: str, deltas: int) -> CaughtUp:
    stream = await Stream.connect(system.port, Tally())
    stream.body = []
    began = time.perf_counter()
    stream.ask(system.watch(turn_id))
    async with asyncio.timeout(60):
        await stream.received(deltas)
    elapsed = time.perf_counter() - began
    body = b"".join(stream.body)
    stream.close()
    return CaughtUp(elapsed * 1000, body.count(b"\nevent: "), len(body))


def run(*, quick: bool) -> Iterator[Line]:
    """Yield all lines of this benchmark, for a server without tools and one with them."""
    deltas, passes = (20_000, 3) if quick else (100_000, 10)
    for options in ((), ("--tools",)):
        with (
            pinned(LOAD_CORE),
            running_upstream() as upstream,
            running_turnstream(upstream, *options) as system,
        ):
            for state, seen in uvloop.run(catch_up(upstream, system, deltas, passes)).items():
                what = f"catch-up of {deltas:,} deltas, turn {state}{', two tools' if options else ''}"
                note = f"{seen.frames} events, {seen.bytes / 2**20:.1f} MiB"
                yield Line(what, seen.milliseconds, "ms", None if options else GOAL, note=note)
