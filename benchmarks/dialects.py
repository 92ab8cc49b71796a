"""Client protocols compared with the native one, on one server: CPU per event, and the first token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import uvloop

from benchmarks.end_to_end import EVENTS_PER_SECOND, IDLE_SECONDS, TURNS, least_cpu
from benchmarks.load import request
from benchmarks.passes import Passed, first_tokens, paced, percentile
from benchmarks.processes import LOAD_CORE, Child, pinned
from benchmarks.report import Line
from benchmarks.server import PROVIDER
from benchmarks.systems import System, Turnstream, memory_directory, running_turnstream, running_upstream
from benchmarks.upstream import Load
from turnstream.core.identifiers import new_id

GOAL = 1.15
"""Largest ratio to the native protocol's CPU per event."""


def _ai_sdk_body(model: str, number: int) -> dict[str, Any]:
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "go"}]}
    return {"id": f"chat {number}", "messages": [message], "model": model}


def _ag_ui_body(model: str, number: int) -> dict[str, Any]:
    return {
        "threadId": f"thread {number}",
        "runId": new_id(),
        "state": {},
        "messages": [{"id": "m", "role": "user", "content": "go"}],
        "tools": [],
        "context": [],
        "forwardedProps": {"model": model},
    }


DIALECTS: dict[str, tuple[str, Callable[[str, int], dict[str, Any]]]] = {
    "AI SDK": ("/api/ai-sdk/chat", _ai_sdk_body),
    "AG-UI": ("/api/ag-ui", _ag_ui_body),
}


class DialectClient(System):
    """A turnstream server, used in another protocol than the native one."""

    def __init__(self, child: Child, name: str) -> None:
        super().__init__(name, child)
        self._path, self._body = DIALECTS[name]

    def ask(self, load: Load, number: int) -> bytes:
        body = msgspec.json.encode(self._body(f"{PROVIDER}/{load.model}", number))
        return request("POST", self._path, self.port, body)


def run(*, quick: bool) -> Iterator[Line]:
    """Yield all lines of this benchmark."""
    passes, seconds = (2, 1.0) if quick else (6, 2.0)
    rounds, number = (2, 50) if quick else (5, 100)
    load = Load(rate=EVENTS_PER_SECOND / TURNS)
    with (
        pinned(LOAD_CORE),
        running_upstream() as upstream,
        running_turnstream(upstream, directory=memory_directory()) as native,
    ):
        systems: list[System] = [native, *(DialectClient(native.child, name) for name in DIALECTS)]

        async def measure() -> tuple[dict[str, list[Passed]], dict[str, list[float]]]:
            seen: dict[str, list[Passed]] = {system.name: [] for system in systems}
            first: dict[str, list[float]] = {system.name: [] for system in systems}
            for _ in range(passes):
                for system in systems:
                    seen[system.name].append(await paced(upstream, system, load, TURNS, seconds))
            for _ in range(rounds):
                for system in systems:
                    first[system.name].extend(await first_tokens(system, number, IDLE_SECONDS))
            return seen, first

        seen, first = uvloop.run(measure())
    yield from _lines(native, {name: least_cpu(passed) for name, passed in seen.items()}, first)


def _lines(native: Turnstream, best: dict[str, Passed], first: dict[str, list[float]]) -> Iterator[Line]:
    base, base_first = best[native.name], percentile(first[native.name], 0.5)
    for name, passed in best.items():
        ratio, goal = passed.cpu / base.cpu, None if name == native.name else GOAL
        note = f"{passed.cpu:.1f} µs, p50 {passed.p50:.2f} ms"
        yield Line(f"CPU per event beside native: {name}", ratio, "x", goal, note=note)
        value = percentile(first[name], 0.5)
        note = f"{value:.0f} µs, native {base_first:.0f} µs"
        yield Line(f"first token beside native, p50: {name}", value / base_first, "x", None, note=note)
