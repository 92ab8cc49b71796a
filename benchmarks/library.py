"""A stream of the library compared with bare aiohttp, which only forwards bytes, and with the official SDK.

The unit is µs of this process's CPU per delta. The systems alternate in one run.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import aiohttp
import uvloop

import turnstream as ts
from benchmarks.processes import SERVER_CORE, Child, pinned
from benchmarks.report import Line
from benchmarks.systems import running_upstream
from benchmarks.upstream import MARK, Load

Read = Callable[[Load], Awaitable[int]]
"""Reads one answer. Returns the number of its deltas."""

BARE, TEXT, EVENTS, SDK = "bare aiohttp", "library, text", "library, events", "anthropic SDK, text"
STREAMS = 100
RATE = 50.0
_IMPORT = """
import time
began = time.perf_counter()
import turnstream as ts
imported = time.perf_counter()
ts.LLM("sim/demo", settings=ts.Settings())
print(imported - began, time.perf_counter() - imported)
"""


class Case(NamedTuple):
    """`streams` answers of `load` at once."""

    name: str
    load: Load
    streams: int


class Readers:
    """The compared readers, over one upstream, in one event loop."""

    def __init__(self, port: int) -> None:
        self._providers = {"load": {"wire": "anthropic", "base_url": f"http://127.0.0.1:{port}"}}
        self.llms: dict[str, ts.LLM] = {}

    def llm(self, load: Load) -> ts.LLM:
        made = self.llms.get(load.model)
        if made is None:
            made = ts.LLM(f"load/{load.model}", providers=self._providers, settings=ts.Settings())
            self.llms[load.model] = made
        return made

    async def text(self, load: Load) -> int:
        count = 0
        async with self.llm(load).stream("go") as stream:
            async for piece in stream.text:
                count += piece.count(MARK.decode())
        return count

    async def events(self, load: Load) -> int:
        count = 0
        async with self.llm(load).stream("go") as stream:
            async for event in stream:
                if type(event) is ts.BlockDelta:
                    count += event.value.count(MARK.decode())
        return count


class Bare:
    """Reads bytes, and drops them without decoding."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{port}/v1/messages"
        self._session = session

    async def read(self, load: Load) -> int:
        count = 0
        async with self._session.post(self._url, json={"model": load.model}) as answer:
            async for data in answer.content.iter_any():
                count += data.count(MARK)
        return count


def _sdk(port: int) -> tuple[Any, Read]:
    from anthropic import AsyncAnthropic

    client = AsyncAnthropic(base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=0)

    async def read(load: Load) -> int:
        count = 0
        asked: Any = {"model": load.model, "max_tokens": 100, "messages": [{"role": "user", "content": "go"}]}
        async with client.messages.stream(**asked) as stream:
            async for piece in stream.text_stream:
                count += piece.count(MARK.decode())
        return count

    return client, read


async def _timed(case: Case, read: Read) -> float:
    gc.collect()
    began = time.process_time()
    counts = await asyncio.gather(*(read(case.load) for _ in range(case.streams)))
    spent = time.process_time() - began
    if set(counts) != {case.load.events}:
        raise RuntimeError(f"{case.name}: {counts} deltas came, not {case.load.events} each")
    return spent / (case.streams * case.load.events) * 1e6


async def _measure(upstream: Child, cases: list[Case], passes: int) -> dict[tuple[str, str], float]:
    readers = Readers(upstream.port)
    client, sdk = _sdk(upstream.port)
    best: dict[tuple[str, str], float] = {}
    connector = aiohttp.TCPConnector(limit=0)
    async with client, aiohttp.ClientSession(connector=connector) as session:
        contestants: dict[str, Read] = {
            BARE: Bare(upstream.port, session).read,
            TEXT: readers.text,
            EVENTS: readers.events,
            SDK: sdk,
        }
        for case in cases:
            for _ in range(passes):
                for name, read in contestants.items():
                    seen = await _timed(case, read)
                    key = (case.name, name)
                    best[key] = min(best.get(key, seen), seen)
        for llm in readers.llms.values():
            await llm.close()
    return best


def _imports() -> list[float]:
    """Return the seconds to import the package, and from there to the first LLM: the least of three."""
    runs = [
        [
            float(part)
            for part in subprocess.run(
                [sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True, timeout=60
            ).stdout.split()
        ]
        for _ in range(3)
    ]
    return [min(column) for column in zip(*runs, strict=True)]


def run(*, quick: bool) -> Iterator[Line]:
    """Yield all lines of this benchmark."""
    seconds = 1 if quick else 4
    cases = [
        Case("paced, one delta per read", Load(rate=RATE, events=int(RATE * seconds)), STREAMS),
        Case("unpaced, 64 KiB reads", Load(events=2_000 if quick else 20_000), 1),
    ]
    with running_upstream() as upstream, pinned(SERVER_CORE):
        best = uvloop.run(_measure(upstream, cases, 2 if quick else 5))
    for case in cases:
        for name in (BARE, TEXT, EVENTS, SDK):
            yield Line(f"{case.name}: {name}", best[case.name, name], "µs", note="CPU per delta")
        for name in (TEXT, EVENTS, SDK):
            ratio = best[case.name, name] / best[case.name, BARE]
            added = best[case.name, name] - best[case.name, BARE]
            yield Line(
                f"{case.name}: {name} over bare", ratio, "times", note=f"{added:.2f} µs added per delta"
            )
    package, first = _imports()
    yield Line("import turnstream", package * 1000, "ms")
    yield Line("from there to the first LLM", first * 1000, "ms", note="httptools, pydantic, the wires")
