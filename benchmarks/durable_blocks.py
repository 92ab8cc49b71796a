"""Durable blocks: concurrent writers through the store, compared with bare sqlite3 in the same run.

    python -m benchmarks.durable_blocks [--seconds 4] [--directory DIR]

Every block is committed with synchronous=FULL before its writer continues. "store" is the work of an
executor: await `write(SaveBlock)`, with fencing and journal. The baselines put the same rows into the same
tables through the bare driver, in one thread, without other work.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from sqlalchemy import Connection, insert

from benchmarks.report import Line
from turnstream.core.blocks import Block
from turnstream.core.cursor import first_generation
from turnstream.core.identifiers import new_id
from turnstream.store.base import BlockRecord, ChatRecord, Operation, TurnRecord
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.content import SaveBlock
from turnstream.store.rows import block_row, turn_rows
from turnstream.store.schema import blocks, turns
from turnstream.store.sql import SqlStore

OWNER = "benchmark"
TEXT = "The quick brown fox jumps over the lazy dog. " * 4
BLOCKS_PER_TURN = 10
TURNS_PER_WRITE = 2_000
GROUP = 256
PACED = "store, 32 writers at 2,000 blocks/s in all"
FLAT_OUT = "store, 512 writers, flat out"
GOAL_RATE = 60_000.0
GOAL_MILLISECONDS = 1.0


@dataclass
class Measured:
    """Results of one pass: blocks written, seconds, CPU seconds of the process, latencies in seconds."""

    name: str
    blocks: int
    seconds: float
    cpu: float
    latencies: list[float]

    def milliseconds(self, share: float) -> float:
        """Return a percentile of the latencies."""
        ordered = sorted(self.latencies)
        return ordered[int(len(ordered) * share)] * 1000

    def line(self) -> str:
        p50, p99 = self.milliseconds(0.5), self.milliseconds(0.99)
        return (
            f"{self.name:<52} {self.blocks / self.seconds:>9,.0f} {p50:>8.2f} {p99:>8.2f} "
            f"{self.cpu / self.blocks * 1e6:>8.1f}"
        )


def stored_block(turn_id: str, sequence: int) -> BlockRecord:
    block = Block(sequence, "text", TEXT, {"citations": []})
    return BlockRecord(turn_id, turn_id, block, sequence, sequence + 1, 0)  # its own id is not looked at


class InsertTurns(Operation[None], frozen=True, kw_only=True):
    """Inserts many turns in one write, before the measurement."""

    turns: list[TurnRecord]

    def apply(self, connection: Connection) -> None:
        connection.execute(insert(turns), [turn_rows.values(turn) for turn in self.turns])


async def start_turns(store: SqlStore, number: int) -> list[TurnRecord]:
    """Return running assistant turns of one chat, to write to."""
    chat = await store.write(CreateChat(chat=ChatRecord(new_id(), OWNER, None, {}, 0, 0)))
    running: list[TurnRecord] = []
    for _ in range(number):
        turn_id = new_id()
        generation = first_generation(turn_id)
        running.append(
            TurnRecord(
                id=turn_id,
                chat_id=chat.id,
                owner=OWNER,
                prev_turn_id=None,
                role="assistant",
                status="streaming",
                model="sim/demo",
                created_at=0,
                generation=generation,
            )
        )
    for start in range(0, number, TURNS_PER_WRITE):
        await store.write(InsertTurns(turns=running[start : start + TURNS_PER_WRITE]))
    return running


async def through_the_store(
    store: SqlStore, name: str, writers: int, rate: float | None, seconds: float
) -> Measured:
    """Let `writers` tasks write one block after another: unpaced, or at `rate` blocks/s in all."""
    running = iter(await start_turns(store, int((rate or 200_000) * seconds / BLOCKS_PER_TURN) + 2 * writers))
    latencies: list[float] = []
    ready = asyncio.Event()
    ends = 0.0

    async def write_turns(offset: float) -> None:
        await ready.wait()
        await asyncio.sleep(offset)
        for turn in running:
            for sequence in range(BLOCKS_PER_TURN):
                operation = SaveBlock(
                    turn_id=turn.id, generation=turn.generation, row=stored_block(turn.id, sequence)
                )
                began = time.perf_counter()
                await store.write(operation)
                now = time.perf_counter()
                latencies.append(now - began)
                if now > ends:
                    return
                if rate is not None:
                    await asyncio.sleep(max(0.0, began + writers / rate - now))

    pause = 0.0 if rate is None else writers / rate
    tasks = [asyncio.create_task(write_turns(pause * number / writers)) for number in range(writers)]
    await asyncio.sleep(0)
    gc.collect()
    began, cpu = time.perf_counter(), time.process_time()
    ends = began + seconds
    ready.set()
    await asyncio.gather(*tasks)
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Measured(name, len(latencies), elapsed, cpu, latencies)


def bare_driver(path: Path, running: list[TurnRecord], group: int, seconds: float) -> Measured:
    """Repeat `executemany` of `group` rows in a transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    insert = f"INSERT INTO {blocks.name} VALUES ({', '.join('?' * len(blocks.columns))})"
    rows = every_block(running)
    latencies: list[float] = []
    written = 0
    began, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() < began + seconds:
        some = [block_row(row) for row in islice(rows, group)]
        if not some:
            break
        start = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, some)
        connection.execute("COMMIT")
        latencies.append(time.perf_counter() - start)
        written += len(some)
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    connection.close()
    return Measured(f"bare sqlite3, executemany of {group}", written, elapsed, cpu, latencies)


def every_block(running: list[TurnRecord]) -> Iterator[BlockRecord]:
    """Yield the blocks of all turns in the order in which concurrent writers would write them."""
    for start in count(0, GROUP):
        some = running[start : start + GROUP]
        if not some:
            return
        for sequence in range(BLOCKS_PER_TURN):
            yield from (stored_block(turn.id, sequence) for turn in some)


async def with_store(path: Path, measure: Callable[[SqlStore], Awaitable[Measured]]) -> Measured:
    store = SqlStore(f"sqlite:///{path}")
    await store.open()
    try:
        return await measure(store)
    finally:
        await store.close()


async def make_turns(path: Path, number: int) -> list[TurnRecord]:
    store = SqlStore(f"sqlite:///{path}")
    await store.open()
    try:
        return await start_turns(store, number)
    finally:
        await store.close()


def run_all(directory: Path, seconds: float) -> Iterator[Measured]:
    with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        passes = [
            (PACED, 32, 2_000.0),
            ("store, 512 writers at 20,000 blocks/s in all", 512, 20_000.0),
            ("store, 1 writer, flat out", 1, None),
            ("store, 64 writers, flat out", 64, None),
            (FLAT_OUT, 512, None),
            ("store, 2,048 writers, flat out", 2048, None),
        ]
        for number, (name, writers, rate) in enumerate(passes):
            yield runner.run(
                with_store(
                    directory / f"store{number}.db",
                    lambda store, n=name, w=writers, r=rate: through_the_store(store, n, w, r, seconds),
                )
            )
        for group in (1, GROUP):
            path = directory / f"bare{group}.db"
            most = (5_000 if group == 1 else 200_000) * seconds
            yield bare_driver(path, runner.run(make_turns(path, int(most / BLOCKS_PER_TURN))), group, seconds)


def event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Print the software that the server runs on."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def run(*, quick: bool) -> Iterator[Line]:
    """Yield all lines of this benchmark. The databases are in the folder for temporary files."""
    with tempfile.TemporaryDirectory() as directory:
        for measured in run_all(Path(directory), 1.0 if quick else 4.0):
            p50, p99 = measured.milliseconds(0.5), measured.milliseconds(0.99)
            note = f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, {measured.cpu / measured.blocks * 1e6:.1f} µs CPU"
            goal = GOAL_RATE if measured.name == FLAT_OUT else None
            yield Line(measured.name, measured.blocks / measured.seconds, "blocks/s", goal, "more", note)
            if measured.name == PACED:
                yield Line(f"{measured.name}: p50", p50, "ms", GOAL_MILLISECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each pass")
    parser.add_argument("--directory", type=Path, help="where the databases go; a disk, not memory")
    arguments = parser.parse_args()
    print(f"{'':<52} {'blocks/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'µs CPU':>8}")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        for measured in run_all(Path(directory), arguments.seconds):
            print(measured.line(), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"latency of a bare row is its transaction's; peak memory {peak:.0f} MiB; goal 60,000 blocks/s, p50 1 ms"
    )


if __name__ == "__main__":
    main()
