"""Measurement of one pass through a system.

CPU is the user and system time of all threads of the server's process, divided by the events of that time.
"""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from benchmarks.load import Stream, Tally
from benchmarks.processes import Child
from benchmarks.systems import System, Turnstream, end_streams, open_streams, watch_turn
from benchmarks.upstream import Load

SETTLE_SECONDS = 0.3
REST_SECONDS = 0.004
"""Seconds from an answer's first token to its rest."""


def percentile(values: list[float] | list[int], share: float) -> float:
    """Return a percentile, or 0 for no values."""
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))]) if ordered else 0.0


@dataclass
class Passed:
    """One pass: µs of server CPU per event, events per second delivered, milliseconds of their age at p50
    and p99."""

    cpu: float
    rate: float
    p50: float
    p99: float
    busy: float
    """Share of its core that the server used."""


class Reached(NamedTuple):
    """Fan-out: µs of CPU per delivery, and milliseconds until all watchers have an event, at p50 and p99."""

    cpu: float
    p50: float
    p99: float


async def paced(upstream: Child, system: System, load: Load, turns: int, seconds: float) -> Passed:
    """Measure `turns` streams at `load.rate`, each with one watcher, in the steady state."""
    tally = Tally()
    streams = await open_streams(system, load, turns, tally)
    measured = await _window(system, tally, seconds)
    await end_streams(upstream, streams)
    return measured


async def _window(system: System, tally: Tally, seconds: float) -> Passed:
    gc.collect()  # before the rest: what waits for it in the sockets is old by the load's fault, and not to be counted
    gc.disable()
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        return await _counted(system, tally, seconds)
    finally:
        gc.enable()


async def _counted(system: System, tally: Tally, seconds: float) -> Passed:
    tally.reset()
    began, cpu = time.perf_counter(), system.child.cpu_seconds()
    await asyncio.sleep(seconds)
    cpu = system.child.cpu_seconds() - cpu
    elapsed = time.perf_counter() - began
    events = max(1, tally.events)
    p50, p99 = (percentile(tally.ages, share) / 1000 for share in (0.5, 0.99))
    return Passed(cpu / events * 1e6, events / elapsed, p50, p99, cpu / elapsed)


async def unpaced(system: System, turns: int, events: int) -> Passed:
    """Measure `turns` answers of `events` deltas without pauses."""
    tally = Tally()
    await system.prepare(turns)
    streams = [await Stream.connect(system.port, tally) for _ in range(turns)]
    began, cpu = time.perf_counter(), system.child.cpu_seconds()
    for number, stream in enumerate(streams):
        stream.ask(system.ask(Load(events=events), number))
    async with asyncio.timeout(120):
        await asyncio.gather(*(stream.ended for stream in streams))
    elapsed, cpu = time.perf_counter() - began, system.child.cpu_seconds() - cpu
    if tally.events != turns * events:
        raise RuntimeError(f"{system.name}: {tally.events} of {turns * events} events came")
    for stream in streams:
        stream.close()
    return Passed(cpu / tally.events * 1e6, tally.events / elapsed, 0.0, 0.0, cpu / elapsed)


async def first_tokens(system: System, number: int, pause: float) -> list[float]:
    """Return the microseconds from each request to its first event, one after another on one connection."""
    load = Load(events=2, pause=REST_SECONDS)
    await system.prepare(1)
    stream = await Stream.connect(system.port, Tally())
    seen: list[float] = []
    for _ in range(number):
        request = system.ask(load, 0)
        asked = time.monotonic_ns() // 1000
        stream.ask(request)
        await stream.ended
        seen.append(stream.first_at - asked)
        await asyncio.sleep(pause)
    stream.close()
    return seen


async def fan_out(upstream: Child, system: Turnstream, load: Load, watchers: int, seconds: float) -> Reached:
    """Measure one turn with many watchers."""
    tally = Tally()
    await system.prepare(1)
    turn_id = await system.start(load)
    streams = await watch_turn(system, turn_id, watchers, tally)
    measured = await _window(system, tally, seconds)
    spans = [(at - int(text)) / 1000 for text, at in tally.reached.items()]
    await end_streams(upstream, streams)
    return Reached(measured.cpu, median(spans), percentile(spans, 0.99))
