"""Ten thousand short turns: turns per second of a core, and pauses of the garbage collector after them.

One engine in a process of its own is set up as in `turnstream serve`. Each turn has one watcher.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import uvloop

from benchmarks.report import Line

TURNS, QUICK_TURNS = 10_000, 2000
AT_ONCE = 50
PASSES = 3
LONGEST_PAUSE = 20.0
"""Goal: longest time of one collection, in milliseconds."""


class Pauses:
    """Milliseconds of the collections that `gc.callbacks` reports."""

    def __init__(self) -> None:
        self.all: list[float] = []
        self.full: list[float] = []
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
            return
        pause = (time.perf_counter() - self._began) * 1000
        self.all.append(pause)
        if info["generation"] == 2:
            self.full.append(pause)


async def measure(turns: int) -> dict[str, float]:
    """Write short turns. Return the time that they took, and the memory that they keep."""
    from turnstream.engine import Engine
    from turnstream.server.uvicorn_server import tune_garbage_collector

    pauses = Pauses()
    with tempfile.TemporaryDirectory() as folder:
        async with Engine(f"sqlite:///{folder}/turns.sqlite") as engine:
            chat = await engine.commands.chats.create("local")

            async def write_some(count: int) -> None:
                for _ in range(count):
                    live = await engine.send("hello", chat_id=chat.id, model="sim/echo:pace=0")
                    subscription = await live.subscribe(after=live.beginning)
                    while await subscription.next() is not None:
                        pass

            await write_some(AT_ONCE)
            tune_garbage_collector()
            objects = len(gc.get_objects())
            gc.callbacks.append(pauses)
            began, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(write_some(turns // AT_ONCE) for _ in range(AT_ONCE)))
            cpu, elapsed = time.process_time() - cpu, time.perf_counter() - began
            gc.collect()
            gc.callbacks.remove(pauses)
            kept = {
                metric.name: metric.samples[0].value for metric in engine.metrics.collect() if metric.samples
            }
            retained = kept["turnstream_retained_turns"]
            return {
                "turns per CPU second": turns / cpu,
                "turns per second": turns / elapsed,
                "longest collection": max(pauses.all),
                "longest full collection": max(pauses.full),
                "collections": float(len(pauses.all)),
                "collecting": sum(pauses.all),
                "objects per turn": (len(gc.get_objects()) - objects) / turns,
                "bytes per turn": kept["turnstream_retained_bytes"] / retained,
                "kept": retained,
            }


def run(*, quick: bool) -> Iterator[Line]:
    """Yield all lines of this benchmark: the best of several passes, each in a fresh process."""
    turns, passes = (QUICK_TURNS, 1) if quick else (TURNS, PASSES)
    found = [_in_a_process(turns) for _ in range(passes)]
    fastest = max(found, key=lambda one: one["turns per CPU second"])
    calmest = min(found, key=lambda one: one["longest collection"])
    note = f"{fastest['kept']:,.0f} ended turns kept"
    yield Line(
        "short turns written per second of CPU",
        fastest["turns per CPU second"],
        "1/s",
        wanted="more",
        note=note,
    )
    yield Line("short turns written per second", fastest["turns per second"], "1/s", wanted="more")
    yield Line(
        "longest collection of garbage",
        calmest["longest collection"],
        "ms",
        LONGEST_PAUSE,
        note=f"{calmest['collections']:.0f} collections, {calmest['collecting']:.0f} ms together",
    )
    yield Line("a full collection, all turns ended", calmest["longest full collection"], "ms", LONGEST_PAUSE)
    yield Line("objects that the collector tracks, per ended turn", calmest["objects per turn"], "", 1.0)
    yield Line("memory that is counted, per ended turn", calmest["bytes per turn"] / 1024, "KiB")


def _in_a_process(turns: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.ended_turns", str(turns)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(int(sys.argv[1])))))
