"""As a gateway: turnstream compared with nginx, the bare relay and LiteLLM's proxy, in one run.

turnstream runs in its own protocol and in OpenAI's, with rows and without. A system that is not installed is
printed as absent: nginx comes from the operating system, LiteLLM's proxy from `make bench`.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

import uvloop

from benchmarks.end_to_end import EVENTS_PER_SECOND, IDLE_SECONDS, TURNS, least_cpu
from benchmarks.load import Stream, Tally
from benchmarks.memory import SMALL_RING, Length, per_turn
from benchmarks.passes import Passed, first_tokens, paced, percentile
from benchmarks.processes import LOAD_CORE, Child, pinned
from benchmarks.report import Line
from benchmarks.systems import (
    LITELLM,
    LiteLlm,
    OpenAiTurnstream,
    System,
    Turnstream,
    memory_directory,
    running_litellm,
    running_nginx,
    running_relay,
    running_turnstream,
    running_upstream,
)
from benchmarks.upstream import Load

RELAY = "bare relay"
NATIVE, NATIVE_TRANSIENT = "native, with rows", "native, without rows"
OPENAI, OPENAI_TRANSIENT = "OpenAI, with rows", "OpenAI, without rows"
TRANSIENT = (NATIVE_TRANSIENT, OPENAI_TRANSIENT)
FIRST_TOKEN_SHARE = 1.5
CPU_SHARE = 1.1
TURNS_PER_SECOND = 1000.0
TOKENS = 200
"""Tokens of a short answer."""
AT_ONCE = 8
"""Short answers at a time."""
ANSWER_SECONDS = 300.0
SLOW_SHARE = 20
"""Number that divides the load of LiteLLM's proxy, which cannot take the load of the others."""


@contextmanager
def running_gateways(*, ring: int | None = None) -> Iterator[tuple[Child, list[System], list[str]]]:
    """Yield the upstream, the systems in front of it, and the names of absent systems."""
    options = () if ring is None else ("--ring", str(ring))
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        absent: list[str] = []
        systems: list[System] = []
        if shutil.which("nginx"):
            systems.append(stack.enter_context(running_nginx(upstream)))
        else:
            absent.append("nginx")
        systems.append(stack.enter_context(running_relay(upstream)))
        for name, kind in ((NATIVE, Turnstream), (NATIVE_TRANSIENT, Turnstream)):
            systems.append(stack.enter_context(_running(upstream, name, kind, options)))
        for name, kind in ((OPENAI, OpenAiTurnstream), (OPENAI_TRANSIENT, OpenAiTurnstream)):
            systems.append(stack.enter_context(_running(upstream, name, kind, options)))
        if LITELLM.exists():
            systems.append(stack.enter_context(running_litellm(upstream)))
        else:
            absent.append("LiteLLM's proxy")
        yield upstream, systems, absent


@contextmanager
def _running(
    upstream: Child, name: str, kind: type[Turnstream], options: tuple[str, ...]
) -> Iterator[System]:
    with running_turnstream(upstream, *options, directory=memory_directory()) as server:
        yield kind(server.child, name, stores=name not in TRANSIENT)


async def short_answers(system: System, number: int) -> Passed:
    """Request `number` answers of TOKENS tokens without pauses, AT_ONCE at a time.

    `rate` is answers per second, and `cpu` microseconds per answer.
    """
    tally = Tally()
    await system.prepare(AT_ONCE)
    streams = [await Stream.connect(system.port, tally) for _ in range(AT_ONCE)]
    load = Load(events=TOKENS)
    left = iter(range(number))

    async def ask(place: int, stream: Stream) -> None:
        for _ in left:
            stream.ask(system.ask(load, place))
            await stream.ended

    began, cpu = time.perf_counter(), system.child.cpu_seconds()
    async with asyncio.timeout(ANSWER_SECONDS):
        await asyncio.gather(*(ask(place, stream) for place, stream in enumerate(streams)))
    elapsed, cpu = time.perf_counter() - began, system.child.cpu_seconds() - cpu
    for stream in streams:
        stream.close()
    if tally.events != number * TOKENS:
        raise RuntimeError(f"{system.name}: {tally.events} of {number * TOKENS} events came")
    return Passed(cpu / number * 1e6, number / elapsed, 0.0, 0.0, cpu / elapsed)


def _measured(
    passes: int, measure: Callable[[Child, System], Awaitable[Passed]]
) -> tuple[dict[str, list[Passed]], list[str]]:
    """Return the results of each system in each pass, and the absent systems. Systems alternate."""

    async def alternate(upstream: Child, systems: list[System]) -> dict[str, list[Passed]]:
        seen: dict[str, list[Passed]] = {system.name: [] for system in systems}
        for _ in range(passes):
            for system in systems:
                seen[system.name].append(await measure(upstream, system))
        return seen

    with running_gateways() as (upstream, systems, absent):
        return uvloop.run(alternate(upstream, systems)), absent


def _share(system: System) -> int:
    """Return the number that divides a system's load."""
    return SLOW_SHARE if isinstance(system, LiteLlm) else 1


def _absent(what: str, names: list[str], unit: str) -> Iterator[Line]:
    for name in names:
        yield Line(f"{what}: {name}", math.nan, unit, note="not installed here")


def first_token_lines(*, quick: bool) -> Iterator[Line]:
    """Yield the time to the first token, without the upstream's own time. The database is in memory."""
    rounds, number = (2, 30) if quick else (6, 150)

    async def measure(upstream: Child, systems: list[System]) -> dict[str, list[float]]:
        direct = System("direct", upstream)
        seen: dict[str, list[float]] = {system.name: [] for system in (direct, *systems)}
        for _ in range(rounds):
            for system in (direct, *systems):
                seen[system.name].extend(await first_tokens(system, number, IDLE_SECONDS))
        return seen

    with running_gateways() as (upstream, systems, absent):
        seen = uvloop.run(measure(upstream, systems))
    direct = seen.pop("direct")
    for share in (0.5, 0.99):
        what = f"added to first token, p{share * 100:.0f}"
        added = {name: percentile(values, share) - percentile(direct, share) for name, values in seen.items()}
        for name, value in added.items():
            goal = FIRST_TOKEN_SHARE * added[RELAY] if name in TRANSIENT and share == 0.5 else None
            yield Line(f"{what}: {name}", value, "µs", goal)
        yield from _absent(what, absent, "µs")


def paced_lines(*, quick: bool) -> Iterator[Line]:
    """Yield the CPU per event at 10,000 events/s."""
    passes, seconds = (1, 1.0) if quick else (5, 2.0)
    load = Load(rate=EVENTS_PER_SECOND / TURNS)
    seen, absent = _measured(
        passes, lambda upstream, system: paced(upstream, system, load, TURNS // _share(system), seconds)
    )
    best = {name: least_cpu(passed) for name, passed in seen.items()}
    what = f"CPU per event, {TURNS} streams x {EVENTS_PER_SECOND / TURNS:.0f}/s"
    for name, passed in best.items():
        goal = CPU_SHARE * best[RELAY].cpu if name in TRANSIENT else None
        note = f"p99 {passed.p99:.1f} ms, {passed.rate:,.0f}/s arrived, core {passed.busy:.0%} busy"
        yield Line(f"{what}: {name}", passed.cpu, "µs", goal, note=note)
    yield from _absent(what, absent, "µs")


def short_answer_lines(*, quick: bool) -> Iterator[Line]:
    """Yield tokens per second, and turns per second of a core, of unpaced answers of 200 tokens."""
    passes, number = (1, 100) if quick else (5, 1000)
    seen, absent = _measured(passes, lambda _, system: short_answers(system, number // _share(system)))
    best = {name: max(passed, key=lambda one: one.rate) for name, passed in seen.items()}
    what = f"unpaced tokens, answers of {TOKENS}, {AT_ONCE} at a time"
    for name, passed in best.items():
        yield Line(f"{what}: {name}", passed.rate * TOKENS, "tokens/s", None, "more")
    yield from _absent(what, absent, "tokens/s")
    what = "turns per second of CPU"
    for name, passed in best.items():
        goal = TURNS_PER_SECOND if name in (NATIVE, NATIVE_TRANSIENT, OPENAI, OPENAI_TRANSIENT) else None
        note = f"{passed.cpu:.0f} µs each, core {passed.busy:.0%} busy"
        yield Line(f"{what}: {name}", 1e6 / passed.cpu, "turns/s", goal, "more", note)
    yield from _absent(what, absent, "turns/s")


def memory_lines(*, quick: bool) -> Iterator[Line]:
    """Yield the memory per running stream with one watcher."""
    length, rounds = (Length(500, 4, 40), 1) if quick else (Length(1_000, 4, 150), 2)
    what = f"memory per stream, {length.events:,} events"

    async def measure(upstream: Child, systems: list[System]) -> dict[str, float]:
        sizes: dict[str, float] = {}
        for system in systems:
            own = length._replace(turns=max(2, length.turns // _share(system)))
            sizes[system.name] = await per_turn(upstream, system, own, rounds)
        return sizes

    with running_gateways(ring=SMALL_RING) as (upstream, systems, absent):
        sizes = uvloop.run(measure(upstream, systems))
    for name, size in sizes.items():
        yield Line(f"{what}: {name}", size / 1024, "KiB")
    yield from _absent(what, absent, "KiB")


def run(*, quick: bool) -> Iterator[Line]:
    """Yield all lines of this benchmark."""
    with pinned(LOAD_CORE):
        yield from first_token_lines(quick=quick)
        yield from paced_lines(quick=quick)
        yield from short_answer_lines(quick=quick)
        yield from memory_lines(quick=quick)
