"""End to end: an upstream process, a server process with a core of its own, and the load on the other core.

Every system gets the same offered load several times, and the systems alternate. The pass with the least CPU
counts, because other work of the machine only adds to it. But a server that waits for its core finds many
events at once, which costs less per event. So a pass with old events does not count if other passes had none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import uvloop

from benchmarks.passes import Passed, Reached, fan_out, first_tokens, paced, percentile, unpaced
from benchmarks.processes import LOAD_CORE, Child, pinned
from benchmarks.report import Line
from benchmarks.systems import (
    WITH_TOOLS,
    System,
    Turnstream,
    memory_directory,
    running_all,
)
from benchmarks.upstream import Load

NGINX_SHARE = 1.5
"""Goal: ratio to nginx's CPU per event.

If nginx is not installed, the bare relay takes its place: it took 1.46 times as much on the machine of the
goal. ADR 4 explains goals that are ratios.
"""
RELAY_SHARE = 1.03
FIRST_TOKEN_SHARES = {0.5: 3.1, 0.99: 6.2}
"""Goals by percentile: ratios to nginx's added p50. Ratios to the bare relay's p50 are half of these."""
SUSTAINED = (2_000, 5_000, 10_000, 12_500, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 60_000)
RELAY_COST_AT = 10_000
"""Goal of the sustained load: the events/s that fill a core at the relay's cost per event.

The cost is measured at this number of events/s.
"""
MOST_AGE = 10.0
"""Largest age (milliseconds, p99) of the events of a sustained load."""
DELIVERED = 0.97
"""Share of the offered events that must arrive in a sustained load."""
TURNS = 200
EVENTS_PER_SECOND = 10_000
LATE = 1.0
"""Largest age (milliseconds, p50) of the events of a pass that counts."""
WATCHERS = 1_000
IDLE_SECONDS = 0.002
"""Seconds between two requests."""


def run(*, quick: bool) -> Iterator[Line]:
    """Yield all lines of this benchmark."""
    with pinned(LOAD_CORE):
        for part in (paced_lines, unpaced_lines, first_token_lines, sustained_lines, fan_out_lines):
            yield from part(quick=quick)


def paced_lines(*, quick: bool) -> Iterator[Line]:
    """Yield the CPU per event at 10,000 events/s, for all systems."""
    passes, seconds = (2, 1.0) if quick else (6, 2.0)
    load = Load(rate=EVENTS_PER_SECOND / TURNS)
    with running_all() as (upstream, systems):
        seen = _all_passes(systems, passes, lambda system: paced(upstream, system, load, TURNS, seconds))
    yield from _paced_table({name: least_cpu(passes) for name, passes in seen.items()})


def _paced_table(best: dict[str, Passed]) -> Iterator[Line]:
    what = f"CPU per event, {TURNS} turns x 50/s"
    goal = NGINX_SHARE * best["nginx"].cpu if "nginx" in best else RELAY_SHARE * best["bare relay"].cpu
    for name, passed in best.items():
        note = f"p50 {passed.p50:.2f} ms, p99 {passed.p99:.2f} ms, core {passed.busy:.0%} busy"
        yield Line(f"{what}: {name}", passed.cpu, "µs", goal if name == "turnstream" else None, note=note)


def unpaced_lines(*, quick: bool) -> Iterator[Line]:
    """Yield the tokens per second of one core."""
    passes, events = (2, 20_000) if quick else (5, 60_000)
    for turns in (1, 8):
        with running_all() as (_, systems):
            seen = _all_passes(systems, passes, lambda system, n=turns: unpaced(system, n, events))
        for name, all_passed in seen.items():
            passed = max(all_passed, key=lambda passed: passed.rate)
            goal = 350_000 if name == "turnstream" else None
            note = f"{passed.cpu:.2f} µs CPU per token, core {passed.busy:.0%} busy"
            what = f"unpaced tokens, {turns} {'turn' if turns == 1 else 'turns'}: {name}"
            yield Line(what, passed.rate, "tokens/s", goal, "more", note)


def first_token_lines(*, quick: bool) -> Iterator[Line]:
    """Yield the time to the first token, without the upstream's own time.

    A turn's rows are durable before its first event is shown. So the database is in memory, and in a second
    measurement on disk.
    """
    rounds, number = (3, 50) if quick else (6, 150)
    if (directory := memory_directory()) is not None:
        yield from _first_token_table(_first_tokens(directory, rounds, number))
    seen = _first_tokens(None, rounds, number)
    yield from _first_token_table(
        {"turnstream, database on disk": seen["turnstream"], "direct": seen["direct"]}
    )


def _first_tokens(directory: str | None, rounds: int, number: int) -> dict[str, list[float]]:
    """Return the microseconds to the first token, by system. The systems alternate."""

    async def measure(systems: list[System]) -> dict[str, list[float]]:
        seen: dict[str, list[float]] = {system.name: [] for system in systems}
        for _ in range(rounds):
            for system in systems:
                seen[system.name].extend(await first_tokens(system, number, IDLE_SECONDS))
        return seen

    with running_all(with_direct=True, directory=directory) as (_, systems):
        return uvloop.run(measure(systems))


def _first_token_table(seen: dict[str, list[float]]) -> Iterator[Line]:
    direct = seen["direct"]
    added = {
        (system, share): percentile(values, share) - percentile(direct, share)
        for share in FIRST_TOKEN_SHARES
        for system, values in seen.items()
        if values is not direct
    }
    measure = added.get(("nginx", 0.5), added.get(("bare relay", 0.5), 0.0) / 2)
    for (system, share), value in added.items():
        goal = FIRST_TOKEN_SHARES[share] * measure if system == "turnstream" else None
        note = f"direct {percentile(direct, share):.0f} µs"
        yield Line(f"added to first token, p{share * 100:.0f}: {system}", value, "µs", goal, note=note)


def sustained_lines(*, quick: bool) -> Iterator[Line]:
    """Yield the highest paced load that arrives whole and in time."""
    seconds, tries = (1.0, 1) if quick else (2.0, 3)
    goal: float | None = None
    for wanted in ("bare relay", "turnstream", WITH_TOOLS):
        with running_all() as (upstream, systems):
            system = next(system for system in systems if system.name == wanted)
            reached = uvloop.run(_sustained(upstream, system, seconds, tries))
        what = f"sustained paced events, p99 < 10 ms: {wanted}"
        yield Line(
            what, reached.rate, "events/s", goal if wanted == "turnstream" else None, "more", reached.note
        )
        goal = goal or 1e6 / reached.cost


class Sustained(NamedTuple):
    """Most events per second, and µs of CPU per event at `RELAY_COST_AT` or the nearest lower load."""

    rate: float
    cost: float
    note: str


async def _sustained(upstream: Child, system: System, seconds: float, tries: int) -> Sustained:
    rate, cost, note = 0.0, float("inf"), ""
    for offered in SUSTAINED:
        load = Load(rate=offered / TURNS)
        passes: list[Passed] = []
        for _ in range(tries):
            passes.append(await paced(upstream, system, load, TURNS, seconds))
            if passes[-1].p99 < MOST_AGE and passes[-1].rate >= DELIVERED * offered:
                break
        passed = min(passes, key=lambda passed: passed.p99)
        if offered <= RELAY_COST_AT:
            cost = passed.cpu
        if passed.p99 >= MOST_AGE or passed.rate < DELIVERED * offered:
            note += f"; at {offered:,}/s p99 {passed.p99:.0f} ms, {passed.rate:,.0f}/s arrived"
            break
        rate = passed.rate
        note = f"p99 {passed.p99:.1f} ms, {passed.cpu:.0f} µs, core {passed.busy:.0%} busy"
    return Sustained(rate, cost, note)


def fan_out_lines(*, quick: bool) -> Iterator[Line]:
    """Yield one turn to many watchers, for a server without tools and one with them, which alternate."""
    passes, seconds = (2, 1.0) if quick else (8, 2.0)
    with running_all() as (upstream, all_systems):
        systems = [system for system in all_systems if isinstance(system, Turnstream)]
        for watchers, batch, goal in ((100, 1, None), (WATCHERS, 1, 7.0), (WATCHERS, 16, 0.6)):
            load = Load(rate=20, batch=batch)

            async def measure(load: Load = load, watchers: int = watchers) -> dict[str, list[Reached]]:
                seen: dict[str, list[Reached]] = {system.name: [] for system in systems}
                for _ in range(passes):
                    for system in systems:
                        seen[system.name].append(await fan_out(upstream, system, load, watchers, seconds))
                return seen

            for name, results in uvloop.run(measure()).items():
                best = Reached(*(min(values) for values in zip(*results, strict=True)))
                what = f"fan-out to {watchers:,} watchers, {batch} per tick: {name}"
                has_goal = name != WITH_TOOLS
                yield Line(what, best.cpu, "µs", goal if has_goal else None, note="CPU per delivery")
                reach_goal = 8.0 if has_goal and watchers == WATCHERS else None
                yield Line(f"{what}: all reached", best.p50, "ms", reach_goal, note=f"p99 {best.p99:.1f} ms")


def _all_passes(
    systems: list[System], passes: int, measure: Callable[[System], Awaitable[Passed]]
) -> dict[str, list[Passed]]:
    """Return the results of each system in each pass. Passes alternate between systems."""

    async def alternate_roles() -> dict[str, list[Passed]]:
        seen: dict[str, list[Passed]] = {system.name: [] for system in systems}
        for _ in range(passes):
            for system in systems:
                seen[system.name].append(await measure(system))
        return seen

    return uvloop.run(alternate_roles())


def least_cpu(passes: list[Passed]) -> Passed:
    """Return the cheapest of the passes in which the server did not wait for its core."""
    prompt = min(passed.p50 for passed in passes)
    return min((p for p in passes if p.p50 <= 2 * prompt + LATE), key=lambda passed: passed.cpu)
