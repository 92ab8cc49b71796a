"""End to end: an upstream process, a server process alone on its core, and the load in this process on the other.

Every system gets the same offered load, in turns, several times; the pass with the least CPU counts, since whatever
else the machine does only ever adds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import uvloop

from benchmarks.passes import Passed, Reached, fan_out, first_tokens, paced, percentile, unpaced
from benchmarks.processes import LOAD_CORE, Child, pinned
from benchmarks.report import Line
from benchmarks.systems import (
    System,
    Turnstream,
    memory_directory,
    running_all,
    running_turnstream,
    running_upstream,
)
from benchmarks.upstream import Load

NGINX_SHARE = 1.5
"""Goal: so many times nginx's CPU per event. Where nginx is not installed the bare relay stands in for it: on the
machine of the goal it took 1.46 times as much."""
RELAY_SHARE = 1.03
SUSTAINED = (10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 80_000)
MOST_AGE = 10.0
"""Milliseconds that a sustained load's events may be old at p99."""
DELIVERED = 0.97
"""Share of the offered events that must arrive for a load to count as sustained."""
TURNS = 200
WATCHERS = 1_000


def run(*, quick: bool) -> Iterator[Line]:
    """All lines of this benchmark."""
    with pinned(LOAD_CORE):
        for part in (paced_lines, unpaced_lines, first_token_lines, sustained_lines, fan_out_lines):
            yield from part(quick=quick)


def paced_lines(*, quick: bool) -> Iterator[Line]:
    """CPU per event at 10,000 events/s, for all systems."""
    passes, seconds = (2, 1.0) if quick else (5, 3.0)
    for turns, rate in ((TURNS, 50.0), (1, 50.0)):
        load = Load(rate=rate)
        with running_all() as (upstream, systems):
            best = _least_cpu(
                [s for s in systems if turns > 1 or isinstance(s, Turnstream)],
                passes,
                lambda system, u=upstream, w=load, n=turns: paced(u, system, w, n, seconds),
            )
        if turns > 1:
            yield from _paced_table(best)


def _paced_table(best: dict[str, Passed]) -> Iterator[Line]:
    what = f"CPU per event, {TURNS} turns x 50/s"
    goal = NGINX_SHARE * best["nginx"].cpu if "nginx" in best else RELAY_SHARE * best["bare relay"].cpu
    for name, passed in best.items():
        note = f"p50 {passed.p50:.2f} ms, p99 {passed.p99:.2f} ms, core {passed.busy:.0%} busy"
        yield Line(f"{what}: {name}", passed.cpu, "µs", goal if name == "turnstream" else None, note=note)


def unpaced_lines(*, quick: bool) -> Iterator[Line]:
    """Tokens per second of one core."""
    passes, events = (2, 20_000) if quick else (5, 60_000)
    for turns in (1, 8):
        with running_all() as (_, systems):
            best = _least_cpu(systems, passes, lambda system, n=turns: unpaced(system, n, events))
        for name, passed in best.items():
            goal = 350_000 if name == "turnstream" else None
            note = f"{passed.cpu:.2f} µs CPU per token, core {passed.busy:.0%} busy"
            yield Line(f"unpaced tokens, {turns} turns: {name}", passed.rate, "tokens/s", goal, "more", note)


def first_token_lines(*, quick: bool) -> Iterator[Line]:
    """Time to the first token above the upstream's own, with the database in memory and on disk."""
    rounds, number = (3, 50) if quick else (6, 150)
    places = {"on disk": None, "in memory": memory_directory()}
    for place, directory in places.items():
        if place == "in memory" and directory is None:
            continue
        seen: dict[str, list[float]] = {}

        async def measure(systems: list[System], seen: dict[str, list[float]] = seen) -> None:
            for _ in range(rounds):
                for system in systems:
                    seen.setdefault(system.name, []).extend(await first_tokens(system, number, 0.002))

        with running_all(with_direct=True, directory=directory) as (_, systems):
            uvloop.run(measure(systems))
        yield from _first_token_table(seen, place)


def _first_token_table(seen: dict[str, list[float]], place: str) -> Iterator[Line]:
    for share, name, goal in ((0.5, "p50", 200), (0.99, "p99", 400)):
        direct = percentile(seen["direct"], share)
        for system, values in seen.items():
            if system == "direct" or (place == "on disk" and system != "turnstream"):
                continue
            what = f"added to first token, database {place}, {name}" if system == "turnstream" else f"{name}"
            verdict = goal if system == "turnstream" and place == "in memory" else None
            yield Line(
                what if system == "turnstream" else f"added to first token, {name}: {system}",
                percentile(values, share) - direct,
                "µs",
                verdict,
                note=f"direct {direct:.0f} µs",
            )


def sustained_lines(*, quick: bool) -> Iterator[Line]:
    """The highest paced load that arrives whole and in time."""
    seconds = 1.0 if quick else 2.0
    for wanted in ("turnstream", "bare relay"):
        with running_all() as (upstream, systems):
            system = next(system for system in systems if system.name == wanted)
            reached, note = uvloop.run(_sustained(upstream, system, seconds, 1 if quick else 2))
        goal = 50_000 if wanted == "turnstream" else None
        yield Line(f"sustained paced events, p99 < 10 ms: {wanted}", reached, "events/s", goal, "more", note)


async def _sustained(upstream: Child, system: System, seconds: float, tries: int) -> tuple[float, str]:
    reached, note = 0.0, ""
    for offered in SUSTAINED:
        load = Load(rate=offered / TURNS)
        for _ in range(tries):
            passed = await paced(upstream, system, load, TURNS, seconds)
            if passed.p99 < MOST_AGE and passed.rate >= DELIVERED * offered:
                break
        else:
            return reached, f"{note}; at {offered:,}/s p99 {passed.p99:.0f} ms, {passed.rate:,.0f}/s arrived"
        reached = passed.rate
        note = f"p99 {passed.p99:.1f} ms, core {passed.busy:.0%} busy"
    return reached, note


def fan_out_lines(*, quick: bool) -> Iterator[Line]:
    """One turn to many watchers."""
    passes, seconds = (2, 1.0) if quick else (4, 2.0)
    with running_upstream() as upstream, running_turnstream(upstream) as system:
        for watchers, batch, goal in ((100, 1, None), (WATCHERS, 1, 7.0), (WATCHERS, 16, 0.6)):
            load = Load(rate=20, batch=batch)
            best = uvloop.run(_best_reach(upstream, system, load, watchers, seconds, passes))
            what = f"fan-out to {watchers:,} watchers, {batch} per tick"
            yield Line(what, best.cpu, "µs", goal, note="CPU per delivery")
            reach_goal = 8.0 if watchers == WATCHERS else None
            yield Line(f"{what}: all reached", best.p50, "ms", reach_goal, note=f"p99 {best.p99:.1f} ms")


async def _best_reach(
    upstream: Child, system: Turnstream, load: Load, watchers: int, seconds: float, passes: int
) -> Reached:
    results = [await fan_out(upstream, system, load, watchers, seconds) for _ in range(passes)]
    return Reached(*(min(values) for values in zip(*results, strict=True)))


def _least_cpu(
    systems: list[System], passes: int, measure: Callable[[System], Awaitable[Passed]]
) -> dict[str, Passed]:
    """The pass with the least CPU of each system; passes alternate between systems."""

    async def all_passes() -> dict[str, Passed]:
        best: dict[str, Passed] = {}
        for _ in range(passes):
            for system in systems:
                passed = await measure(system)
                if system.name not in best or passed.cpu < best[system.name].cpu:
                    best[system.name] = passed
        return best

    return uvloop.run(all_passes())
